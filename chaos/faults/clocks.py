"""Wall clocks of guests against this host's, and setting them right after a pause.

A machine whose processors are halted does not see time pass: afterwards its clocks, wall clock and monotonic, are late
by as long as it was halted (qemu stops its virtual clock with the processors). Nothing in the guest puts that right.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from machine.errors import LabError
from machine.waiting import Pending, wait_until

if TYPE_CHECKING:
    from chaos.lab import Lab

TOLERANCE = 0.5
"""Seconds: as exact as a question over ssh to an emulated guest is, and below what matters to etcd."""

REACHED_SECONDS = 30.0
"""How long a login may take on a machine that has just gone on."""


def offsets(lab: Lab, nodes: Iterable[str]) -> dict[str, float]:
    """Seconds by which each node's wall clock is ahead of this host's; waits for nodes that do not answer yet."""
    names = list(nodes)
    if not names:
        return {}
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(lambda node: _offset(lab, node), names), strict=True))


def _offset(lab: Lab, node: str) -> float:
    def ask() -> float:
        try:
            lab.shell(node).open()
            asked = time.time()
            said = lab.shell(node).run("exec date +%s.%N", seconds=10).stdout
        except LabError as error:
            raise Pending(str(error)) from error
        return float(said) - (asked + time.time()) / 2

    return wait_until(ask, f"the clock of {node}", seconds=REACHED_SECONDS)


def shift_script(seconds: float) -> str:
    """Script that moves the wall clock by `seconds`, without losing the time that starting programs takes."""
    micro = round(seconds * 1e6)
    move = f"n=${{EPOCHREALTIME/./}}; n=$((n + {micro})); exec date -u -s @${{n%??????}}.${{n: -6}} >/dev/null"
    return f"LC_ALL=C exec bash -c '{move}'"


def restore(lab: Lab, wanted: dict[str, float]) -> dict[str, float]:
    """Put each node's clock where it was against this host's; gives the seconds each was moved (0: it was right)."""
    moved = {}
    for node, now in offsets(lab, wanted).items():
        shift = wanted[node] - now
        moved[node] = shift if abs(shift) > TOLERANCE else 0.0
        if moved[node]:
            lab.shell(node).run(shift_script(shift), seconds=20)
    return moved
