"""Who disagrees: of a violation, which members tell different things of the same keys, and from which revision on.

A member that answered with a key's mod revision says that it was written there, and that nothing wrote it from then to
the revision of its answer; so does an event of its watch say the first. Where one denies what another says, they hold
different data, whatever else is wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from chaos.checker.model import NULL, History, Kind, Outcome
from chaos.checker.violation import Violation
from chaos.checker.watches import Event, EventKind

MOST = 200_000
"""Operations looked at: the last ones, where it is a long history."""


class Said(NamedTuple):
    """A member said: this key was written at `mod` with this value, and not again up to `until`."""

    member: str
    key: str
    mod: int
    value: object
    until: int


def named(history: History, events: Sequence[Event], found: Violation) -> Violation:
    """The violation with a sentence on the members that disagree, if some do."""
    sentence = disagreement([*_read(history), *_told(events)])
    return replace(found, why=f"{found.why} {sentence}") if sentence else found


def _read(history: History) -> Iterator[Said]:
    ok = (history.outcome == Outcome.OK) & (history.revision >= 0) & (history.member >= 0)
    gets = ok & (history.kind == Kind.GET) & (history.mod > 0) & (history.value != NULL)
    for row in np.flatnonzero(gets)[-MOST:].tolist():
        member, key = history.members[history.member[row]], history.keys[history.key[row]]
        value = history.values[history.value[row]]
        yield Said(member, key, int(history.mod[row]), value, int(history.revision[row]))


def _told(events: Iterable[Event]) -> Iterator[Said]:
    member: dict[str, str] = {}
    for event in events:
        if event.kind == EventKind.CREATED:
            member[event.watch] = event.member
        elif event.kind in (EventKind.PUT, EventKind.DELETE) and member.get(event.watch):
            yield Said(member[event.watch], event.key, event.mod, event.value, event.mod)


def disagreement(said: Iterable[Said]) -> str:
    """One sentence on the lowest revision of which members say different things; empty when there is none."""
    keys: dict[str, list[Said]] = defaultdict(list)
    for one in set(said):
        keys[one.key].append(one)
    found: tuple[int, str, dict[object, set[str]]] | None = None
    for key, all_ in keys.items():
        for mod in sorted({one.mod for one in all_}):
            if found is not None and mod >= found[0]:
                break
            camps: dict[object, set[str]] = defaultdict(set)
            for one in all_:
                if one.mod == mod:
                    camps["written", one.value].add(one.member)
                elif one.mod < mod <= one.until:
                    camps["not written"].add(one.member)
            if len(camps) > 1 and not set.intersection(*camps.values()):
                found = (mod, key, camps)
                break
    if found is None:
        return ""
    mod, key, camps = found
    order = sorted(camps.values(), key=lambda one: (len(one), sorted(one)))
    # who answered in two camps belongs to the first
    few, others = order[0], set().union(*order[1:]) - order[0]
    verb = "disagrees" if len(few) == 1 else "disagree"
    return f"{_names(few)} {verb} with {_names(others)} from revision {mod} on ({key})."


def _names(members: Iterable[str]) -> str:
    some = sorted(members)
    return some[0] if len(some) == 1 else f"{', '.join(some[:-1])} and {some[-1]}"
