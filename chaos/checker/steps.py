"""The specification machine: what each operation does to the store, and what its answer says about it.

State: the revision and a map key -> Cell. A step is an operation in the machine's terms: guards on the state before it,
then parts in order. A step that changes something takes exactly the next revision; all keys it changes get that mod
revision; any other step takes none. In an open world other writers may take revisions in between; they touch no key of
the history. An expiring lease deletes, in one revision, all keys attached to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from chaos.checker.model import NONE, NULL, History, Kind, Outcome


class Cell(NamedTuple):
    """What the store holds under one key."""

    value: int
    mod: int = NONE
    """Mod revision; NONE when nobody ever learned it; ANY for an initial value before somebody did."""
    lease: int = NONE


ANY = -2
EMPTY = Cell(NULL)


@dataclass(frozen=True, slots=True)
class Guard:
    """The value of `key` is (or with `equal` false: is not) `value`."""

    key: int
    value: int
    equal: bool = True

    def holds(self, cell: Cell) -> bool:
        """Whether the state before the operation agrees."""
        return (cell.value == self.value) == self.equal


@dataclass(frozen=True, slots=True)
class Step:
    """One operation for the machine; `must` is false when its outcome is unknown."""

    row: int
    invoke: int
    ret: int
    revision: int
    must: bool
    guards: tuple[Guard, ...]
    parts: tuple[Effect, ...]
    refused: tuple[Guard, ...] = ()
    """A txn that did not succeed: at least one of these did not hold."""
    revoke: int = NONE
    """Lease that it revokes."""
    grant: int = NONE

    @property
    def keys(self) -> set[int]:
        """Every key it names."""
        return {guard.key for guard in (*self.guards, *self.refused)} | {part.key for part in self.parts}

    @property
    def reads_only(self) -> bool:
        """Whether it never changes the store."""
        return self.revoke < 0 and all(part.kind == Kind.GET or (part.kind == Kind.DELETE and part.count == 0)
                                       for part in self.parts)

    @property
    def signature(self) -> tuple[object, ...]:
        """Two operations of unknown outcome with one signature differ only in when they were invoked."""
        return (self.guards, self.parts, self.revoke)


@dataclass(frozen=True, slots=True)
class Effect:
    """A put, get or delete of one key; `count` of a delete: 1, 0, or NONE when not known."""

    kind: int
    key: int
    value: int = NULL
    mod: int = NONE
    count: int = NONE
    lease: int = NONE


def step(history: History, row: int) -> Step | None:
    """The machine's view of one operation; None when it says nothing (it failed, or an unknown one only reads)."""
    outcome, kind = history.outcome[row], Kind(int(history.kind[row]))
    if outcome == Outcome.FAIL or history.serializable[row]:
        return None
    ok = bool(outcome == Outcome.OK)
    key, value, count = int(history.key[row]), int(history.value[row]), int(history.count[row])
    lease = int(history.lease[row])
    guards: list[Guard] = []
    refused: tuple[Guard, ...] = ()
    parts: list[Effect] = []
    revoke = grant = NONE
    if kind == Kind.PUT:
        parts.append(Effect(kind, key, value, lease=lease))
    elif kind == Kind.GET and ok:
        parts.append(Effect(kind, key, value, int(history.mod[row])))
    elif kind == Kind.DELETE:
        parts.append(Effect(kind, key, count=count if ok else NONE))
    elif kind == Kind.CAS:
        done = not ok or count == 1
        guards.append(Guard(key, int(history.expect[row]), equal=done))
        if done:
            parts.append(Effect(Kind.PUT, key, value, lease=lease))
    elif kind == Kind.TXN:
        txn = history.txns[row]
        compare = tuple(Guard(k, v) for k, v in txn.compare)
        if ok and count == 0:
            refused = compare
        else:
            guards.extend(compare)
            parts.extend(
                Effect(int(part.kind), part.key, part.value, part.mod, part.deleted, part.lease)
                for part in txn.parts
                if ok or part.kind != Kind.GET
            )
    elif kind == Kind.RANGE and ok:
        found = history.ranges[row]
        parts.extend(
            Effect(Kind.GET, number, *found.found.get(number, (NULL, NONE)))
            for number, name in enumerate(history.keys)
            if found.covers(name)
        )
    elif kind == Kind.LEASE_REVOKE:
        revoke = lease
    elif kind == Kind.LEASE_GRANT:
        grant = lease
    if not ok and not any(part.kind != Kind.GET for part in parts) and revoke < 0:
        return None
    return Step(row, int(history.invoke[row]), int(history.ret[row]), int(history.revision[row]), ok,
                tuple(guards), tuple(parts), refused, revoke, grant)


Cells = tuple[Cell, ...]


def apply(one: Step, cells: Cells, dead: frozenset[int]) -> tuple[Cells, bool] | None:
    """State after a step, and whether it changed anything; None when its answer contradicts the state before it.

    Keys changed get mod revision NONE; the caller, who knows the revision, puts it in (`stamped`).
    """
    for guard in one.guards:
        if not guard.holds(cells[guard.key]):
            return None
    if one.refused and all(guard.holds(cells[guard.key]) for guard in one.refused):
        return None
    if one.revoke >= 0:
        if one.revoke in dead:
            return None
        return drop_lease(cells, one.revoke)
    out: list[Cell] | None = None
    wrote: set[int] = set()
    for part in one.parts:
        cell = cells[part.key] if out is None else out[part.key]
        if part.kind == Kind.GET:
            if cell.value != part.value:
                return None
            if part.mod >= 0 and part.value != NULL:
                if part.key in wrote:
                    if one.revision >= 0 and part.mod != one.revision:
                        return None
                    continue
                if cell.mod == ANY:
                    out = list(cells) if out is None else out
                    out[part.key] = Cell(cell.value, part.mod, cell.lease)
                elif cell.mod != part.mod:
                    return None
        elif part.kind == Kind.PUT:
            if part.lease in dead:
                return None
            out = list(cells) if out is None else out
            out[part.key] = Cell(part.value, NONE, part.lease)
            wrote.add(part.key)
        else:
            present = cell.value != NULL
            if part.count >= 0 and present != (part.count == 1):
                return None
            if present:
                out = list(cells) if out is None else out
                out[part.key] = EMPTY
                wrote.add(part.key)
    return (cells if out is None else tuple(out)), bool(wrote)


def drop_lease(cells: Cells, lease: int) -> tuple[Cells, bool]:
    """Delete every key attached to a lease."""
    after = tuple(EMPTY if cell.lease == lease else cell for cell in cells)
    return after, after != cells


def stamped(one: Step, cells: Cells, revision: int) -> Cells:
    """`cells` with `revision` as mod revision of the keys that the step put."""
    out = list(cells)
    for part in one.parts:
        if part.kind == Kind.PUT and out[part.key].value != NULL:
            out[part.key] = Cell(out[part.key].value, revision, out[part.key].lease)
    return tuple(out)
