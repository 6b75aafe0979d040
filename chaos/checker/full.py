"""Histories with more than the columns hold: the exact form of every operation, and the verdict of the replay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from chaos.checker.actions import UNTOLD, Action, Compare, Part, Put, Read, Remove, Seen, Untold, Value
from chaos.checker.model import NONE, NULL, History, Kind, Outcome
from chaos.checker.model import Part as Columned
from chaos.checker.replay import LATE, Answer, Op, Result, World, replay
from chaos.checker.store import FAR, Cell, Store
from chaos.checker.violation import Violation, violation
from chaos.checker.watches import Told


def judge(history: History, told: Iterable[Told], *, deadline: float, places: int) -> tuple[Result, Violation | None]:
    """Look for an order of all operations; with the violation if there is none.

    `told` are writes known from watches or logs; they count where all answers carry revisions.
    """
    ops = operations(history)
    learned = learn(history, ops)
    if isinstance(learned, Violation):
        return Result(Answer.NO), learned
    meta = history.meta
    world = World(
        meta.base_revision,
        meta.closed_world,
        meta.base_revision if meta.base_known else FAR,
        learned,
        history.keys,
        claims(history, ops, told),
    )
    result = replay(ops, world, deadline=deadline, places=places)
    if result.answer != Answer.NO:
        return result, None
    return result, _explained(history, result)


def _explained(history: History, result: Result) -> Violation:
    if result.row < 0:
        return violation(history, "no order exists", "No order of these operations explains all their answers.", [])
    row = result.row
    at = f"At revision {history.revision[row]}, " if history.revision[row] >= 0 else "In the longest order found, "
    rows = [row, *(one for one in result.rows if one >= 0)]
    key = int(history.key[row]) if history.key[row] >= 0 else None
    return violation(history, "no order exists", f"{at}{result.why}.", rows, key)


def operations(history: History) -> list[Op]:
    """Everything that says something, in exact form."""
    ops: list[Op] = []
    for row in np.flatnonzero(history.outcome != Outcome.FAIL).tolist():
        must = bool(history.outcome[row] == Outcome.OK)
        action = history.actions.get(row) or columned(history, row, ok=must)
        ret = min(int(history.ret[row]), LATE)
        revision = int(history.revision[row]) if must else NONE
        if must or action.writes:
            serial = bool(history.serializable[row])
            ops.append(Op(row, int(history.invoke[row]), ret, revision, must, action, serial))
    return ops


def columned(history: History, row: int, *, ok: bool) -> Action:  # noqa: PLR0911 - a table of kinds
    """The exact form of an operation that the columns hold whole."""
    kind = Kind(int(history.kind[row]))
    name = history.keys[history.key[row]] if history.key[row] >= 0 else ""
    value, count = history.values[history.value[row]], int(history.count[row])
    lease = history.leases[history.lease[row]] if history.lease[row] >= 0 else ""
    word = kind.name.lower()
    if kind == Kind.PUT:
        return Action(then=(Put(name, value, lease),), kind=word)
    if kind == Kind.DELETE:
        return Action(then=(Remove(name, deleted=count if ok and count >= 0 else None),), kind=word)
    if kind == Kind.GET:
        seen = () if value is None else (Seen(name, value, _told(int(history.mod[row]))),)
        return Action(then=(Read(name, kvs=seen if ok else None),), kind=word)
    if kind == Kind.CAS:
        guard = Compare(name, "value", "=", history.values[history.expect[row]])
        return Action((guard,), (Put(name, value, lease),), succeeded=bool(count) if ok else None, kind=word)
    if kind == Kind.TXN:
        return _txn(history, row, ok=ok)
    if kind == Kind.RANGE:
        return _range(history, row)
    return Action(
        kind=word,
        grant=lease if kind == Kind.LEASE_GRANT else "",
        revoke=lease if kind == Kind.LEASE_REVOKE else "",
    )


def _told(mod: int) -> int | None:
    return mod if mod > 0 else None


def _range(history: History, row: int) -> Action:
    found = history.ranges.get(row)
    if found is None:
        return Action(kind="range")
    kvs = tuple(Seen(history.keys[k], history.values[v], _told(mod)) for k, (v, mod) in found.found.items())
    return Action(then=(Read(found.start, found.end, kvs=kvs),), kind="range")


def _txn(history: History, row: int, *, ok: bool) -> Action:
    txn, done = history.txns[row], bool(history.count[row])
    compares = tuple(Compare(history.keys[key], "value", "=", history.values[value]) for key, value in txn.compare)
    parts = tuple(_part(history, part, ok=ok and done) for part in txn.parts)
    return Action(compares, parts, succeeded=done if ok else None, kind="txn")


def _part(history: History, part: Columned, *, ok: bool) -> Part:
    name, value = history.keys[part.key], history.values[part.value]
    if part.kind == Kind.PUT:
        return Put(name, value, history.leases[part.lease] if part.lease >= 0 else "")
    if part.kind == Kind.DELETE:
        return Remove(name, deleted=part.deleted if ok and part.deleted >= 0 else None)
    seen = () if value is None else (Seen(name, value, _told(part.mod)),)
    return Read(name, kvs=seen if ok else None)


def sights(ops: Iterable[Op]) -> Iterable[tuple[Op, Seen]]:
    """Every key that an acknowledged operation tells of."""
    for op in ops:
        for part in op.action.branch() if op.must and not op.action.answer else ():
            if isinstance(part, Read):
                told = part.kvs or ()
            elif isinstance(part, Remove):
                told = part.previous or ()
            else:
                told = () if part.previous is None else (part.previous,)
            yield from ((op, seen) for seen in told if seen.value is not None)


def learn(history: History, ops: Sequence[Op]) -> dict[str, Cell] | Violation:
    """Initial keys with what meta and reads of them tell; a Violation when two tell different things.

    What has a mod revision up to the base is an initial key, as it was throughout.
    """
    meta = history.meta
    names = ("mod_revision", "create_revision", "version", "lease")
    held: dict[str, list[int | str | None]] = {}
    for key in history.initial:
        facts = history.facts.get(key, {})
        lease = facts.get("lease")
        held[history.keys[key]] = [
            *(facts.get(name) for name in names[:3]),
            lease if lease is None else str(lease or ""),
        ]
    rows: dict[tuple[str, int], int] = {}
    for op, seen in sights(ops) if meta.base_known else ():
        facts_ = held.get(seen.key)
        if facts_ is None or seen.mod is None or seen.mod > meta.base_revision:
            continue
        for n, told in enumerate((seen.mod, seen.create, seen.version, seen.lease)):
            if told is None:
                continue
            if facts_[n] is None:
                facts_[n] = told
                rows[seen.key, n] = op.row
            elif facts_[n] != told:
                what = names[n].replace("_", " ")
                why = f"{seen.key} had not been written since the beginning: its {what} was {facts_[n]}, and is {told}."
                return violation(history, "mod revision", why, [rows.get((seen.key, n), NONE), op.row])
    cells: dict[str, Cell] = {}
    for key, value in history.initial.items():
        mod, create, version, lease = held[history.keys[key]]
        cells[history.keys[key]] = Cell(
            history.values[value], _int(mod), _int(create), _int(version), None if lease is None else str(lease)
        )
    return cells


def _int(number: int | str | None) -> int | None:
    return None if number is None else int(number)


def claims(history: History, ops: Sequence[Op], told: Iterable[Told]) -> dict[int, dict[str, Value | Untold]]:
    """What was seen as written at revisions that no acknowledged operation took."""
    base = history.meta.base_revision
    taken = {op.revision for op in ops if op.must and op.takes}
    found: dict[int, dict[str, Value | Untold]] = {}

    def add(at: int | None, key: str, value: Value | Untold) -> None:
        if at is None or at <= base or at in taken:
            return
        here = found.setdefault(at, {})
        if here.get(key, UNTOLD) is UNTOLD:
            here[key] = value

    for _, seen in sights(ops):
        add(seen.mod, seen.key, seen.value)
        if seen.create != seen.mod:
            add(seen.create, seen.key, UNTOLD)
    for op in ops:
        for one in op.action.compares if op.must and op.action.succeeded else ():
            if one.result == "=" and one.target in ("mod_revision", "create_revision"):
                add(int(one.operand or 0), one.key, UNTOLD)
    numbered = all(op.revision >= 0 or op.action.answer for op in ops if op.must)
    for event in told if numbered else ():
        value = None if event.value == NULL else history.values[event.value]
        add(event.revision, history.keys[event.key], value)
    return found


def written(history: History, store: Store) -> dict[int, dict[int, tuple[int, int]]]:
    """All that was written, by revision: key -> (value, row)."""
    keys = {name: n for n, name in enumerate(history.keys)}
    values = {value: n for n, value in enumerate(history.values)}
    found: dict[int, dict[int, tuple[int, int]]] = {}
    for name, past in store.past.items():
        for at, cell in past:
            row = NONE if cell is None else cell.row
            found.setdefault(at, {})[keys[name]] = (NULL if cell is None else values.get(cell.value, NONE), row)
    return found
