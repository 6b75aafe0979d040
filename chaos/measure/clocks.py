"""Guest time on the host's time line: CLOCK_MONOTONIC of each boot of a guest, beside the host's own.

A guest's wall clock is what clock faults break, so it is never used. Its monotonic clock counts from its boot and
stands still while the machine is paused; so it is read against ours at the beginning of a scenario and at its end, and
what happened between is placed by the reading that the machine's stops leave valid.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chaos.lab.guest_shell import Session

ROUNDS: Final = 5
"""Questions per reading; the quickest answer counts (as NTP's clock filter does, RFC 5905 section 10)."""

TICK: Final = 0.005
"""Half of the 10 ms that /proc/uptime resolves (proc(5))."""

JUMP: Final = 0.3
"""Seconds by which two readings of one boot may differ without the guest having stood still between."""


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
    wall: float = 0.0
    """The guest's wall clock then, for what goes by that: its journal."""

    @property
    def offset(self) -> float:
        """Host seconds when the guest's clock was 0."""
        return self.host_ns / 1e9 - self.guest


def read_clock(session: Session) -> Reading:
    """Read a guest's clocks and boot id in a shell that is open there. Raises LabError when it does not answer."""
    boot, seen = session.boot(), session.clock(ROUNDS)
    took = 2 * seen.uncertainty
    wall = seen.at_ns / 1e9 - time.monotonic() + time.time() + seen.offset
    return Reading(session.name, boot, seen.uptime + TICK, seen.at_ns, seen.uncertainty + TICK, took, wall)


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
