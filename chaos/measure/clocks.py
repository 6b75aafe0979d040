"""Guest time on the host's time line: CLOCK_MONOTONIC of each boot of a guest, beside the host's own.

A guest's wall clock is what clock faults break, so it is never used. Its monotonic clock counts from its boot and
stands still while the machine is paused; so it is read against ours at the beginning of a scenario and at its end, and
what happened between is placed by the reading that the machine's stops leave valid.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from machine.errors import LabError
from machine.ssh import Shell

ROUNDS: Final = 5
"""Questions per reading; the quickest answer counts (as NTP's clock filter does, RFC 5905 section 10)."""

TICK: Final = 0.005
"""Half of the 10 ms that /proc/uptime resolves (proc(5))."""

JUMP: Final = 0.3
"""Seconds by which two readings of one boot may differ without the guest having stood still between."""

_ANSWER: Final = 'while read -r _; do read -r up _ </proc/uptime; echo "$up"; done'


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a guest's clock: `guest` seconds since boot were `host_ns` here, give or take `within` seconds."""

    node: str
    boot: str
    guest: float
    host_ns: int
    within: float
    ssh_seconds: float
    """Quickest round trip of a line over the open connection: the delay of ssh itself."""

    @property
    def offset(self) -> float:
        """Host seconds when the guest's clock was 0."""
        return self.host_ns / 1e9 - self.guest


def read_clock(shell: Shell, rounds: int = ROUNDS, seconds: float = 10.0) -> Reading:
    """Read a guest's monotonic clock and boot id over one ssh session. Raises LabError when it does not answer."""
    script = f"cat /proc/sys/kernel/random/boot_id; {_ANSWER}"
    argv = shell.exec_argv(["bash", "-c", script], tty=False)
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        with _ended_after(process, seconds):
            return _talk(shell.name, process, rounds)
    except (OSError, ValueError) as error:
        raise LabError(f"The clock of {shell.name} cannot be read: {error or 'no answer'}", where="ssh") from error
    finally:
        process.kill()
        process.wait()


def _talk(node: str, process: subprocess.Popen[bytes], rounds: int) -> Reading:
    asked, answers = process.stdin, process.stdout
    assert asked is not None  # noqa: S101 - both are pipes
    assert answers is not None  # noqa: S101 - the same
    boot = answers.readline().decode().strip().replace("-", "")
    best: Reading | None = None
    for _ in range(rounds):
        before = time.monotonic_ns()
        asked.write(b"?\n")
        asked.flush()
        guest = float(answers.readline() or "x")
        after = time.monotonic_ns()
        took = (after - before) / 1e9
        if best is None or took < best.ssh_seconds:
            best = Reading(node, boot, guest + TICK, (before + after) // 2, took / 2 + TICK, took)
    assert best is not None  # noqa: S101 - rounds > 0
    return best


@contextlib.contextmanager
def _ended_after(process: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
    """Kill the process after `seconds`, so that reading from it ends."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class ClockMap:
    """Places a guest's monotonic times on the host's, from readings of its clock."""

    def __init__(self, readings: Sequence[Reading], stops: Sequence[int] = ()) -> None:
        """`stops`: host times (ns) at which the guest may have begun to stand still."""
        self._readings = sorted(readings, key=lambda reading: reading.host_ns)
        self._stops = sorted(stops)

    def boots(self) -> set[str]:
        """Boots that can be placed."""
        return {reading.boot for reading in self._readings}

    def host_ns(self, boot: str, guest: float) -> int | None:
        """Host time of a guest's monotonic time (seconds); None for a boot that was never read."""
        known = [reading for reading in self._readings if reading.boot == boot]
        if not known:
            return None
        after = next((reading for reading in known if reading.guest >= guest), known[-1])
        before = next((reading for reading in reversed(known) if reading.guest <= guest), known[0])
        late, early = self._place(after, guest), self._place(before, guest)
        if after.offset - before.offset <= JUMP:
            # one run of the clock: the closer reading is the better one
            return late if after.guest - guest < guest - before.guest else early
        stood = next((stop for stop in self._stops if before.host_ns <= stop <= after.host_ns), None)
        return early if stood is not None and early <= stood else late

    @staticmethod
    def _place(reading: Reading, guest: float) -> int:
        return reading.host_ns + round((guest - reading.guest) * 1e9)
