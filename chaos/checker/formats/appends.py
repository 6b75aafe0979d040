"""Histories with appends: is there an order of puts, gets and appends of strings, key by key?

The checker's machine stores values, it does not make new ones of old ones, so this is a search of its own, after
Wing and Gong (1993) and Lowe (2017): depth-first, a place (what is done, the string) is visited once. Two short cuts:
a get that fits is taken at once, as it changes nothing; and where no put is left, the string can only grow, so it has
to begin every string that is still to be read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from chaos.checker.formats.foreign import Foreign, Operation
from chaos.checker.model import NEVER
from chaos.checker.search import Answer, Limit
from chaos.checker.verdict import Report, Verdict
from chaos.checker.violation import Violation

SHOWN = 12


@dataclass(frozen=True, slots=True)
class Call:
    """One operation on the key; `value` is what it wrote, appended, or read (absent: the empty string)."""

    row: int
    op: str
    value: str
    invoke: int
    ret: int
    must: bool

    def apply(self, state: str) -> str | None:
        """The string after it; None when it read another one."""
        if self.op == "append":
            return state + self.value
        if self.op == "put":
            return self.value
        return state if state == self.value else None


def check_appends(foreign: Foreign, *, seconds: float = 60.0, places: int = 2_000_000) -> Report:
    """Decide a history of puts, gets, deletes and appends, each key by itself (linearizability is local)."""
    started = time.monotonic()
    limit = Limit(started + seconds, places)
    keys: dict[str, list[Call]] = {}
    for row, op in enumerate(foreign.operations):
        call = _call(row, op)
        if call is not None:
            keys.setdefault(op["key"], []).append(call)
    verdict, found, reason = Verdict.LINEARIZABLE, None, ""
    first = foreign.meta.get("initial", {})
    for key, those in sorted(keys.items(), key=lambda item: len(item[1])):
        answer, order, stuck = _search(
            sorted(those, key=lambda one: (one.invoke, one.ret)), first.get(key) or "", limit
        )
        if answer == Answer.NO:
            verdict, found = Verdict.VIOLATION, _violation(foreign, key, order, stuck)
            break
        if answer == Answer.LIMIT:
            which = "time" if limit.passed() else "memory"
            verdict, reason = Verdict.UNKNOWN, f"the search reached its limit of {which}; give it more with --timeout"
    names = {op["key"] for op in foreign.operations}
    return Report(verdict, len(foreign.operations), len(names), time.monotonic() - started, found, reason)


def _call(row: int, op: Operation) -> Call | None:
    """An operation for the search; None when it says nothing."""
    outcome, kind = op["outcome"], op["op"]
    if outcome == "fail" or (outcome == "unknown" and kind == "get"):
        return None
    ret = NEVER if outcome == "unknown" else op["return_ns"]
    value = op.get("value")
    return Call(
        row,
        "put" if kind == "delete" else kind,
        "" if value is None else str(value),
        op["invoke_ns"],
        ret,
        outcome == "ok",
    )


Place = tuple[int, str]


def _search(calls: list[Call], state: str, limit: Limit) -> tuple[Answer, list[int], list[int]]:
    """Answer, rows of the longest order found, rows of those that could not be next then."""
    must = sum(1 << n for n, one in enumerate(calls) if one.must)
    puts = sum(1 << n for n, one in enumerate(calls) if one.op == "put")
    reads = [(1 << n, one.value) for n, one in enumerate(calls) if one.op == "get"]
    seen: set[Place] = {(0, state)}
    path: list[int] = []
    best: list[int] = []
    far: Place = (0, state)
    stack = [_moves(calls, 0, state, puts, reads)]
    places: list[Place] = [(0, state)]
    while stack:
        done, state = places[-1]
        if done & must == must:
            return Answer.YES, path, []
        for n, after in stack[-1]:
            place = (done | 1 << n, after)
            if place not in seen:
                seen.add(place)
                path.append(calls[n].row)
                places.append(place)
                stack.append(_moves(calls, *place, puts, reads))
                break
        else:
            if len(path) > len(best) or not best:
                best, far = path[:], places[-1]
            stack.pop()
            places.pop()
            if path:
                path.pop()
        if len(seen) > limit.places or (len(seen) & 255 == 0 and limit.passed()):
            return Answer.LIMIT, best, []
    return Answer.NO, best, [calls[n].row for n in _enabled(calls, far[0])]


def _enabled(calls: list[Call], done: int) -> list[int]:
    """Those not done that nothing not done precedes."""
    found: list[int] = []
    least = NEVER
    first = (~done & (done + 1)).bit_length() - 1  # the lowest that is not done
    for n in range(first, len(calls)):
        one = calls[n]
        if one.invoke > least:
            break
        if not done >> n & 1:
            found.append(n)
            least = min(least, one.ret)
    return [n for n in found if calls[n].invoke <= least]


def _moves(
    calls: list[Call], done: int, state: str, puts: int, reads: list[tuple[int, str]]
) -> Iterator[tuple[int, str]]:
    """What may come next, and the string after it."""
    if not puts & ~done and any(not bit & done and not value.startswith(state) for bit, value in reads):
        return
    later: list[tuple[int, str]] = []
    for n in _enabled(calls, done):
        after = calls[n].apply(state)
        if after is None:
            continue
        if calls[n].op == "get":
            yield n, after
            return
        later.append((n, after))
    later.sort(key=lambda move: (not calls[move[0]].must, calls[move[0]].ret))
    yield from later


def _violation(foreign: Foreign, key: str, order: list[int], stuck: list[int]) -> Violation:
    rows = [*order[-5:], *stuck[:SHOWN]]
    ops = [foreign.operations[row] for row in rows]
    times = [op["invoke_ns"] for op in ops] + [op["return_ns"] for op in ops if op["return_ns"] is not None]
    return Violation(
        "no order exists",
        f"The longest order found explains {len(order)} operations on key {key}; none of the last ones can be next.",
        key,
        tuple(_said(foreign, row) for row in rows),
        tuple(foreign.lines[row] for row in rows),
        (min(times), max(times)) if times else None,
    )


def _said(foreign: Foreign, row: int) -> str:
    op = foreign.operations[row]
    if op["op"] == "get":
        what = f"get {op['key']} -> {'nothing' if op['value'] is None else repr(op['value'])}"
    else:
        what = f"{op['op']} {op['key']} {op.get('value')!r}"
    when = f"{op['invoke_ns']}..{'never returned' if op['return_ns'] is None else op['return_ns']} ns"
    return f"line {foreign.lines[row]}: process {op['process']}, {what} ({when})"
