"""Contradictions in what a read says of itself: its value, its mod revision and its place, against known writes."""

from __future__ import annotations

import numpy as np

from chaos.checker.model import NONE, NULL, History, Ints, Outcome
from chaos.checker.tables import Table, effects
from chaos.checker.violation import Violation, violation


def contradictory_read(history: History, sights: Table, writes: Table, last: Ints, exact: Ints) -> Violation | None:
    """The first sight with a mod revision that no choice for the unknown writes could explain.

    `last` is the revision of the last known write of the key at or below each sight (NONE: initial).
    """
    order = np.argsort(writes.revision, kind="stable")
    revisions = writes.revision[order]
    for sight in exact.tolist():
        mod = int(sights.mod[sight])
        first, end = np.searchsorted(revisions, (mod, mod + 1))
        found = _one_wrong(history, sights, sight, writes, int(last[sight]), order[first:end].tolist())
        if found is not None:
            return found
    return None


def _one_wrong(  # noqa: PLR0917 - one sight, and what is known around it
    history: History,
    sights: Table,
    sight: int,
    writes: Table,
    known: int,
    here: list[int],
) -> Violation | None:
    """What is wrong with one sight; `here` are the known writes at the mod revision that it read."""
    mod, place, key = int(sights.mod[sight]), int(sights.revision[sight]), int(sights.key[sight])
    row, shown, name = int(sights.row[sight]), history.show(int(sights.value[sight])), history.keys[sights.key[sight]]
    mine = [n for n in here if writes.key[n] == key]
    rule, also = "mod revision", [int(writes.row[n]) for n in here[:1]]
    if mod > place:
        why = f"At revision {place} it read {shown} as written at revision {mod}, which is later."
    elif mod < known:
        rule, also = "stale read", [*_row_of(writes, key, known), *(int(writes.row[n]) for n in mine)]
        why = (
            f"At revision {place} the last write of {name} was that of revision {known}; "
            f"the read returned {shown} of revision {mod}."
        )
    elif mine and writes.value[mine[0]] != sights.value[sight]:
        rule, also = "wrong value", [int(writes.row[mine[0]])]
        why = f"Revision {mod} of {name} is {history.show(int(writes.value[mine[0]]))}, not {shown}."
    elif not mine and any(writes.mod[n] == NONE for n in here):
        why = f"It read {shown} as written at revision {mod}, which another operation took without writing {name}."
    elif mod <= history.meta.base_revision:
        first = "was absent" if key not in history.initial else f"held {history.show(history.initial[key])}"
        rule = "wrong value"
        why = f"It read {shown} of revision {mod}, from before the history; then {name} {first}."
    else:
        return None
    return violation(history, rule, why, [row, *also], key)


def _row_of(writes: Table, key: int, revision: int) -> list[int]:
    found = np.flatnonzero((writes.key == key) & (writes.revision == revision))
    return [int(writes.row[n]) for n in found[:1]]


def unexplained(history: History, row: int, key: int, value: int, place: str) -> Violation:
    """No operation could have brought about what `row` saw of `key`: say which ones come nearest."""
    near: list[int] = []
    told = ""
    if value != NULL:
        rows = np.flatnonzero((history.value == value) & (history.key == key) & (np.arange(len(history)) != row))
        near = [int(one) for one in rows if key in effects(history, int(one))][:4]
        near += [
            one
            for one, txn in history.txns.items()
            if any(p.key == key and p.value == value and p.kind == 0 for p in txn.parts)
        ][:4]
        outcomes = {Outcome(int(history.outcome[one])) for one in near}
        if not near:
            told = "No operation of the history ever wrote it."
        elif outcomes == {Outcome.FAIL}:
            told = "Only an operation that certainly failed would have written it."
        elif Outcome.UNKNOWN in outcomes:
            told = "The writes of it were acknowledged at other revisions, invoked too late, or needed elsewhere."
        else:
            told = "The write of it was acknowledged at another revision: this would be a second effect of it."
    else:
        told = "Nothing that could have deleted the key is known, and it had been written."
    rule = "lost write" if value == NULL else "read of a failed write" if "failed" in told else "wrong value"
    why = f"{history.keys[key]} was {history.show(value)} {place}. {told}"
    return violation(history, rule, why, [row, *near], key)
