"""What every fault is: plain data in, plain data out, and a proof.

A fault is declared by words (`leader`, `etcd2`, `etcd1,etcd3`), resolved to node names once, and then injected,
observed and healed, each as often as one likes. The undo record is on disk before the first change.
All times are nanoseconds of CLOCK_MONOTONIC, which every process of this host shares.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, Self

from chaos.evidence.sources import unprovable
from chaos.faults import parameters, records
from chaos.faults.parameters import Param, Parameter
from chaos.faults.targets import Groups, named, resolve
from chaos.lab.lab import Lab
from machine.errors import DeadlineError, InconclusiveError, UsageError
from machine.waiting import Pending, wait_until

RENEWED_LEASE = 60
"""Seconds a fault outlives an owner that renews it: three missed renewals of chaos.harness.lab_run.RENEW_EVERY."""

HAND_LEASE = 600
"""Seconds that a fault made by hand (`./lab fault inject`) stays when nobody heals it."""

LONGEST_LEASE = 7 * 24 * 3600
"""Seconds; more than anybody waits for, and less than what nftables and systemd's timers can count."""

Action = Literal["inject", "heal", "observe"]


@dataclass(frozen=True, slots=True)
class Proof:
    """One look at the world: what was looked at, from where, what was expected and seen."""

    what: str
    where: str
    expected: str
    observed: str
    holds: bool
    at_ns: int = field(default_factory=time.monotonic_ns)

    def __str__(self) -> str:
        return f"{'ok ' if self.holds else 'NOT'} {self.what} (from {self.where}): {self.observed}"


@dataclass(frozen=True, slots=True)
class Result:
    """What an action did: to whom, where, when, and the proof."""

    id: str
    name: str
    action: Action
    groups: Groups
    place: str
    started_ns: int
    applied_ns: int
    """When the change itself was done; the proof came after."""
    ended_ns: int
    proof: tuple[Proof, ...]

    @property
    def proved(self) -> bool:
        """Whether there is a proof and all of it holds."""
        return bool(self.proof) and all(proof.holds for proof in self.proof)

    @property
    def missing(self) -> str:
        """The proofs that do not hold, as text; empty when proved."""
        if not self.proof:
            return "nothing was looked at"
        return "; ".join(str(proof) for proof in self.proof if not proof.holds)

    def as_json(self) -> dict[str, object]:
        """As plain data."""
        return {**asdict(self), "proved": self.proved}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `as_json` gave, after a way through JSON."""
        fields: dict[str, Any] = {name: data[name] for name in ("id", "name", "action", "place")}
        fields |= {name: int(data[name]) for name in ("started_ns", "applied_ns", "ended_ns")}
        fields["groups"] = tuple(tuple(group) for group in data["groups"])
        fields["proof"] = tuple(Proof(**{**item, "at_ns": int(item["at_ns"])}) for item in data["proof"])
        return cls(**fields)

    def require(self) -> Self:
        """This, when proved; raises InconclusiveError otherwise: a fault that did not show proves nothing."""
        if not self.proved:
            raise InconclusiveError(
                f"{self.action} of {self.name} on {describe(self.groups)} did not show: {self.missing}",
                where=self.place,
                next="Nothing can be said about the cluster; ./lab heal mends what is left.",
            )
        return self


def describe(groups: Groups) -> str:
    """Groups as users write them: `etcd2 | etcd1,etcd3`."""
    return " | ".join(",".join(group) for group in groups)


@dataclass(frozen=True)
class Fault(ABC):
    """One fault on nodes that are already resolved. Subclasses say how it is applied, lifted and seen."""

    name: ClassVar[str]
    family: ClassVar[str]
    summary: ClassVar[str]
    damages_data: ClassVar[bool] = False
    """Whether the data of its nodes' members is not to be trusted afterwards, so that they are replaced."""
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    occupies: ClassVar[str] = ""
    """What it takes for itself on each of its nodes (`disk`, `clock`, …): no two faults may, at the same time."""
    needs_power: ClassVar[bool] = True
    """Whether its nodes must run for it to be made."""
    promised: ClassVar[bool] = True
    """Whether etcd promises to come through; what it does not promise stays out of random sequences."""
    lasting: ClassVar[bool] = True
    """Whether there is anything in force after `inject`. False for what happens once (reset, kill, compaction, …; see
    chaos.faults.oneshot): `inject` proves that it happened, `observe` tells so again from what was written down before,
    `heal` waits until its nodes are back. Who declares sets of faults injects such a one when it enters the set and
    never again while it stays there."""

    groups: Groups
    words: tuple[str, ...] = ()
    """What the user asked for, before it was resolved."""
    params: Mapping[str, Param] = field(default_factory=dict)
    """What the user gave; see `value` for the rest."""
    lease: int = RENEWED_LEASE
    """Seconds it stays when nobody renews it, where a kernel or a guest lifts it by itself."""

    @classmethod
    def declare(
        cls,
        lab: Lab,
        words: tuple[str, ...],
        params: Mapping[str, Param] | None = None,
        *,
        lease: int = RENEWED_LEASE,
        others: Iterable[Fault] = (),
    ) -> Self:
        """Resolve `words` on this lab now, beside `others` in force. Raises UsageError before anything is touched."""
        if not 1 <= lease <= LONGEST_LEASE:
            raise UsageError(
                f"lease is {lease!r}", where="--lease", next=f"Give whole seconds, from 1 to {LONGEST_LEASE} (a week)."
            )
        given = parameters.check(cls.name, cls.parameters, params or {})
        groups = resolve(words, lab.manifest.node_names, lab.leader)
        fault = cls(cls.normalise(groups, lab.manifest.node_names), words, given, lease)
        fault.check_power(lab)
        fault.check_beside(others)
        fault.check(lab)
        if gone := unprovable(lab.manifest, cls.name):
            raise UsageError(f"{cls.name} cannot be proved on this lab: {gone}", where="etcd-extra", next=gone.next)
        return fault

    def value(self, name: str) -> Any:  # noqa: ANN401 - whole, number or word, as declared
        """A parameter: what was given, else its default."""
        return self.params.get(name, next(one.default for one in self.parameters if one.name == name))

    def check_power(self, lab: Lab) -> None:
        """Raise UsageError when a node that must run does not."""
        off = sorted(set(self.nodes) - set(lab.running())) if self.needs_power else []
        if off:
            raise UsageError(
                f"{self.name} needs a machine that runs: {', '.join(off)} does not", next="See ./lab heal."
            )

    def check_beside(self, others: Iterable[Fault]) -> None:
        """Raise UsageError when another fault in force has what this one takes for itself, on a node of both."""
        for other in others:
            both = [node for node in self.nodes if node in other.nodes]
            if other.id == self.id or (self.occupies and self.occupies == other.occupies and both):
                raise UsageError(
                    f"{other.name} is in force on {', '.join(both)}, and {self.name} cannot be there beside it",
                    next="Heal that one first, or choose another node.",
                )

    @classmethod
    def normalise(cls, groups: Groups, nodes: tuple[str, ...]) -> Groups:  # noqa: ARG003 - subclasses need `nodes`
        """Groups as this fault uses them; by default one group of all that were named."""
        return (named(groups),)

    def check(self, lab: Lab) -> None:  # noqa: B027 - most faults have nothing to check
        """Raise UsageError where this fault makes no sense on this lab."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Every node this fault names."""
        return named(self.groups)

    @property
    def id(self) -> str:
        """Name of this fault's record, rules and units: the same for the same fault on the same nodes."""
        text = json.dumps([self.name, self.groups, dict(self.params)], sort_keys=True)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def record(self, lab_id: str, place: str) -> records.Record:
        """Its undo record as of now, made by this process."""
        return records.Record(
            self.id,
            self.name,
            lab_id,
            self.groups,
            self.words,
            dict(self.params),
            self.lease,
            place,
            time.monotonic_ns(),
            records.boot_id(),
            os.getpid(),
        )

    # -- the three actions ---------------------------------------------------------------------------------

    def inject(self, lab: Lab) -> Result:
        """Record the undo, make the fault, wait for the proof (at most `proof_seconds`)."""
        started = time.monotonic_ns()
        before = self.baseline(lab)
        records.write(lab.paths, self.record(lab.manifest.lab_id, self.place(lab)))
        self.apply(lab)
        applied = time.monotonic_ns()
        proof = self._prove(lab, in_force=True)
        return self._result("inject", lab, started, applied, (*before, *proof))

    def heal(self, lab: Lab) -> Result:
        """Lift the fault, look that it is gone, then forget the record."""
        started = time.monotonic_ns()
        self.lift(lab)
        applied = time.monotonic_ns()
        result = self._result("heal", lab, started, applied, self._prove(lab, in_force=False))
        if result.proved:
            records.remove(lab.paths, self.id)
        return result

    def observe(self, lab: Lab) -> Result:
        """Tell whether the fault holds now; changes nothing."""
        started = time.monotonic_ns()
        return self._result("observe", lab, started, started, tuple(self.look(lab, in_force=True)))

    def _prove(self, lab: Lab, *, in_force: bool) -> tuple[Proof, ...]:
        last: list[Proof] = []

        def probe() -> tuple[Proof, ...]:
            last[:] = self.look(lab, in_force=in_force)
            missing = [str(proof) for proof in last if not proof.holds]
            if missing or not last:
                raise Pending("; ".join(missing))
            return tuple(last)

        try:
            return wait_until(probe, f"proof of {self.name}", seconds=self.proof_seconds(in_force))
        except DeadlineError:
            return tuple(last)

    def _result(self, action: Action, lab: Lab, started: int, applied: int, proof: tuple[Proof, ...]) -> Result:
        return Result(
            self.id, self.name, action, self.groups, self.place(lab), started, applied, time.monotonic_ns(), proof
        )

    # -- what a kind of fault says ---------------------------------------------------------------------------

    @abstractmethod
    def place(self, lab: Lab) -> str:
        """Where it is made: `hypervisor`, `bridge el…`, `guest`."""

    @abstractmethod
    def apply(self, lab: Lab) -> None:
        """Make it; safe to repeat."""

    @abstractmethod
    def lift(self, lab: Lab) -> None:
        """Undo it; safe to repeat, also when it was never made."""

    @property
    def inside(self) -> tuple[str, ...]:
        """Nodes that must be logged in to for `lift`, where the fault is made inside the guests."""
        return self.nodes

    def shells(self, nodes: Sequence[str]) -> set[tuple[str, str]]:  # noqa: ARG002 - subclasses need `nodes`
        """The shells that it begins with in a lab of these nodes, by node and use: opened ahead."""
        return {(node, "run") for node in self.nodes}

    def renew(self, lab: Lab) -> None:  # noqa: B027 - what only ./lab heal lifts needs no renewal
        """Start the lease anew; raises LabError when the fault is gone."""

    @abstractmethod
    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """Look whether it is in force (or gone); never raises for what it sees."""

    def baseline(self, lab: Lab) -> tuple[Proof, ...]:  # noqa: ARG002
        """What must be seen before, so that the proof afterwards means something."""
        return ()

    def proof_seconds(self, in_force: bool) -> float:  # noqa: ARG002
        """How long the proof may take to show."""
        return 15.0
