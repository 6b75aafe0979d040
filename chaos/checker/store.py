"""The machine for the whole KV API: what etcd's store holds, and what each action does to it and answers.

Rules as in etcd: comparisons E server/etcdserver/txn (applyCompare: a value compared with an absent key does not hold,
everything else of it is 0), ranges there too (bounds prune after the count was taken, `more` is whether the limit left
something out), reads below the compact revision or above the current one are refused (E server/storage/mvcc).
Others may compact at any time (etcd does so by itself), so the compact revision is at least what the history shows.

What an initial key is beyond its value is not known unless the history tells it (`learned`); a comparison that this
leaves open may come out either way. The machine changes in place and can be set back (`mark`, `undo`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from chaos.checker.actions import (
    COMPACTED,
    FUTURE,
    NOT_FOUND,
    UNTOLD,
    Action,
    Compare,
    Part,
    Put,
    Read,
    Remove,
    Seen,
    Value,
)

FAR = 2**62


class Cell(NamedTuple):
    """One key; a number is None when it is that of an initial key and nobody told it."""

    value: Value
    mod: int | None
    create: int | None
    version: int | None
    lease: str | None
    row: int = -1
    """Who wrote it."""


class Wrong(NamedTuple):
    """Why an answer contradicts the store, and who wrote what it should have shown."""

    why: str
    rows: tuple[int, ...] = ()


class Done(NamedTuple):
    """An action that agrees with the store: what it changes, and how far it shows the store to be compacted."""

    changes: dict[str, Cell | None]
    floor: int = 0


class Store:
    """The store at one moment, with all it held before."""

    def __init__(self, base: int, initial: Mapping[str, Cell], names: Iterable[str], *, most: int) -> None:
        self.base = self.head = base
        self.most = most
        """The highest revision that an initial key may have."""
        self.cells: dict[str, Cell] = dict(initial)
        self.sorted = sorted(initial)
        self.names = sorted({*names, *initial})
        """All keys that may ever be there."""
        self.past: dict[str, list[tuple[int, Cell | None]]] = {}
        self.initial = dict(initial)
        self.floor = 0
        self.dead: frozenset[str] = frozenset()
        self._trail: list[tuple[str, Cell | None, bool]] = []

    def mark(self) -> tuple[int, int, int, frozenset[str]]:
        """To come back to this moment."""
        return len(self._trail), self.head, self.floor, self.dead

    def undo(self, mark: tuple[int, int, int, frozenset[str]]) -> None:
        """Set back to a moment marked before."""
        length, self.head, self.floor, self.dead = mark
        while len(self._trail) > length:
            key, cell, took = self._trail.pop()
            self._put(key, cell)
            if took:
                self.past[key].pop()

    def write(self, changes: Mapping[str, Cell | None]) -> None:
        """Take the next revision."""
        self.head += 1
        for key, cell in changes.items():
            self._trail.append((key, self.cells.get(key), True))
            self._put(key, cell)
            self.past.setdefault(key, []).append((self.head, cell))

    def _put(self, key: str, cell: Cell | None) -> None:
        if cell is not None:
            if key not in self.cells:
                insort(self.sorted, key)
            self.cells[key] = cell
        elif self.cells.pop(key, None) is not None:
            del self.sorted[bisect_left(self.sorted, key)]

    def at(self, key: str, revision: int) -> Cell | None:
        """A key as it was at a revision from the base on."""
        if revision >= self.head:
            return self.cells.get(key)
        past = self.past.get(key, ())
        n = bisect_left(past, revision + 1, key=lambda one: one[0])
        return past[n - 1][1] if n else self.initial.get(key)

    def attached(self, lease: str) -> dict[str, Cell | None]:
        """What is deleted when a lease ends."""
        return {key: None for key in self.sorted if self.cells[key].lease == lease}

    def leases(self) -> set[str]:
        """Leases with keys."""
        return {cell.lease for cell in self.cells.values() if cell.lease}


class View:
    """The store at one revision, with what a transaction has changed itself so far."""

    def __init__(self, store: Store, revision: int) -> None:
        self.store, self.revision = store, revision
        self.own: dict[str, Cell | None] = {}

    def get(self, key: str) -> Cell | None:
        """One key."""
        if key in self.own:
            return self.own[key]
        return self.store.at(key, self.revision)

    def within(self, key: str, end: str | None) -> Iterator[tuple[str, Cell]]:
        """Keys of a range, in order."""
        if end is None:
            cell = self.get(key)
            if cell is not None:
                yield key, cell
            return
        now = self.revision >= self.store.head
        names = self.store.sorted if now else self.store.names
        if now and self.own:
            names = sorted({*names, *self.own})
        first = bisect_left(names, key)
        last = len(names) if end == "\0" else bisect_left(names, end)
        for name in names[first:last]:
            cell = self.get(name)
            if cell is not None:
                yield name, cell


def holds(compare: Compare, cell: Cell | None, most: int) -> bool | None:
    """Whether a comparison holds; None when what is known of an initial key leaves it open.

    Its revisions are from 1 to `most`, its version is at least 1.
    """
    target, result, operand = compare.target, compare.result, compare.operand
    if target == "value":
        if operand is None:
            return (cell is None) == (result == "=")
        if cell is None:
            return False
        return _ordered(result, cell.value, operand)
    if target == "lease":
        return _leased(result, "" if cell is None else cell.lease, operand)
    held = 0 if cell is None else {"mod_revision": cell.mod, "create_revision": cell.create}.get(target, cell.version)
    if held is not None:
        return _ordered(result, held, operand)
    wanted, top = int(operand or 0), FAR if target == "version" else most
    # the comparison at both ends of what it may be: between them, one and the same answer, or none
    ends = {_ordered(result, 1, operand), _ordered(result, top, operand)}
    inside = result in ("=", "!=") and 1 <= wanted <= top and top > 1
    return ends.pop() if len(ends) == 1 and not inside else None


def _leased(result: str, lease: str | None, operand: Value) -> bool | None:
    if lease is None:
        return None
    if result in ("=", "!="):
        return (lease == operand) == (result == "=")
    try:
        return _ordered(result, int(lease or 0), operand)
    except ValueError:
        return None  # a name made up by whoever wrote the history


def _ordered(result: str, held: Value, operand: Value) -> bool:
    if result == "=":
        return held == operand
    if result == "!=":
        return held != operand
    if isinstance(held, int) and isinstance(operand, int):
        return held < operand if result == "<" else held > operand
    one, other = str(held), str(operand)
    return one < other if result == "<" else one > other


def outcomes(store: Store, action: Action, row: int, *, at: int | None = None) -> list[Done | Wrong]:
    """What an action may have done, by what is known: one, or for an open comparison of an unknown outcome two.

    `at` is the revision that a serializable read shows, else the current one.
    """
    if action.compact:
        return [_compact(store, action)]
    if action.revoke:
        return [_revoke(store, action)]
    if action.grant or not (action.then or action.orelse or action.compares):
        return [Done({})]
    view = View(store, store.head if at is None else at)
    held: bool | None = True
    for compare in action.compares:
        one = holds(compare, view.get(compare.key), store.most)
        if one is False:
            if action.succeeded:
                return [_refuted(compare, view)]
            held = False
            break
        if one is None:
            held = None
    branches: list[bool]
    if held is None:
        branches = [action.succeeded] if action.succeeded is not None else [True, False]
    elif action.succeeded is not None and action.succeeded != held:
        names = ", ".join(compare.text() for compare in action.compares)
        rows = tuple(cell.row for one in action.compares if (cell := view.get(one.key)) is not None)
        return [Wrong(f"every condition held ({names}), and it was refused", rows)]
    else:
        branches = [held]
    return [_do(store, action, action.then if which else action.orelse, row, at) for which in branches]


def _refuted(compare: Compare, view: View) -> Wrong:
    cell = view.get(compare.key)
    held = "absent" if cell is None else f"{cell.value!r} (mod revision {cell.mod}, create revision {cell.create}, "
    held += "" if cell is None else f"version {cell.version})"
    return Wrong(f"{compare.key} was {held}, so {compare.text()} did not hold", () if cell is None else (cell.row,))


def _do(store: Store, action: Action, parts: tuple[Part, ...], row: int, at: int | None) -> Done | Wrong:
    if action.answer:
        return _refused(store, action, parts, lags=at is not None)
    view, following = View(store, store.head if at is None else at), store.head + 1
    for part in parts:
        if isinstance(part, Read):
            wrong = _read(view, part, lags=at is not None)
        elif isinstance(part, Put):
            wrong = _put(view, part, following, row)
        else:
            wrong = _remove(view, part)
        if wrong is not None:
            return wrong
    return Done(view.own)


def _refused(store: Store, action: Action, parts: tuple[Part, ...], *, lags: bool) -> Done | Wrong:
    """An error for an answer: nothing was done, and the store was such that it could be given."""
    revision, old = store.head, [part.at for part in parts if isinstance(part, Read) and part.at]
    if action.answer == COMPACTED:
        # somebody may just have compacted, up to the current revision
        if old and min(old) < revision:
            return Done({}, floor=min(old) + 1)
        return Wrong(f"nothing above revision {revision} can have been compacted")
    if action.answer == FUTURE:
        if old and (lags or max(old) > revision):
            return Done({})  # of a member that lags behind, everything may be in the future
        return Wrong(f"the store was at revision {revision} already, so what it asked for was not in the future")
    keeps = [part.key for part in parts if isinstance(part, Put) and (part.ignore_value or part.ignore_lease)]
    if action.answer == NOT_FOUND and any(store.at(key, revision) is None for key in keeps):
        return Done({})
    return Wrong("the key was there", tuple(c.row for key in keeps if (c := store.at(key, revision)) is not None))


def _compact(store: Store, action: Action) -> Done | Wrong:
    at = action.compact
    if action.answer == FUTURE:
        return Done({}) if at > store.head else Wrong(f"revision {at} was there, as the store was at {store.head}")
    if at > store.head:
        return Wrong(f"the store was at revision {store.head}, below what was compacted")
    if action.answer == COMPACTED:
        return Done({}, floor=at)
    if store.floor >= at:
        return Wrong(f"the store was compacted at revision {store.floor} already")
    return Done({}, floor=at)


def _revoke(store: Store, action: Action) -> Done | Wrong:
    attached = store.attached(action.revoke)
    if action.answer == NOT_FOUND:
        if attached:
            return Wrong(f"lease {action.revoke} was there, with keys attached")
        return Done({})
    if action.revoke in store.dead:
        return Wrong(f"lease {action.revoke} was gone already")
    return Done(attached)


def _readable(store: Store, at: int, revision: int, *, lags: bool) -> Wrong | None:
    if at > revision:
        return Wrong(f"it was answered for revision {at}, and the store was only at {revision}")
    if at < store.floor and not lags:
        return Wrong(f"it was answered for revision {at}, which had been compacted (at least up to {store.floor})")
    return None


def _read(view: View, part: Read, *, lags: bool) -> Wrong | None:
    store = view.store
    if part.at:
        wrong = _readable(store, part.at, view.revision, lags=lags)
        if wrong is not None:
            return wrong
        if part.at < store.base:
            return None  # nothing is known of that time
        view = View(store, part.at)
    there = dict(view.within(part.key, part.end))
    if part.count is not None and part.count != len(there):
        return Wrong(f"{len(there)} keys were there, and it counted {part.count}", _rows(there.values()))
    sure, open_ = _bounded(there, part.bounds, store.most)
    if part.kvs is None:
        return None if part.count_only else _more(part, len(sure), len(sure) + len(open_))
    for seen in part.kvs:
        wrong = _told(seen, sure.get(seen.key) or open_.get(seen.key), view.revision, store.most)
        if wrong is not None:
            return wrong
    return _left_out(part, sure, open_)


def _more(part: Read, least: int, most: int) -> Wrong | None:
    """What `more` says where the keys are not told."""
    if part.more and (not part.limit or most <= part.limit):
        return Wrong("nothing was there beyond its limit, and it says that there was more")
    if part.more is False and part.limit and least > part.limit:
        return Wrong("more was there than its limit, and it says that there was not")
    return None


def _bounded(
    there: Mapping[str, Cell], bounds: tuple[int, int, int, int], most: int
) -> tuple[dict[str, Cell], dict[str, Cell]]:
    """Keys that are certainly within the bounds of mod and create revision, and those that may be."""
    if not any(bounds):
        return dict(there), {}
    sure, open_ = {}, {}
    for key, cell in there.items():
        kept = [_bound(cell.mod, *bounds[:2], most), _bound(cell.create, *bounds[2:], most)]
        if all(kept):
            sure[key] = cell
        elif False not in kept:
            open_[key] = cell
    return sure, open_


def _bound(held: int | None, least: int, greatest: int, most: int) -> bool | None:
    if held is not None:
        return (not least or held >= least) and (not greatest or held <= greatest)
    if least > most:
        return False
    return True if least <= 1 and (not greatest or greatest >= most) else None


def _left_out(part: Read, sure: Mapping[str, Cell], open_: Mapping[str, Cell]) -> Wrong | None:
    """A key that it should have returned, or `more` that is not so."""
    names = {seen.key for seen in part.kvs or ()}
    cut = bool(part.limit) and len(names) == part.limit
    last = max(names, default="")
    for key, cell in sure.items():
        if key in names:
            continue
        if not cut or key < last:
            return Wrong(f"{key} was {cell.value!r} (mod revision {cell.mod}), and it did not return it", (cell.row,))
        if part.more is False:
            return Wrong(f"{key} was there beyond its limit, and it says that nothing more was", (cell.row,))
    if part.more and not (cut and any(key > last for key in (*sure, *open_))):
        return Wrong("nothing was there beyond its limit, and it says that there was more", _rows(sure.values()))
    return None


def _told(seen: Seen, cell: Cell | None, revision: int, most: int) -> Wrong | None:
    """What one answered key tells, against what was there."""
    if cell is None:
        if seen.value is None:
            return None
        what = "it" if seen.value is UNTOLD else repr(seen.value)
        return Wrong(f"{seen.key} was absent at revision {revision}, and it saw {what}")
    if seen.value is None:
        return Wrong(f"{seen.key} was {cell.value!r}, and it saw nothing", (cell.row,))
    pairs = (
        ("value", seen.value, cell.value),
        ("mod revision", seen.mod, cell.mod),
        ("create revision", seen.create, cell.create),
        ("version", seen.version, cell.version),
        ("lease", seen.lease, cell.lease),
    )
    for name, told, held in pairs:
        if told is UNTOLD or told is None or held is None or told == held:
            continue
        return Wrong(f"the {name} of {seen.key} was {held!r} at revision {revision}, and it saw {told!r}", (cell.row,))
    told_at = [at for at, held in ((seen.mod, cell.mod), (seen.create, cell.create)) if at and held is None]
    if told_at and max(told_at) > most:
        return Wrong(f"{seen.key} is from before revision {most + 1}, and it saw revision {max(told_at)} of it")
    return None


def _put(view: View, part: Put, following: int, row: int) -> Wrong | None:
    before = view.get(part.key)
    if part.lease and part.lease in view.store.dead:
        return Wrong(f"lease {part.lease} was gone")
    if before is None and (part.ignore_value or part.ignore_lease):
        return Wrong(f"{part.key} was absent, and a put with ignore_value or ignore_lease was done")
    if part.previous is not None:
        wrong = _told(part.previous, before, view.revision, view.store.most)
        if wrong is not None:
            return wrong
    value = before.value if before is not None and part.ignore_value else part.value
    lease = before.lease if before is not None and part.ignore_lease else part.lease
    if before is None:
        view.own[part.key] = Cell(value, following, following, 1, lease, row)
    else:
        version = None if before.version is None else before.version + 1
        view.own[part.key] = Cell(value, following, before.create, version, lease, row)
    return None


def _remove(view: View, part: Remove) -> Wrong | None:
    there = dict(view.within(part.key, part.end))
    if part.deleted is not None and part.deleted != len(there):
        return Wrong(f"{len(there)} keys were there, and it deleted {part.deleted}", _rows(there.values()))
    if part.previous is not None:
        for seen in part.previous:
            wrong = _told(seen, there.get(seen.key), view.revision, view.store.most)
            if wrong is not None:
                return wrong
    for key in there:
        view.own[key] = None
    return None


def _rows(cells: Iterable[Cell]) -> tuple[int, ...]:
    return tuple(cell.row for cell in cells)[:4]
