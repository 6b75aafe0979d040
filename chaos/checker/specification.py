"""The specification machine: what each operation does to the store, and what its answer says about it.

State: the revision and a map key -> Cell. A step is an operation in the machine's terms: guards on the state before it,
then parts in order. A step that changes something takes exactly the next revision; all keys it changes get that mod
revision; any other step takes none. In an open world other writers may take revisions in between; they touch no key of
the history. An expiring lease deletes, in one revision, all keys attached to it.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import NamedTuple

from chaos.checker.model import NONE, NULL, History, Kind, Outcome, Txn


class Cell(NamedTuple):
    """What the store holds under one key."""

    value: int
    mod: int = NONE
    """Mod revision; NONE when nobody ever learned it; ANY or less for an initial value before somebody did."""
    lease: int = NONE


ANY = -2
"""`ANY - base`: an initial value, of some mod revision up to base that nobody has read yet."""
ALWAYS = -(2**62)
"""Before every time."""
FAR = 2**63
"""Beyond every time and revision."""
EMPTY = Cell(NULL)
NOTHING: frozenset[int] = frozenset()


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
    after: int = NONE
    """It takes a revision above this one (what had been answered before it was invoked)."""

    @property
    def keys(self) -> set[int]:
        """Every key it names."""
        return {guard.key for guard in (*self.guards, *self.refused)} | {part.key for part in self.parts}

    @property
    def reads_only(self) -> bool:
        """Whether it never changes the store."""
        return self.revoke < 0 and all(
            part.kind == Kind.GET or (part.kind == Kind.DELETE and part.count == 0) for part in self.parts
        )

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
    """The machine's view of one operation.

    None when it says nothing: it failed, or is an unknown one that only reads, or a serializable read of before the
    beginning, from a member that had not come that far.
    """
    if history.outcome[row] == Outcome.FAIL:
        return None
    if history.serializable[row] and 0 <= history.revision[row] < history.meta.base_revision:
        return None
    ok = bool(history.outcome[row] == Outcome.OK)
    guards, parts, refused = _body(history, row, ok)
    kind, lease = history.kind[row], int(history.lease[row])
    revoke = lease if kind == Kind.LEASE_REVOKE else NONE
    if not ok and revoke < 0 and all(part.kind == Kind.GET for part in parts):
        return None
    # a serializable read may show any state there was, so for the order it may have been invoked at any time
    invoke = ALWAYS if history.serializable[row] else int(history.invoke[row])
    return Step(
        row,
        invoke,
        int(history.ret[row]),
        int(history.revision[row]) if ok else NONE,
        ok,
        guards,
        parts,
        refused,
        revoke,
        lease if kind == Kind.LEASE_GRANT else NONE,
    )


Body = tuple[tuple[Guard, ...], tuple[Effect, ...], tuple[Guard, ...]]


def _body(history: History, row: int, ok: bool) -> Body:
    """Guards, parts, and the guards of which one did not hold."""
    kind, key, value = Kind(int(history.kind[row])), int(history.key[row]), int(history.value[row])
    count, lease = int(history.count[row]), int(history.lease[row])
    if kind == Kind.PUT:
        return (), (Effect(kind, key, value, lease=lease),), ()
    if kind == Kind.DELETE:
        return (), (Effect(kind, key, count=count if ok else NONE),), ()
    if kind == Kind.CAS:
        done = not ok or count == 1
        guard = Guard(key, int(history.expect[row]), equal=done)
        return (guard,), (Effect(Kind.PUT, key, value, lease=lease),) if done else (), ()
    if kind == Kind.TXN:
        return _txn(history.txns[row], ok, done=not ok or count == 1)
    reads: tuple[Effect, ...] = ()
    if kind == Kind.GET and ok:
        reads = (Effect(kind, key, value, int(history.mod[row])),)
    elif kind == Kind.RANGE and row in history.ranges:
        found = history.ranges[row]
        covered = (number for number, name in enumerate(history.keys) if found.covers(name))
        reads = tuple(Effect(Kind.GET, n, *found.found.get(n, (NULL, NONE))) for n in covered)
    return (), reads, ()


def _txn(txn: Txn, ok: bool, *, done: bool) -> Body:
    compare = tuple(Guard(key, value) for key, value in txn.compare)
    if not done:
        return (), (), compare
    parts = tuple(
        Effect(int(part.kind), part.key, part.value, part.mod, part.deleted, part.lease)
        for part in txn.parts
        if ok or part.kind != Kind.GET
    )
    return compare, parts, ()


Cells = tuple[Cell, ...]


def apply(one: Step, cells: Cells, dead: frozenset[int]) -> tuple[Cells, bool] | None:
    """State after a step, and whether it changed anything; None when its answer contradicts the state before it.

    Keys changed get mod revision NONE; the caller, who knows the revision, puts it in (`stamped`).
    """
    if not _admitted(one, cells):
        return None
    if one.revoke >= 0:
        return None if one.revoke in dead else drop_lease(cells, one.revoke)
    if not one.parts:
        return cells, False
    if len(one.parts) == 1:
        return _single(one, one.parts[0], cells, dead)
    out = list(cells)
    wrote: set[int] = set()
    for part in one.parts:
        cell = out[part.key]
        after = _read(one, part, cell, wrote) if part.kind == Kind.GET else _write(part, cell, wrote, dead)
        if after is None:
            return None
        out[part.key] = after
    return tuple(out), bool(wrote)


def _admitted(one: Step, cells: Cells) -> bool:
    """Whether its guards agree with the state before it."""
    for guard in one.guards:
        if not guard.holds(cells[guard.key]):
            return False
    return not one.refused or not all(guard.holds(cells[guard.key]) for guard in one.refused)


def _single(one: Step, part: Effect, cells: Cells, dead: frozenset[int]) -> tuple[Cells, bool] | None:
    """`apply` for the many steps of one part."""
    cell, wrote = cells[part.key], False
    if part.kind == Kind.GET:
        after = _read(one, part, cell, NOTHING)
    else:
        put = part.kind == Kind.PUT
        after = _write(part, cell, set(), dead)
        wrote = put or cell.value != NULL
    if after is None:
        return None
    if after is cell:
        return cells, wrote
    return (*cells[: part.key], after, *cells[part.key + 1 :]), wrote


def _read(one: Step, part: Effect, cell: Cell, wrote: Set[int]) -> Cell | None:
    """The cell after a read of it (its mod revision may have become known)."""
    if cell.value != part.value:
        return None
    if part.mod < 0 or part.value == NULL or part.mod == cell.mod:
        return cell
    if part.key in wrote:
        return cell if one.revision < 0 or part.mod == one.revision else None
    return Cell(cell.value, part.mod, cell.lease) if cell.mod <= ANY and part.mod <= ANY - cell.mod else None


def _write(part: Effect, cell: Cell, wrote: set[int], dead: frozenset[int]) -> Cell | None:
    """The cell after a put or a delete."""
    if part.kind == Kind.PUT:
        if part.lease in dead:
            return None
        wrote.add(part.key)
        return Cell(part.value, NONE, part.lease)
    present = cell.value != NULL
    if part.count >= 0 and present != (part.count == 1):
        return None
    if present:
        wrote.add(part.key)
    return EMPTY


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
