"""A guest's clock: read, moved in steps, put right by the guest alone or by this host's clock, and its rate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from chaos.lab.guest_shell import Reading
from chaos.lab.lab import Lab
from chaos.lab.scripts import CALL_SECONDS
from machine.errors import LabError
from machine.waiting import Pending, wait_until

RIGHT_SECONDS = 0.05
"""How far from this host's a clock may be that is right, beyond what the question leaves open."""

TOLERANCE = 0.5
"""Seconds within which a clock is left alone that is not a clock fault's matter: below what matters to etcd."""

REACHED_SECONDS = 30.0
"""How long a guest may take to tell its time when its machine has just gone on."""

NOMINAL_TICK = 10000
"""Microseconds that the kernel adds per tick of USER_HZ = 100 (adjtimex(2)); it takes 9000 to 11000."""


def shift_script(by: str) -> str:
    """Script that moves the clock by a shell word of nanoseconds, in one step from what it says at that moment."""
    return (
        f"by={by}; sign=+; [ $by -ge 0 ] || {{ sign=-; by=$((-by)); }}\n"
        'date -s "now $sign$((by / 1000000000)).$(printf %09d $((by % 1000000000))) seconds" >/dev/null'
    )


def note_script(directory: str) -> str:
    """Script that notes time (ns) and uptime (s) once, before the clock is touched."""
    return (
        f"[ -e {directory}/base ] || {{ read -r up _ </proc/uptime; echo $(date +%s%N) $up >{directory}/new; "
        f"mv {directory}/new {directory}/base; }}"
    )


def restore_script(directory: str, ppm: float) -> str:
    """Script that puts the clock where it would be: the noted time and the time since, by a clock that ran fast."""
    rate = round(1_000_000 + ppm)
    return (
        f"if [ -e {directory}/base ]; then read -r real was <{directory}/base; read -r up _ </proc/uptime\n"
        # hundredths of a second, as /proc/uptime counts
        "gone=$((${up%.*} * 100 + 1${up#*.} - ${was%.*} * 100 - 1${was#*.}))\n"
        f"{shift_script(f'$((real + gone * 10000000 / {rate} * 1000000 - $(date +%s%N)))')}\nfi"
    )


def set_right(lab: Lab, node: str, seconds: float = 60.0) -> Reading:
    """Set a guest's clock by this host's; raises DeadlineError when it does not get right.

    A step comes late by what the guest takes to make it, which is learnt from the steps before.
    """
    late: list[float] = []
    wanted: list[float] = []

    def attempt() -> Reading:
        try:
            reading = lab.inside.session(lab.shell(node)).clock()
            if wanted:
                late.append(wanted.pop() - reading.offset)
            if is_right(reading):
                return reading
            wanted.append(sum(late) / len(late) if late else 0.0)
            by = wanted[0] - reading.offset
            lab.inside.run(lab.shell(node), shift_script(str(round(by * 1e9))), CALL_SECONDS)
        except LabError as error:
            lab.inside.forget(node)
            raise Pending(str(error)) from error
        raise Pending(told(reading))

    return wait_until(attempt, f"a right clock on {node}", seconds=seconds, every=0.0)


def move(lab: Lab, node: str, seconds: float) -> None:
    """Move a guest's clock by so much, once: never repeated, as what is lost on the way may have been done."""
    lab.shell(node).run(shift_script(str(round(seconds * 1e9))), seconds=CALL_SECONDS)


def offsets(lab: Lab, nodes: Iterable[str]) -> dict[str, float]:
    """Seconds by which each node's clock is ahead of this host's; waits for nodes that do not answer yet.

    Raises DeadlineError.
    """
    names = list(nodes)

    def one(node: str) -> float:
        def ask() -> float:
            try:
                return lab.inside.session(lab.shell(node)).clock().offset
            except LabError as error:
                lab.inside.forget(node)
                raise Pending(str(error)) from error

        return wait_until(ask, f"the clock of {node}", seconds=REACHED_SECONDS)

    with ThreadPoolExecutor(max(1, len(names))) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def restore(lab: Lab, wanted: Mapping[str, float]) -> None:
    """Move each node's clock to where it stood against this host's, unless it is about there.

    Once, and no closer: another fault may be at work on it. A machine whose processors were halted does not see time
    pass (qemu stops its virtual clock with them), and nothing in the guest puts that right.
    """
    for node, now in offsets(lab, wanted).items():
        if abs(wanted[node] - now) > TOLERANCE:
            move(lab, node, wanted[node] - now)


def is_right(reading: Reading) -> bool:
    """Whether a clock is this host's, as far as one can tell."""
    return abs(reading.offset) <= reading.uncertainty + RIGHT_SECONDS


def told(reading: Reading) -> str:
    """A reading in words."""
    return f"{reading.offset:+.3f} s from this host's, known to {reading.uncertainty * 1000:.1f} ms"


def readings(lab: Lab, nodes: Sequence[str]) -> dict[str, Reading | None]:
    """Clocks of guests; None where one could not be asked."""
    found = lab.inside.clocks(lab.shell(node) for node in nodes)
    return {node: None if isinstance(reading, LabError) else reading for node, reading in found.items()}


NORMAL_RATE = f"busybox adjtimex -t {NOMINAL_TICK} -f 0 >/dev/null"
"""Script that lets a clock run as it was made to."""


def read_rate(text: str) -> tuple[int, float]:
    """Tick (us) and whole deviation (ppm) out of what busybox' adjtimex says."""
    tick = re.search(r"tick:\s+(\d+)", text)
    frequency = re.search(r"freq\.adjust:\s+(-?\d+)", text)
    ticks = int(tick[1]) if tick else 0
    return ticks, (ticks - NOMINAL_TICK) * 100 + (int(frequency[1]) / 65536 if frequency else 0.0)
