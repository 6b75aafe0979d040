"""Is there an order of actions that the machine explains? Along the revisions, with a choice only where they leave one.

Acknowledged operations with a revision form a chain: by revision, the write before what was answered at it. That real
time agrees with it is checked before (`order.check_order`). The rest is free: operations without a revision (errors for
answers, others' recordings), compactions, unknown outcomes, expiries, and in an open world others' revisions. A free
operation has a place in the chain after all that had returned before it and before all that was invoked after it.

Depth first; a place that led nowhere is remembered when it is left. What takes no choice away is taken at once.
A revision that somebody saw named (`Claims`) can only be that of a write which leaves what was seen.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from chaos.checker.actions import UNTOLD, Action, Put, Read, Remove, Value
from chaos.checker.actions import Untold as Untold_
from chaos.checker.store import Cell, Done, Store, Wrong, outcomes

NONE = -1
LATE = 2**62


class Answer(Enum):
    """Whether an order exists."""

    YES = "yes"
    NO = "no"
    LIMIT = "limit"


@dataclass(slots=True)
class Op:
    """One operation; `ret` is LATE when it never returned."""

    row: int
    invoke: int
    ret: int
    revision: int
    must: bool
    action: Action
    serializable: bool = False
    low: int = 0
    """Of a free one: how much of the chain comes before it at least."""
    high: int = LATE
    head: int = 0
    """It comes at this revision or later."""

    @property
    def takes(self) -> bool:
        """Whether it certainly takes a revision."""
        action = self.action
        return not action.answer and any(
            isinstance(part, Put) or (isinstance(part, Remove) and bool(part.deleted)) for part in action.branch()
        )


Claims = Mapping[int, Mapping[str, Value | Untold_]]
"""Revision -> key -> value that was seen as written there (None: deleted; UNTOLD: some value)."""


@dataclass(slots=True)
class World:
    """Where the store began, and who else writes."""

    base: int
    closed: bool
    most: int
    """Highest revision that an initial key may have."""
    initial: Mapping[str, Cell]
    names: Sequence[str]
    claims: Claims


@dataclass(slots=True)
class Result:
    """The answer; for NO the operation at which the longest order stops, why, and who had written what it saw."""

    answer: Answer
    row: int = NONE
    why: str = ""
    rows: tuple[int, ...] = ()
    store: Store | None = None
    """Of YES: the store at the end, with all it held before."""
    forced: bool = True
    """Whether nothing is open of what was written: then what the store held is what it certainly held."""


class Move(NamedTuple):
    """One way to go on."""

    kind: str
    number: int = NONE
    done: Done = Done({})
    lease: str = ""


@dataclass(slots=True)
class Frame:
    """A place with a choice."""

    moves: Iterator[Move]
    mark: tuple[int, int, int, frozenset[str]]
    at: tuple[int, int, int]
    key: object = None


def replay(ops: Sequence[Op], world: World, *, deadline: float, places: int) -> Result:
    """Look for an order until the monotonic `deadline`, with at most `places` remembered."""
    return _Replay(ops, world, deadline, places).run()


@dataclass(slots=True)
class _Best:
    done: int = -1
    row: int = NONE
    why: str = ""
    rows: tuple[int, ...] = ()


class _Replay:
    def __init__(self, ops: Sequence[Op], world: World, deadline: float, places: int) -> None:
        self.world, self.deadline, self.places = world, deadline, places
        self.store = Store(world.base, world.initial, world.names, most=world.most)
        must = [op for op in ops if op.must and not (op.serializable and 0 <= op.revision < world.base)]
        on_chain = [op for op in must if op.revision >= 0 and not op.action.compact]
        self.chain = sorted(on_chain, key=lambda op: (op.revision, _rank(op), op.invoke, op.row))
        self.free = sorted((op for op in must if op.revision < 0 or op.action.compact), key=lambda op: op.invoke)
        self.unknown = sorted((op for op in ops if not op.must and op.action.writes), key=lambda op: op.invoke)
        self.writes_at = {op.revision for op in self.chain if op.takes}
        self.numbered = bool(world.claims) or any(_mentions(op) for op in must)
        last = max([world.base, *(_mentioned(op) for op in must), *world.claims])
        self.top = last + len(self.free) + len(self.unknown)
        self.closed = world.closed or not self.numbered
        self._bounds()
        self.first = self._classes()
        self.looks_back = any(
            (op.serializable and op.revision < 0) or any(isinstance(p, Read) and p.at for p in op.action.branch())
            for op in must
        )
        self.claimed = sorted(world.claims)
        self.at, self.taken, self.used = 0, 0, 0
        self.best = _Best()
        self.certain = not (self.unknown or any(op.takes for op in self.free) or any(_leased(op) for op in must))

    def _bounds(self) -> None:
        """Where in the chain what has no revision may come."""
        sure = [(op, n) for n, op in enumerate(self.chain) if not op.serializable]
        by_return = sorted((op.ret, n) for op, n in sure)
        by_invoke = sorted((op.invoke, n) for op, n in sure)
        returns, invokes = [ret for ret, _ in by_return], [invoke for invoke, _ in by_invoke]
        highest: list[int] = []
        lowest = [LATE] * (len(by_invoke) + 1)
        for _, n in by_return:
            highest.append(max(n, highest[-1] if highest else n))
        for k in range(len(by_invoke) - 1, -1, -1):
            lowest[k] = min(by_invoke[k][1], lowest[k + 1])
        shown = sorted((op.ret, op.revision) for op in self.chain if op.serializable)
        shown_at = [ret for ret, _ in shown]
        most: list[int] = []
        for _, revision in shown:
            most.append(max(revision, most[-1] if most else revision))
        for op in (*self.free, *self.unknown):
            n = bisect_left(returns, op.invoke)
            op.low = highest[n - 1] + 1 if n else 0
            n = bisect_left(shown_at, op.invoke)
            op.head = most[n - 1] if n else 0
            if op.must:
                op.high = lowest[bisect_left(invokes, op.ret + 1)]
            if op.must and op.revision >= 0:
                beyond = bisect_left(self.chain, op.revision + 1, key=lambda other: other.revision)
                op.high = min(op.high, beyond if beyond < len(self.chain) else LATE)

    def _classes(self) -> list[int]:
        """Of each unknown one, the one before it that does the same: that one can do all it can."""
        last: dict[Action, int] = {}
        before: list[int] = []
        for n, op in enumerate(self.unknown):
            before.append(last.get(op.action, NONE))
            last[op.action] = n
        return before

    def run(self) -> Result:
        """Depth first."""
        frames: list[Frame] = []
        failed: set[object] = set()
        steps = 0
        while True:
            steps += 1
            if steps & 255 == 0 and (time.monotonic() > self.deadline or len(failed) > self.places):
                return Result(Answer.LIMIT)
            state = self._forced()
            if state is True:
                return Result(Answer.YES, store=self.store, forced=self.certain)
            if state is None:
                key = self._key() if failed else None
                if key is None or key not in failed:
                    moves = iter(list(self._moves()))
                    frames.append(Frame(moves, self.store.mark(), (self.at, self.taken, self.used), key))
            if not self._next(frames, failed):
                best = self.best
                return Result(Answer.NO, best.row, best.why, best.rows)

    def _next(self, frames: list[Frame], failed: set[object]) -> bool:
        """Make the next move of the last place that has one; False: there is none."""
        while frames:
            frame = frames[-1]
            self.store.undo(frame.mark)
            self.at, self.taken, self.used = frame.at
            move = next(frame.moves, None)
            if move is None:
                failed.add(self._key() if frame.key is None else frame.key)
                frames.pop()
                continue
            self._make(move)
            return True
        return False

    def _key(self) -> object:
        store = self.store
        past: object = None
        if self.looks_back:
            past = tuple(sorted((key, tuple(held)) for key, held in store.past.items() if held))
        cells = frozenset(store.cells.items())
        return self.at, self.taken, self.used, store.head, store.floor, store.dead, cells, past

    def _stuck(self, op: Op, why: str, rows: tuple[int, ...] = ()) -> None:
        done = self.at + self.taken.bit_count()
        if done > self.best.done:
            self.best = _Best(done, op.row, why, rows)

    def _forced(self) -> bool | None:
        """Go on as long as there is one way: True at the end, False where there is none, None at a choice."""
        chain, store = self.chain, self.store
        everything = (1 << len(self.free)) - 1
        while True:
            if self.at == len(chain) and self.taken == everything:
                return True
            if self.taken != everything:
                open_ = self._open()
                if self._at_once(open_):
                    continue
                if open_ or self._overdue():
                    return None
            if self.at == len(chain):
                return None
            op = chain[self.at]
            if op.revision > store.head + 1 or (op.revision > store.head and not op.takes):
                return None
            done = self._chained(op)
            if done is None:
                return False
            self._take(op, done)
            self.at += 1

    def _chained(self, op: Op) -> Done | None:  # noqa: PLR0911 - one reason after the other
        """What the next of the chain does, now that its revision has come; None: it contradicts."""
        found = outcomes(self.store, op.action, op.row, at=op.revision if op.serializable else None)[0]
        if isinstance(found, Wrong):
            self._stuck(op, found.why, found.rows)
            return None
        takes = bool(found.changes)
        if op.revision < self.store.head and not op.serializable:
            self._stuck(op, f"the store was at revision {self.store.head} already")
            return None
        if takes and op.revision == self.store.head:
            self._stuck(op, f"it changed the store, so it took a revision, but was answered revision {op.revision}")
            return None
        if not takes and op.revision > self.store.head:
            self._stuck(op, f"it changed nothing, and was answered revision {op.revision}")
            return None
        if takes and op.action.revoke and self._shown_before(op):
            self._stuck(op, f"it deleted keys, so it took revision {op.revision}, which had been answered before")
            return None
        if takes and not self._meets(found.changes):
            self._stuck(op, f"others saw something else written at revision {op.revision}")
            return None
        return found

    def _shown_before(self, op: Op) -> bool:
        """Whether an answer had shown its revision before it was invoked; of all else that is known beforehand."""
        n = self.at + 1
        while n < len(self.chain) and self.chain[n].revision == op.revision:
            if self.chain[n].ret < op.invoke:
                return True
            n += 1
        return False

    def _meets(self, changes: Mapping[str, Cell | None]) -> bool:
        """Whether a write at the next revision leaves what was seen of it."""
        for key, value in self.world.claims.get(self.store.head + 1, {}).items():
            if key not in changes:
                return False
            cell = changes[key]
            if value is None and cell is not None:
                return False
            if value is not None and (cell is None or (value is not UNTOLD and cell.value != value)):
                return False
        return True

    def _take(self, op: Op, done: Done) -> None:
        store = self.store
        if done.changes:
            store.write(done.changes)
        store.floor = max(store.floor, done.floor)
        if op.action.revoke:
            store.dead |= {op.action.revoke}
        elif op.action.grant:
            store.dead -= {op.action.grant}

    def _open(self) -> list[int]:
        """Free ones that nothing not taken has to precede."""
        found, least, n = [], LATE, (~self.taken & (self.taken + 1)).bit_length() - 1
        while n < len(self.free):
            op = self.free[n]
            if op.invoke > least or op.low > self.at:
                break
            if not self.taken >> n & 1:
                least = min(least, op.ret)
                if op.head <= self.store.head and op.revision in (NONE, self.store.head):
                    found.append(n)
            n += 1
        return [n for n in found if self.free[n].invoke <= least]

    def _overdue(self) -> bool:
        """Whether one that is not taken yet has to come before the next of the chain."""
        n = (~self.taken & (self.taken + 1)).bit_length() - 1
        while n < len(self.free) and self.free[n].low <= self.at:
            if not self.taken >> n & 1 and self.free[n].high <= self.at:
                return True
            n += 1
        return False

    def _ways(self, op: Op) -> list[Done | Wrong]:
        if not op.serializable:
            return outcomes(self.store, op.action, op.row)
        moments = range(self.store.head, self.world.base - 1, -1)
        return [found for at in moments for found in outcomes(self.store, op.action, op.row, at=at)]

    def _at_once(self, open_: list[int]) -> bool:
        """Take one that takes no choice away."""
        for n in open_:
            op = self.free[n]
            if op.action.revoke or (op.action.grant and op.action.grant in self.store.dead):
                continue
            for found in self._ways(op):
                done = isinstance(found, Done) and not found.changes and found.floor <= self.store.floor
                if done and (not op.action.compact or op.action.answer):
                    self.taken |= 1 << n
                    return True
        return False

    def _moves(self) -> Iterator[Move]:
        """Every way to go on, the likeliest first."""
        store, following = self.store, self.store.head + 1
        late = self._overdue()
        open_ = self._open()
        held = any(self.free[n].revision == store.head for n in open_)  # it has to come before the next revision
        if not late and self.at < len(self.chain):
            op = self.chain[self.at]
            near = op.revision == store.head or (op.revision == following and not held)
            if near and (op.takes or op.action.revoke or op.revision == store.head):
                found = self._chained(op)
                if found is not None:
                    yield Move("chain", done=found)
        ways = [(n, found) for n in open_ for found in self._ways(self.free[n]) if isinstance(found, Done)]
        for n in open_:
            wrong = next((found for found in self._ways(self.free[n]) if isinstance(found, Wrong)), None)
            if wrong is not None:
                self._stuck(self.free[n], wrong.why, wrong.rows)
        waits = self.at < len(self.chain) and self.chain[self.at].revision <= store.head
        may = not held and not waits and following not in self.writes_at
        yield from (Move("free", n, found) for n, found in ways if found.changes and may and self._meets(found.changes))
        if may and not self.closed and store.head < self.top and following not in self.world.claims:
            yield Move("foreign", self._far())
        if may:
            for lease in sorted(store.leases()):
                attached = store.attached(lease)
                if self._meets(attached):
                    yield Move("expiry", done=Done(attached), lease=lease)
            yield from self._unknown()
        yield from (Move("free", n, found) for n, found in ways if not found.changes)
        if self.at < len(self.chain) and not late:
            op = self.chain[self.at]
            if op.revision > store.head:
                missing = f"nobody is left that could have taken revision {following}"
                self._stuck(op, missing if self.closed else f"{missing} and left what was seen of it")

    def _unknown(self) -> Iterator[Move]:
        """Operations of unknown outcome that may come now and change something."""
        for n, op in enumerate(self.unknown):
            if op.low > self.at:
                break
            before = self.first[n]
            if self.used >> n & 1 or op.head > self.store.head or (before >= 0 and not self.used >> before & 1):
                continue
            if any(not self.taken >> k & 1 and other.ret < op.invoke for k, other in enumerate(self.free)):
                continue
            for found in outcomes(self.store, op.action, op.row):
                if isinstance(found, Done) and found.changes and self._meets(found.changes):
                    yield Move("unknown", n, found)

    def _far(self) -> int:
        """How far others' revisions go at least: over all of them where nothing else can come between."""
        store = self.store
        everything = self.taken == (1 << len(self.free)) - 1
        idle = everything and not store.leases() and self.at < len(self.chain)
        if not idle or any(op.low <= self.at and not self.used >> n & 1 for n, op in enumerate(self.unknown)):
            return store.head + 1
        op = self.chain[self.at]
        goal = op.revision - (1 if op.takes or op.action.revoke else 0)
        n = bisect_left(self.claimed, store.head + 1)
        if n < len(self.claimed):
            goal = min(goal, self.claimed[n] - 1)
        return max(goal, store.head + 1)

    def _make(self, move: Move) -> None:
        store = self.store
        if move.kind == "chain":
            self._take(self.chain[self.at], move.done)
            self.at += 1
        elif move.kind == "free":
            self._take(self.free[move.number], move.done)
            self.taken |= 1 << move.number
        elif move.kind == "foreign":
            store.head = move.number
        elif move.kind == "expiry":
            store.write(move.done.changes)
            store.dead |= {move.lease}
        else:
            self._take(self.unknown[move.number], move.done)
            self.used |= 1 << move.number


def _rank(op: Op) -> int:
    return 0 if op.takes else 1 if op.action.revoke else 2


def _leased(op: Op) -> bool:
    return any(isinstance(part, Put) and part.lease for part in op.action.branch())


def _mentioned(op: Op) -> int:
    """The highest revision that an operation names."""
    action = op.action
    named = [op.revision, action.compact]
    named += [int(one.operand or 0) for one in action.compares if one.target in ("mod_revision", "create_revision")]
    for part in (*action.then, *action.orelse):
        if isinstance(part, Read):
            named += [part.at, *part.bounds]
            told = part.kvs or ()
        else:
            told = part.previous or () if isinstance(part, Remove) else (part.previous,) if part.previous else ()
        named += [at or 0 for seen in told for at in (seen.mod, seen.create)]
    return max(named)


def _mentions(op: Op) -> bool:
    return _mentioned(op) > 0
