"""Search path: is there an order? Depth-first with memory, after Wing–Gong and Lowe, over the machine of `steps`.

Wing & Gong, "Testing and verifying concurrent objects" (1993); Lowe, "Testing for linearizability" (2017). On top of
them, each with its reason:

- An operation that is possible now and changes nothing is taken at once: taking it never takes a choice away.
- Operations of unknown outcome with one signature are taken in the order of their invocation: an earlier one can do
  all that a later one can.
- One of unknown outcome, or an expiry, is taken only when it makes something possible: one of those acknowledged steps
  that may be the next to touch its key, or a further unknown one that waits for its value. Where what comes next
  overwrites it unseen, or would have been possible anyway, leaving it out is as good; but not with revisions where it
  stays to be seen (by a cas that fails on either), as later no revision may be left for it, nor in a closed world
  with revisions, where it may have to fill a gap.
- A place reached before with the same acknowledged operations, the same store, and no more unknown ones used up, needs
  no second visit.

With revisions the order is a chain: those that carry one are taken in its order, and an operation without takes the
lowest revision nobody mentions, or one that a read mentioned as that of its value.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from operator import le
from typing import NamedTuple

from chaos.checker.model import NONE, NULL, Kind
from chaos.checker.specification import ANY, EMPTY, FAR, Cell, Cells, Step, apply, drop_lease, stamped


class Answer(Enum):
    """Whether an order exists."""

    YES = "yes"
    NO = "no"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class World:
    """Where the store began and who else writes."""

    base_revision: int = 1
    closed: bool = False
    base_known: bool = True
    """Whether an initial key's mod revision is at most the base."""
    taken: frozenset[int] = frozenset()
    """Revisions known to be taken by operations outside of this search."""


@dataclass(frozen=True, slots=True)
class Limit:
    """When to give up: a monotonic deadline in s, and the number of remembered places (about 400 bytes each)."""

    deadline: float
    places: int = 2_000_000

    def passed(self) -> bool:
        """Whether time is up."""
        return time.monotonic() > self.deadline


@dataclass(slots=True)
class Result:
    """The answer; `stuck` are the operations of which none could come next after the longest order found."""

    answer: Answer
    order: list[int] = field(default_factory=list)
    """Rows of the order found, or of the longest prefix found."""
    stuck: list[int] = field(default_factory=list)
    places: int = 0


class Node(NamedTuple):
    """A place in the search: `low` acknowledged steps are all taken, `mask` says which after those are, too."""

    low: int
    mask: int
    revision: int
    cells: Cells
    used: tuple[int, ...]
    fresh: int
    """Keys (bits) whose value is of an unknown write that nobody has seen yet."""
    dead: frozenset[int]


class Traits(NamedTuple):
    """Keys (bits) that a step overwrites without a look, names at all, or leaves unseen."""

    blind: int
    touched: int
    unseen: int


def search(steps: Sequence[Step], initial: dict[int, int], world: World, limit: Limit) -> Result:
    """Look for an order of `steps` that the machine explains, begun with `initial` (key -> value)."""
    return _Search(steps, initial, world, limit).run()


class _Search:
    def __init__(self, steps: Sequence[Step], initial: dict[int, int], world: World, limit: Limit) -> None:
        self.world, self.limit = world, limit
        numbers = {key: n for n, key in enumerate(sorted(set().union(*(one.keys for one in steps)) if steps else ()))}
        steps = [_renumber(one, numbers) for one in steps]
        self.must = sorted((one for one in steps if one.must), key=lambda one: (one.invoke, one.ret))
        self.numbered = any(one.revision >= 0 or any(part.mod >= 0 for part in one.parts) for one in self.must)
        self.strict = world.closed and self.numbered
        base = world.base_revision if self.numbered else 0
        cells = [EMPTY] * len(numbers)
        for key, value in initial.items():
            if key in numbers:
                cells[numbers[key]] = Cell(value, ANY - (base if world.base_known else FAR))
        self.classes = self._classes([one for one in steps if not one.must])
        self.writes_at = {one.revision for one in self.must if one.revision >= 0 and _surely_writes(one)}
        self.hints = self._hints()
        mentioned = {mod for mods in self.hints.values() for mod in mods}
        self.reserved = self.writes_at | mentioned | world.taken
        self.chain = sorted(
            (n for n in range(len(self.must)) if self.must[n].revision >= 0), key=lambda n: self.must[n].revision
        )
        self.start = Node(0, 0, base, tuple(cells), (0,) * len(self.classes), 0, frozenset())
        self.floor = self._floors()
        everything = (*self.must, *(one for group in self.classes for one in group))
        self.traits = {id(one): Traits(_blind(one), _touched(one), self._unseen(one)) for one in everything}
        self.touching: list[list[int]] = [[] for _ in numbers]
        for n, one in enumerate(self.must):
            for key in one.keys if one.revoke < 0 else range(len(numbers)):
                self.touching[key].append(n)
        self.awaited = {(g.key, g.value) for group in self.classes for g in group[0].guards if g.equal}
        self.leased = any(part.lease >= 0 for one in steps for part in one.parts)

    def _classes(self, unknown: list[Step]) -> list[list[Step]]:
        """Unknown steps by signature, each list by invocation; what nobody could have seen is left out."""
        read: set[tuple[int, int]] = set()
        vague: set[int] = set()
        for one in (*self.must, *unknown):
            for guard in (*one.guards, *one.refused):
                (read.add((guard.key, guard.value)) if guard.equal and not one.refused else vague.add(guard.key))
            for part in one.parts:
                if part.kind == Kind.GET:
                    read.add((part.key, part.value))
                elif part.kind == Kind.DELETE:
                    vague.add(part.key)
        classes: dict[object, list[Step]] = {}
        for one in sorted(unknown, key=lambda one: one.invoke):
            seen = (
                self.strict
                or one.revoke >= 0
                or any(
                    part.key in vague
                    or part.lease >= 0
                    or (part.key, part.value if part.kind == Kind.PUT else NULL) in read
                    for part in one.parts
                )
            )
            if seen:
                classes.setdefault(one.signature, []).append(one)
        return list(classes.values())

    def _unseen(self, one: Step) -> int:
        """The key (bit) that nobody has seen when this unknown step has just written it."""
        alone = not one.must and not self.strict and len(one.parts) == 1 and one.revoke < 0
        return 1 << one.parts[0].key if alone else 0

    def _hints(self) -> dict[tuple[int, int], list[int]]:
        """(key, value) -> mod revisions that somebody read with it."""
        hints: dict[tuple[int, int], set[int]] = {}
        for one in self.must:
            for part in one.parts:
                if part.kind == Kind.GET and part.mod >= 0 and part.value != NULL:
                    hints.setdefault((part.key, part.value), set()).add(part.mod)
        return {pair: sorted(mods) for pair, mods in hints.items()}

    def run(self) -> Result:
        """Depth-first; every place is remembered when it is entered."""
        seen: dict[tuple[object, ...], list[tuple[int, ...]]] = {}
        best: tuple[int, list[int], Node] = (-1, [], self.start)
        places = 0
        path: list[int] = []
        stack: list[tuple[Node, Iterator[tuple[int, Node]], int]] = [(self.start, self._moves(self.start), 0)]
        self._enter(seen, self.start)
        while stack:
            node, moves, keep = stack[-1]
            if node.low == len(self.must):
                return Result(Answer.YES, [self._row(move) for move in path], places=places)
            for move, after in moves:
                if self._enter(seen, after):
                    path.append(move)
                    stack.append((after, self._moves(after), len(path)))
                    places += 1
                    break
            else:
                done = node.low + node.mask.bit_count()
                if done > best[0]:  # a dead end further on than any before
                    best = (done, [self._row(move) for move in path], node)
                stack.pop()
                del path[max(keep - 1, 0) :]
            if places > self.limit.places or (places & 255 == 0 and self.limit.passed()):
                return Result(Answer.LIMIT, best[1], self._enabled_rows(best[2]), places)
        return Result(Answer.NO, best[1], self._enabled_rows(best[2]), places)

    @staticmethod
    def _enter(seen: dict[tuple[object, ...], list[tuple[int, ...]]], node: Node) -> bool:
        """Remember a place; False when one at least as good was there before."""
        key = (node.low, node.mask, node.revision, node.cells, node.fresh, node.dead)
        before = seen.get(key)
        if before is None:
            seen[key] = [node.used]
            return True
        used = node.used
        for one in before:
            if one == used or all(map(le, one, used)):
                return False
        before.append(node.used)
        return True

    def _row(self, move: int) -> int:
        """Row of a move: an acknowledged step by its number; an unknown one by -1 - row; an expiry is NONE's row."""
        return self.must[move].row if move >= 0 else -move - 2

    def _enabled(self, node: Node) -> tuple[list[int], int]:
        """Acknowledged steps not taken that nothing not taken precedes; and the least return among those not taken."""
        out: list[int] = []
        least = FAR
        n, mask = node.low, node.mask
        must = self.must
        while n < len(must) and must[n].invoke <= least:
            if not mask & 1:
                out.append(n)
                least = min(least, must[n].ret)
            n, mask = n + 1, mask >> 1
        return [n for n in out if must[n].invoke <= least], least

    def _enabled_rows(self, node: Node) -> list[int]:
        return [self.must[n].row for n in self._enabled(node)[0]]

    def _next_revision(self, node: Node) -> int:
        """Lowest revision among the steps not taken that carry one."""
        low, mask, chain = node.low, node.mask, self.chain
        at = self.floor[low]
        while at < len(chain) and (chain[at] < low or mask >> (chain[at] - low) & 1):
            at += 1
        return self.must[chain[at]].revision if at < len(chain) else FAR

    def _floors(self) -> list[int]:
        """For each number of steps taken from the front: the part of the chain that is done for sure."""
        floors, at = [], 0
        for low in range(len(self.must) + 1):
            while at < len(self.chain) and self.chain[at] < low:
                at += 1
            floors.append(at)
        return floors

    def _moves(self, node: Node) -> Iterator[tuple[int, Node]]:
        enabled, least = self._enabled(node)
        bound = self._next_revision(node) if self.numbered else 0
        later: list[tuple[int, Node]] = []
        for n in enabled:
            one = self.must[n]
            if one.revision > bound:
                continue
            for free, after in self._take(node, one, bound):
                taken = self._mark(after, n)
                if free:
                    yield n, taken
                    return
                later.append((n, taken))
        # dearest last: what is acknowledged has to come some time, the unknown may stay out
        later.sort(key=lambda move: self.must[move[0]].ret)
        yield from later
        for number, group in enumerate(self.classes):
            used = node.used[number]
            if used < len(group) and group[used].invoke <= least:
                count = (*node.used[:number], used + 1, *node.used[number + 1 :])
                for _, after in self._take(node, group[used], bound):
                    if self._useful(node, after):
                        yield -group[used].row - 2, after._replace(used=count)
        if self.leased:
            yield from self._expire(node, bound)

    def _useful(self, node: Node, after: Node) -> bool:
        """Whether a change that nobody acknowledged makes something possible that was not."""
        if self.strict:
            return True
        for key, cell in enumerate(after.cells):
            if cell == node.cells[key]:
                continue
            if (key, cell.value) in self.awaited or cell.lease >= 0:
                return True  # an unknown cas, or the expiry of that lease, may be what comes next
            for one in self._next_at(node, key):
                if len(one.keys) > 1 or one.revoke >= 0:
                    return True
                changed = apply(one, after.cells, after.dead)
                if changed is None:
                    continue
                same = apply(one, node.cells, node.dead)
                if same is None or (self.numbered and same[0][key] != changed[0][key]):
                    return True
        return False

    def _next_at(self, node: Node, key: int) -> Iterator[Step]:
        """Acknowledged steps not taken that may be the next to touch a key."""
        mine = self.touching[key]
        least = FAR
        for at in range(bisect_left(mine, node.low), len(mine)):
            one = self.must[mine[at]]
            if one.invoke > least:
                return
            if not node.mask >> (mine[at] - node.low) & 1:
                least = min(least, one.ret)
                yield one

    def _mark(self, node: Node, n: int) -> Node:
        mask = node.mask | 1 << (n - node.low)
        low = node.low
        while mask & 1:
            mask, low = mask >> 1, low + 1
        return Node(low, mask, node.revision, node.cells, node.used, node.fresh, node.dead)

    def _take(self, node: Node, one: Step, bound: int) -> Iterator[tuple[bool, Node]]:
        """Ways to do `one` now: (it is free, the place after it without the mark that it was taken)."""
        traits = self.traits[id(one)]
        if node.fresh & traits.blind:
            return
        result = apply(one, node.cells, node.dead)
        if result is None:
            return
        cells, wrote = result
        if not wrote and not one.must:
            return
        low, mask, revision, used, dead = node.low, node.mask, node.revision, node.used, node.dead
        if one.revoke >= 0:
            dead = dead | {one.revoke}
        elif one.grant >= 0:
            dead = dead - {one.grant}
        fresh = node.fresh & ~traits.touched | traits.unseen
        if not self.numbered:
            yield not wrote and dead == node.dead, Node(low, mask, revision, cells, used, fresh, dead)
        elif not wrote:
            revision = one.revision if one.revision >= 0 else node.revision
            if revision < node.revision or (revision > node.revision and (self.strict or revision in self.writes_at)):
                return
            free = revision == node.revision and dead == node.dead
            yield free, Node(low, mask, revision, cells, used, fresh, dead)
        else:
            for following, known in self._revisions(node, one, bound):
                after = stamped(one, cells, following if known else NONE)
                yield False, Node(low, mask, following, after, used, fresh, dead)

    def _revisions(self, node: Node, one: Step, bound: int) -> Iterator[tuple[int, bool]]:
        """Revisions that a write may take now, and whether it is to be remembered as mod revision."""
        following = node.revision + 1
        if one.revision >= 0:
            if one.revision == following or (one.revision > following and not self.strict):
                yield one.revision, True
            return
        least = max(node.revision, one.after)
        if self.strict:
            if following > least and self._open(following, least, bound):
                yield following, True
            return
        yield from ((h, True) for h in self._hinted(one) if self._open(h, least, bound))
        free = least + 1
        while free in self.reserved:
            free += 1
        if self._open(free, least, bound):
            yield free, False

    def _open(self, revision: int, now: int, bound: int) -> bool:
        return now < revision <= bound and revision not in self.writes_at and revision not in self.world.taken

    def _hinted(self, one: Step) -> list[int]:
        hints = [self.hints.get((part.key, part.value), []) for part in one.parts if part.kind == Kind.PUT]
        return hints[0] if len(hints) == 1 else sorted(set().union(*hints))

    def _expire(self, node: Node, bound: int) -> Iterator[tuple[int, Node]]:
        for lease in sorted({cell.lease for cell in node.cells if cell.lease >= 0} - node.dead):
            cells, _ = drop_lease(node.cells, lease)
            after = node._replace(cells=cells, dead=node.dead | {lease}, fresh=0)
            if not self._useful(node, after):
                continue
            if not self.numbered:
                yield NONE, after
                continue
            nothing = Step(NONE, 0, 0, NONE, must=False, guards=(), parts=())
            for revision, _known in self._revisions(node, nothing, bound):
                yield NONE, after._replace(revision=revision)


def _surely_writes(one: Step) -> bool:
    return any(part.kind == Kind.PUT or (part.kind == Kind.DELETE and part.count == 1) for part in one.parts)


def _touched(one: Step) -> int:
    bits = -1 if one.revoke >= 0 else 0
    for key in one.keys:
        bits |= 1 << key
    return bits


def _blind(one: Step) -> int:
    """Keys (bits) that a step overwrites without a look at them."""
    seen = {guard.key for guard in (*one.guards, *one.refused)}
    bits = 0
    for part in one.parts:
        if part.kind == Kind.GET or part.count >= 0:
            seen.add(part.key)
        elif part.key not in seen:
            bits |= 1 << part.key
    return bits


def _renumber(one: Step, numbers: dict[int, int]) -> Step:
    """The same step with keys numbered from 0."""
    guards = tuple(replace(guard, key=numbers[guard.key]) for guard in one.guards)
    refused = tuple(replace(guard, key=numbers[guard.key]) for guard in one.refused)
    return replace(
        one, guards=guards, refused=refused, parts=tuple(replace(part, key=numbers[part.key]) for part in one.parts)
    )
