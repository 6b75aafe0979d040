"""Faults that are made inside the guests: one ssh call each, and a timer there that undoes them.

Before a fault is made, its undo script lies in the guest and a transient systemd timer is armed (OnActiveSec=, which
counts CLOCK_MONOTONIC, so that no clock fault moves it). When nobody renews it, the guest mends itself. Timers,
scripts and units carry our fixed prefix, which is what `./lab heal` looks for. An undo script that went wrong stays
where it is, so that it can be tried again.
"""

from __future__ import annotations

import contextlib
import shlex
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Fault
from chaos.lab.lab import Lab
from chaos.lab.scripts import CALL_SECONDS, DIRECTORY, TRANSIENT, UNIT_PREFIX, each
from machine.errors import DeadlineError, InconclusiveError, LabError
from machine.process import tail
from machine.waiting import Pending, wait_until

AGAIN_SECONDS = 60
"""When a guest tries again what could not be undone, should nobody else do it before."""

MEMORY_KEPT = frozenset({"paused", "pmsuspended"})
"""States of a domain that does nothing and has its memory still (virDomainState): what was made in it comes back."""

GOES_ON_SECONDS = 15.0
"""How long healing waits for a machine that is paused: the engine heals all that is declared no more at once."""


@dataclass(frozen=True, slots=True)
class Power:
    """Which nodes of a fault can be healed inside now."""

    running: tuple[str, ...]
    paused: tuple[str, ...]
    off: tuple[str, ...]

    @classmethod
    def of(cls, lab: Lab, nodes: Iterable[str]) -> Power:
        """Of these nodes now; one that is paused is given a moment to go on."""
        names = list(nodes)
        seen: dict[str, str] = {}

        def gone_on() -> None:
            seen.update(lab.domain_states())
            if halted := [node for node in names if seen[node] in MEMORY_KEPT]:
                raise Pending(f"{', '.join(halted)} paused")

        with contextlib.suppress(DeadlineError):  # told by `require`
            wait_until(gone_on, "machines that go on", seconds=GOES_ON_SECONDS)
        running = tuple(node for node in names if seen[node] == "running")
        paused = tuple(node for node in names if seen[node] in MEMORY_KEPT)
        return cls(running, paused, tuple(node for node in names if node not in {*running, *paused}))

    def require(self, what: str, *, power: bool) -> None:
        """Raise LabError when the fault `what` is still there on a paused node; with `power`, on one that is off."""
        if self.paused:
            raise LabError(
                f"{what} cannot be healed on {', '.join(self.paused)}, which is paused",
                next="Heal that first, or ./lab heal, which mends all.",
            )
        if self.off and power:
            raise LabError(
                f"{what} cannot be healed on {', '.join(self.off)}, which has no power",
                next="./lab heal switches it on first.",
            )


def timer(fault_id: str) -> str:
    """Unit name, without its ending, of the timer and service that undo a fault."""
    return f"{UNIT_PREFIX}undo-{fault_id}"


def armed(fault_id: str, make: str, undo: str, lease: int) -> str:
    """Script that lays down the undo script, arms the timer for `lease` seconds, and only then makes the fault."""
    directory, unit = f"{DIRECTORY}/{fault_id}", timer(fault_id)
    lines = (
        "set -e",
        f"mkdir -p {directory}",
        f"printf %s {shlex.quote(_whole(undo, directory))} >{directory}/undo",
        # there is one when the fault is made again; systemctl takes 0.2 s, so it is not started to find out
        f"[ ! -e {TRANSIENT}/{unit}.timer ] || systemctl stop {unit}.timer 2>/dev/null || :",
        _arm(fault_id, lease),
        make,
    )
    return "\n".join(lines)


def disarmed(fault_id: str, undo: str) -> str:
    """Script that undoes a fault and removes timer and script; safe when there are none.

    It ends with the status of `undo`; when that is not 0 the script stays, and the timer is armed anew.
    """
    directory, unit = f"{DIRECTORY}/{fault_id}", timer(fault_id)
    again = f"[ ! -e {directory}/undo ] || {_arm(fault_id, AGAIN_SECONDS)} || :"
    return f"systemctl stop {unit}.timer 2>/dev/null || :\n{_whole(undo, directory, again)}"


def renewed(fault_id: str) -> str:
    """Script that starts the timer anew; fails when it is gone."""
    return f"systemctl is-active --quiet {timer(fault_id)}.timer && systemctl restart {timer(fault_id)}.timer"


def _arm(fault_id: str, seconds: int) -> str:
    exact = "--timer-property=AccuracySec=500ms"
    command = f"/bin/sh {DIRECTORY}/{fault_id}/undo"
    return f"systemd-run --quiet --collect --unit={timer(fault_id)} --on-active={seconds}s {exact} {command}"


def _whole(undo: str, directory: str, otherwise: str = ":") -> str:
    """The undo, then its directory away or, where it went wrong, `otherwise`; it ends with the status of the undo."""
    return (
        f"( {undo}\n)\nundone=$?\nif [ $undone = 0 ]; then rm -rf {directory}; else {otherwise}; fi\n(exit $undone)\n"
    )


def undo_on(
    lab: Lab, fault_id: str, nodes: Iterable[str], undo: Callable[[str], str], seconds: float = CALL_SECONDS
) -> None:
    """Undo a fault and take its timers away, on several nodes at once.

    Raises InconclusiveError, after all have ended, that names those where the undo went wrong: it stays there, to be
    tried again.
    """
    done = each(lab, nodes, lambda node: disarmed(fault_id, undo(node)), seconds=seconds, check=False)
    failed = {node: said for node, said in done.items() if not said.ok}
    if failed:
        words = {node: "; ".join(tail(said.stderr, 3).splitlines()) or "no word" for node, said in failed.items()}
        raise InconclusiveError(
            f"The undo of {fault_id} went wrong on {', '.join(failed)}",
            where=", ".join(f"{node} with status {said.status}: {words[node]}" for node, said in failed.items()),
            next=f"The guest tries again after {AGAIN_SECONDS} s, and ./lab heal at once.",
        )


@dataclass(frozen=True)
class GuestFault(Fault):
    """A fault that shell scripts make and undo on each of its nodes. Both scripts must be safe to repeat."""

    survives_reboot: ClassVar[bool] = False
    """Whether what it makes is still there after the node's power was cut; then only a running node can be healed."""
    call_seconds: ClassVar[float] = CALL_SECONDS
    """Limit of one call that makes or undoes it; more where the script waits for etcd."""
    least_lease: ClassVar[int] = 0
    """Seconds that its timer runs at least: what making it takes, since nobody renews before it is made."""

    @abstractmethod
    def make(self, lab: Lab, node: str) -> str:
        """Script that makes it on `node`."""

    @abstractmethod
    def undo(self, lab: Lab, node: str) -> str:
        """Script that undoes it on `node`; succeeds when it was never made, and fails when it may still be there."""

    def place(self, lab: Lab) -> str:  # noqa: ARG002
        """Inside."""
        return "guest"

    def apply(self, lab: Lab) -> None:
        """On all nodes at once."""
        self.apply_on(lab, self.nodes)

    def lift(self, lab: Lab) -> None:
        """On all nodes that run; where the power is off, what does not survive a reboot is gone already.

        Raises LabError, with the others healed, where it is still there: on a paused node, or on one that is off.
        """
        power = Power.of(lab, self.nodes)
        self.lift_on(lab, power.running)
        power.require(self.name, power=self.survives_reboot)

    def apply_on(self, lab: Lab, nodes: Iterable[str]) -> None:
        """Arm the timers and make it, on some of the nodes."""

        def script(node: str) -> str:
            lease = max(self.lease, self.least_lease)
            return armed(self.id, self.make(lab, node), self.undo(lab, node), lease)

        each(lab, nodes, script, seconds=self.call_seconds)

    def lift_on(self, lab: Lab, nodes: Iterable[str]) -> None:
        """Undo it and take the timers away, on some of the nodes; raises InconclusiveError where that went wrong."""
        undo_on(lab, self.id, nodes, lambda node: self.undo(lab, node), self.call_seconds)

    def renew(self, lab: Lab) -> None:
        """Start the timers anew."""
        each(lab, self.nodes, renewed(self.id))
