"""Random sequences of overlapping faults: seeded, so that any can be played again, and valid at every step.

A plan is pure data, made from the catalogue and the nodes' names alone. Valid means that each fault can be made, proved
and healed beside the others: no two have the same word of `occupies` on a node; a machine that cannot be logged in to
(no power, no link) has no fault inside; and a node has one fault of its own at most, since two would hide each other's
proof. Nor does one come beside another whose proof it takes away from afar (HIDE). Cuts between nodes come on top.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chaos.faults.base import Fault

OVERLAPPING = 5
"""Most faults in force at once."""

CUTS = 2
"""Most cuts in force at once: more leave no pair to probe."""

INJECTIONS = 6
"""Faults of one sequence."""

WORDS: Mapping[str, int] = {"one-way": 2}
"""How many nodes a fault is given, where it is not one."""

CLUSTER_WIDE = frozenset({"etcd", "data", "names"})
"""Families that need a cluster which answers to be made, or a lab of a certain kind (peers by DNS)."""

NO_LOGIN = frozenset({"power", "link"})
"""What faults occupy that take the login to a node."""

HIDE = (frozenset({"netem"}), frozenset({"power", "process"}), frozenset({"power", "disk"}))
"""What two faults must not occupy at once, on whichever nodes. A ping crosses the bad lines of both ends; and that a
machine is gone is told by the members of the others, which one that is down, starved or without a disk cannot do."""

SHAPED = frozenset({"bridge"})
"""Faults that need groups of a certain shape."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault of a plan: its name, and its targets as `ScenarioRun.inject` takes them (node names)."""

    name: str
    words: tuple[str, ...]
    cut: bool

    def __str__(self) -> str:
        return f"{self.name} on {' | '.join(self.words)}"


@dataclass(frozen=True, slots=True)
class Move:
    """Inject a fault, or heal one that is in force."""

    inject: bool
    fault: Planned

    def __str__(self) -> str:
        return f"{'inject' if self.inject else 'heal'} {self.fault}"


def plan(
    seed: int,
    nodes: Sequence[str],
    kinds: Mapping[str, type[Fault]],
    injections: int = INJECTIONS,
    *,
    cuts_inside: bool = False,
) -> list[Move]:
    """The sequence of `seed`: `injections` faults, each healed by the end, in random order; the same at every call.

    With `cuts_inside` cuts are made in all guests: then none comes beside a fault that takes the login to a node.
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable is what is wanted
    names = sorted(name for name, kind in kinds.items() if _may(kind))
    moves: list[Move] = []
    present: list[Planned] = []
    made = 0
    while made < injections or present:
        choices = [
            one
            for one in _offers(chance, names, nodes, kinds)
            if fits(one, present) and not any(_hide(one, other, kinds) for other in present)
        ]
        if cuts_inside:
            choices = [one for one in choices if not any(_needs_login(one, other, kinds) for other in present)]
        # more likely to inject while few are in force, so that they overlap
        if made < injections and choices and (not present or chance.random() < 1 - len(present) / OVERLAPPING):
            fault = choices[0]
            present.append(fault)
            made += 1
            moves.append(Move(inject=True, fault=fault))
        elif present:
            fault = present.pop(chance.randrange(len(present)))
            moves.append(Move(inject=False, fault=fault))
        elif not choices:
            break  # nothing in the catalogue can be made on such a lab
    return moves


def fits(new: Planned, present: Iterable[Planned]) -> bool:
    """Whether `new` may come beside those in force."""
    others = list(present)
    if len(others) >= OVERLAPPING or any((one.name, one.words) == (new.name, new.words) for one in others):
        return False
    if new.cut:
        return sum(one.cut for one in others) < CUTS
    return not any(set(one.words) & set(new.words) for one in others if not one.cut)


def _hide(one: Planned, other: Planned, kinds: Mapping[str, type[Fault]]) -> bool:
    """Whether one takes the other's proof away, also on another node."""
    return frozenset({kinds[one.name].occupies, kinds[other.name].occupies}) in HIDE


def _needs_login(one: Planned, other: Planned, kinds: Mapping[str, type[Fault]]) -> bool:
    """Whether one is a cut, and the other takes away the login that a cut inside the guests needs."""
    return (one.cut and kinds[other.name].occupies in NO_LOGIN) or (other.cut and kinds[one.name].occupies in NO_LOGIN)


def _may(kind: type[Fault]) -> bool:
    return kind.promised and kind.family not in CLUSTER_WIDE and kind.name not in SHAPED


def _offers(
    chance: random.Random, names: Sequence[str], nodes: Sequence[str], kinds: Mapping[str, type[Fault]]
) -> Iterator[Planned]:
    """Each kind once, in random order, on random nodes."""
    for name in chance.sample(names, len(names)):
        count = WORDS.get(name, 1)
        between = kinds[name].family == "network" and kinds[name].occupies != "link"
        cut = between and not kinds[name].occupies
        if count <= len(nodes) - between:  # what is between nodes needs one on the other side
            yield Planned(name, tuple(chance.sample(list(nodes), count)), cut)
