"""Acknowledged operations with revisions as two tables: what was written where, and what was seen where.

A write: at `revision` the key became `value`. A sight: after `revision` the key's value was (or was not) `value`. What
a write saw of the store before it is a sight one revision earlier.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from chaos.checker.model import NONE, NULL, Flags, History, Ints, Kind, Outcome, Part
from chaos.checker.order import numbered
from chaos.checker.violation import Violation, violation


@dataclass(slots=True)
class Table:
    """Columns of writes or of sights; `row` is the operation, `equal` and `mod` are for sights only."""

    key: Ints
    revision: Ints
    value: Ints
    row: Ints
    equal: Ints
    mod: Ints

    @classmethod
    def of(cls, parts: list[tuple[Ints, Ints, Ints, Ints, int, Ints | None]]) -> Table:
        """Joined from pieces (key, revision, value, row, equal, mod)."""
        key, revision, value, row = (
            np.concatenate([np.asarray(column, np.int64) for column in columns])
            for columns in zip(*((part[0], part[1], part[2], part[3]) for part in parts), strict=True)
        )
        equal = np.concatenate([np.full(len(part[0]), part[4], np.int64) for part in parts])
        mod = np.concatenate([np.full(len(part[0]), NONE, np.int64) if part[5] is None else part[5] for part in parts])
        return cls(key, revision, value, row, equal, mod)

    def __len__(self) -> int:
        return len(self.key)


@dataclass(slots=True)
class Extra:
    """Rows found one by one (transactions, ranges, settled unknown writes)."""

    key: list[int] = field(default_factory=list)
    revision: list[int] = field(default_factory=list)
    value: list[int] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    equal: list[int] = field(default_factory=list)
    mod: list[int] = field(default_factory=list)

    def add(self, key: int, revision: int, value: int, row: int, *, equal: bool = True, mod: int = NONE) -> None:
        """One more row."""
        self.key.append(key)
        self.revision.append(revision)
        self.value.append(value)
        self.row.append(row)
        self.equal.append(int(equal))
        self.mod.append(mod)

    def table(self) -> Table:
        """As columns."""
        columns = (self.key, self.revision, self.value, self.row, self.equal, self.mod)
        return Table(*(np.array(column, np.int64) for column in columns))


def joined(first: Table, second: Table) -> Table:
    """Both tables, one after the other."""
    return Table(
        *(
            np.concatenate((getattr(first, name), getattr(second, name)))
            for name in ("key", "revision", "value", "row", "equal", "mod")
        )
    )


@dataclass(slots=True)
class Compiled:
    """The two tables, and the transactions that did not succeed for one of several reasons."""

    writes: Table
    sights: Table
    refused: list[int]


def compile_rows(history: History) -> Compiled | Violation:
    """The tables of a history; a Violation when one transaction contradicts itself."""
    simple = numbered(history)
    old = history.serializable & (history.revision < history.meta.base_revision)  # of before: nothing is known of it
    seen = np.asarray((history.outcome == Outcome.OK) & (history.revision >= 0) & ~old)
    kind, count, revision = history.kind, history.count, history.revision

    def pick(which: Flags) -> Ints:
        return np.flatnonzero(simple & which)

    def piece(
        rows: Ints, value: Ints | None, *, shift: int = 0, equal: int = 1, mod: Ints | None = None
    ) -> tuple[Ints, Ints, Ints, Ints, int, Ints | None]:
        null = np.full(len(rows), NULL, np.int64)
        return history.key[rows], revision[rows] - shift, null if value is None else value[rows], rows, equal, mod

    puts, gets = pick(kind == Kind.PUT), np.flatnonzero(seen & (kind == Kind.GET))
    deleted, vain = pick((kind == Kind.DELETE) & (count > 0)), pick((kind == Kind.DELETE) & (count == 0))
    swapped, failed = pick((kind == Kind.CAS) & (count > 0)), pick((kind == Kind.CAS) & (count == 0))
    writes = [piece(puts, history.value), piece(deleted, None), piece(swapped, history.value)]
    sights = [
        piece(gets, history.value, mod=history.mod[gets]),
        piece(deleted, None, shift=1, equal=0),
        piece(vain, None),
        piece(swapped, history.expect, shift=1),
        piece(failed, history.expect, equal=0),
    ]
    more_writes, more_sights, refused = Extra(), Extra(), []
    for row in history.txns:
        if simple[row]:
            found = _txn(history, row, more_writes, more_sights)
            if found is not None:
                return found
            if not count[row] and len(history.txns[row].compare) > 1:
                refused.append(row)
    for row, result in history.ranges.items():
        if seen[row]:
            for key, name in enumerate(history.keys):
                if result.covers(name):
                    value, mod = result.found.get(key, (NULL, NONE))
                    more_sights.add(key, int(revision[row]), value, row, mod=mod)
    return Compiled(
        joined(Table.of(writes), more_writes.table()), joined(Table.of(sights), more_sights.table()), refused
    )


def _txn(history: History, row: int, writes: Extra, sights: Extra) -> Violation | None:
    """A transaction part by part: what it saw of the store before it, and what it left."""
    txn, revision = history.txns[row], int(history.revision[row])
    if not history.count[row]:
        if len(txn.compare) == 1:
            sights.add(txn.compare[0][0], revision, txn.compare[0][1], row, equal=False)
        return None
    changes = any(part.kind == Kind.PUT or (part.kind == Kind.DELETE and part.deleted > 0) for part in txn.parts)
    before = revision - 1 if changes else revision
    for key, value in txn.compare:
        sights.add(key, before, value, row)
    own: dict[int, int] = {}
    for part in txn.parts:
        held = own.get(part.key)
        if part.kind == Kind.PUT:
            own[part.key] = part.value
        elif held is not None:
            if not _agrees(part, held, revision):
                why = "It saw something else than what it had itself written before."
                return violation(history, "transaction", why, [row])
        elif part.kind == Kind.GET:
            sights.add(part.key, before, part.value, row, mod=part.mod if part.value != NULL else NONE)
        else:
            sights.add(part.key, before, NULL, row, equal=part.deleted == 0)
        if part.deleted > 0:
            own[part.key] = NULL
    for key, value in own.items():
        writes.add(key, revision, value, row)
    return None


def _agrees(part: Part, held: int, revision: int) -> bool:
    """Whether a get or delete inside a transaction agrees with what that transaction itself left there."""
    if part.kind == Kind.DELETE:
        return (held != NULL) == (part.deleted > 0)
    return held == part.value and (held == NULL or part.mod in (NONE, revision))


def effects(history: History, row: int) -> dict[int, int]:
    """What a write of unknown outcome leaves when it is done: key -> value."""
    kind = history.kind[row]
    if kind in (Kind.PUT, Kind.CAS):
        return {int(history.key[row]): int(history.value[row])}
    if kind == Kind.DELETE:
        return {int(history.key[row]): NULL}
    if kind == Kind.TXN:
        return {
            part.key: part.value if part.kind == Kind.PUT else NULL
            for part in history.txns[row].parts
            if part.kind != Kind.GET
        }
    return {}


def conditions(history: History, row: int) -> list[tuple[int, int]]:
    """What must hold before a write of unknown outcome for it to be done: (key, value)."""
    if history.kind[row] == Kind.CAS:
        return [(int(history.key[row]), int(history.expect[row]))]
    return list(history.txns[row].compare) if history.kind[row] == Kind.TXN else []


def unknown_writes(history: History) -> Ints:
    """Rows of unknown outcome that may have changed something."""
    kinds = (Kind.PUT, Kind.DELETE, Kind.CAS, Kind.TXN, Kind.LEASE_REVOKE)
    return np.flatnonzero((history.outcome == Outcome.UNKNOWN) & np.isin(history.kind, kinds))


def leased_keys(history: History) -> set[int]:
    """Keys that a lease may delete."""
    if not history.leases:
        return set()
    rows = np.flatnonzero((history.lease >= 0) & np.isin(history.kind, (Kind.PUT, Kind.CAS)) & (history.outcome != 1))
    return {int(key) for key in history.key[rows]} | {
        part.key
        for row, txn in history.txns.items()
        for part in txn.parts
        if part.lease >= 0 and history.outcome[row] != Outcome.FAIL
    }
