"""Clock faults: CLOCK_REALTIME of a guest jumps, runs fast or slow, or flips to and fro.

Nothing keeps time in the guests. A guest notes its time and its uptime before, so that its timer can put the clock
right without this host; healing then sets it by this host's clock. Proof: the offset from this host's clock, asked
over a shell kept open, so it is known to half the time of the question.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Fault, Proof
from chaos.faults.guest import GuestFault
from chaos.faults.parameters import Parameter
from chaos.lab.guest_clock import (
    NOMINAL_TICK,
    NORMAL_RATE,
    RIGHT_SECONDS,
    is_right,
    note_script,
    read_rate,
    readings,
    restore_script,
    set_right,
    shift_script,
    told,
)
from chaos.lab.guest_shell import Reading
from chaos.lab.lab import Lab
from chaos.lab.scripts import DIRECTORY, TRANSIENT, UNIT_PREFIX, each, tried
from machine.errors import DeadlineError, LabError, UsageError
from machine.waiting import Pending, wait_until

ABOUT_SECONDS = 0.25
"""How far off a clock may be before a fault that makes it wrong by a second or more."""

_JUMP = Parameter("seconds", "number", 60.0, "seconds, forward (or back, when negative)", low=-1.5e8, high=1.5e8)


@dataclass(frozen=True)
class _Clock(GuestFault):
    """Base of the clock faults."""

    family: ClassVar[str] = "clock"
    occupies: ClassVar[str] = "clock"

    @property
    def directory(self) -> str:
        """In the guest."""
        return f"{DIRECTORY}/{self.id}"

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """What the guest can do without this host."""
        return restore_script(self.directory, 0.0)

    def lift(self, lab: Lab) -> None:
        """The guest's own undo, then by this host's clock, also where that went wrong."""
        try:
            super().lift(lab)
        finally:
            running = lab.running()
            for node in self.nodes:
                if node in running:
                    set_right(lab, node)

    def baseline(self, lab: Lab) -> tuple[Proof, ...]:
        """Clocks are about right before: set, where they are not, as nothing else does that in the guests."""
        found = each(lab, self.nodes, f"ls {self.directory}/base 2>/dev/null", check=False)
        proof = []
        for node, reading in readings(lab, [node for node, done in found.items() if not done.ok]).items():
            seen = reading
            if seen is None or abs(seen.offset) > ABOUT_SECONDS:
                with contextlib.suppress(LabError):
                    seen = set_right(lab, node)
            right = seen is not None and abs(seen.offset) <= ABOUT_SECONDS
            proof.append(self._proof(node, seen, f"0 within {ABOUT_SECONDS:g} s", right, "before"))
        return tuple(proof)

    def _look_right(self, lab: Lab) -> list[Proof]:
        return [
            self._proof(node, reading, f"0 within {RIGHT_SECONDS:g} s", bool(reading and is_right(reading)), "after")
            for node, reading in readings(lab, self.nodes).items()
        ]

    def _proof(self, node: str, reading: Reading | None, expected: str, holds: bool, when: str) -> Proof:
        seen = told(reading) if reading else "could not be asked"
        return Proof(f"clock of {node}", f"this host, {when}", expected, seen, holds)

    def proof_seconds(self, in_force: bool) -> float:  # noqa: ARG002
        """A few questions; the rest is for a slow machine."""
        return 30.0


@dataclass(frozen=True)
class ClockJump(_Clock):
    """The clock is set forward or back, once. CLOCK_MONOTONIC does not notice."""

    name: ClassVar[str] = "clock-jump"
    summary: ClassVar[str] = "set the clock of nodes forward or back"
    parameters: ClassVar[tuple[Parameter, ...]] = (_JUMP,)

    @property
    def seconds(self) -> float:
        """How far."""
        return float(self.value("seconds"))

    def check(self, lab: Lab) -> None:  # noqa: ARG002
        """Refuse a jump too small to be told from a slow answer."""
        refuse_small(self, self.seconds, 1.0, "seconds")

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Note the time, then jump; done once."""
        shift = shift_script(str(round(self.seconds * 1e9)))
        return f"[ -e {self.directory}/base ] || {{ {note_script(self.directory)}\n{shift}\n}}"

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """The offset is about the jump's, and not what it may have been before."""
        if not in_force:
            return self._look_right(lab)
        return [
            self._proof(node, reading, f"{self.seconds:+g} s", bool(reading and self.shows(reading)), "during")
            for node, reading in readings(lab, self.nodes).items()
        ]

    def shows(self, reading: Reading) -> bool:
        """Whether a clock has jumped: to a second, as one under load goes astray by itself; nearer when it is short."""
        near = abs(reading.offset - self.seconds) <= min(1.0, abs(self.seconds) / 2) + reading.uncertainty
        return near and abs(reading.offset) > ABOUT_SECONDS + reading.uncertainty


@dataclass(frozen=True)
class ClockDrift(_Clock):
    """The clock runs fast or slow. The kernel's timers run with it: CLOCK_MONOTONIC is slewed too (adjtimex(2))."""

    name: ClassVar[str] = "clock-drift"
    summary: ClassVar[str] = "let the clock of nodes run fast or slow, timers too"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("ppm", "number", 50000.0, "parts per million fast (slow, when negative)", low=-99000, high=99000),
    )

    @property
    def rate(self) -> float:
        """Parts per million."""
        return float(self.value("ppm"))

    def check(self, lab: Lab) -> None:  # noqa: ARG002
        """Refuse a drift too small to show within seconds."""
        refuse_small(self, self.rate, 1000, "ppm")

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Note the time, then another tick and frequency."""
        tick, rest = divmod(round(self.rate), 100)
        # busybox' -f counts 1/65536 ppm
        return f"{note_script(self.directory)}\nbusybox adjtimex -t {NOMINAL_TICK + tick} -f {rest * 65536} >/dev/null"

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """The time first, as its uptime ran fast too, then the nominal rate."""
        return tried(restore_script(self.directory, self.rate), NORMAL_RATE)

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """Two readings, so far apart that their uncertainty cannot make half the drift."""
        rates = each(lab, self.nodes, "busybox adjtimex", check=False)
        proof = [] if in_force else self._look_right(lab)
        for node, done in rates.items():
            tick, ppm = read_rate(done.stdout)
            wanted = (ppm != 0) if in_force else (ppm == 0)
            proof.append(Proof(f"tick of {node}", node, "changed" if in_force else "nominal", f"{tick} us", wanted))
        return proof + ([self._drift(lab, node) for node in self.nodes] if in_force else [])

    def _drift(self, lab: Lab, node: str) -> Proof:
        expected = f"{self.rate:+.0f} ppm, a quarter more or less"
        what, where = f"drift of {node}", "this host, during"
        session = lab.inside.session
        try:
            first = session(lab.shell(node)).clock()

            def later() -> tuple[float, float]:
                second = session(lab.shell(node)).clock(2)
                gone = (second.at_ns - first.at_ns) / 1e9
                error = (first.uncertainty + second.uncertainty) / gone * 1e6
                if error > abs(self.rate) / 8:
                    raise Pending(f"known to {error:.0f} ppm after {gone:.1f} s")
                return (second.offset - first.offset) / gone * 1e6, error

            measured, error = wait_until(later, what, seconds=20, every=0.2)
        except (LabError, DeadlineError) as error_seen:
            return Proof(what, where, expected, str(error_seen), holds=False)
        holds = abs(measured - self.rate) <= abs(self.rate) / 4
        return Proof(what, where, expected, f"{measured:+.0f} ppm, known to {error:.0f}", holds)


@dataclass(frozen=True)
class ClockStrobe(_Clock):
    """The clock flips between the right time and another, again and again."""

    name: ClassVar[str] = "clock-strobe"
    summary: ClassVar[str] = "flip the clock of nodes to and fro between two times"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("seconds", "number", 10.0, "seconds between the two times", low=-1.5e8, high=1.5e8),
        Parameter("period_ms", "whole", 500, "milliseconds from one flip to the next", low=100, high=60000),
    )

    @property
    def seconds(self) -> float:
        """How far the other time is away."""
        return float(self.value("seconds"))

    @property
    def unit(self) -> str:
        """The transient unit that flips."""
        return f"{UNIT_PREFIX}strobe-{self.id}"

    def check(self, lab: Lab) -> None:  # noqa: ARG002
        """Refuse times that are too close to be told apart."""
        refuse_small(self, self.seconds, 1.0, "seconds")

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Note the time, then start what flips."""
        there, back = (shift_script(str(round(sign * self.seconds * 1e9))) for sign in (1, -1))
        pause = f"sleep {self.value('period_ms') / 1000:g}"
        lines = f"while :; do\n{there}\n{pause}\n{back}\n{pause}\ndone"
        return (
            f"systemctl is-active --quiet {self.unit} || {{ {note_script(self.directory)}\n"
            f"cat >{self.directory}/strobe <<'END'\n{lines}\nEND\n"
            f"systemd-run --quiet --collect --unit={self.unit} /bin/sh {self.directory}/strobe\n}}"
        )

    def undo(self, lab: Lab, node: str) -> str:
        """Stop what flips, then put the clock right."""
        there = f"[ ! -e {TRANSIENT}/{self.unit}.service ]"
        return tried(f"{there} || systemctl stop {self.unit} || {there}", super().undo(lab, node))

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """Both times are seen on every node."""
        if not in_force:
            return self._look_right(lab)
        return [self._flips(lab, node) for node in self.nodes]

    def _flips(self, lab: Lab, node: str) -> Proof:
        seen: list[float] = []
        half = abs(self.seconds) / 2

        def both() -> None:
            seen.append(lab.inside.session(lab.shell(node)).clock(1).offset)
            near = [abs(offset) < half for offset in seen]
            far = [abs(offset - self.seconds) < half for offset in seen]
            if not (any(near) and any(far)):
                raise Pending(f"offsets {min(seen):+.2f} to {max(seen):+.2f} s")

        holds = True
        try:
            seconds = 5 + 4 * self.value("period_ms") / 1000
            wait_until(both, f"both times of {node}", seconds=seconds, every=self.value("period_ms") / 4000)
        except LabError:
            holds = False
        told_seen = f"{min(seen):+.2f} to {max(seen):+.2f} s in {len(seen)} readings" if seen else "could not be asked"
        return Proof(f"clock of {node}", "this host, during", f"0 and {self.seconds:+g} s", told_seen, holds)


def refuse_small(fault: Fault, value: float, least: float, name: str) -> None:
    """Raise UsageError when a change is too small to be proved."""
    if abs(value) < least:
        raise UsageError(
            f"{name} of {fault.name} is {value:g}, too little to be proved",
            where=f"--set {name}={value:g}",
            next=f"Give {least:g} or more, or -{least:g} or less.",
        )
