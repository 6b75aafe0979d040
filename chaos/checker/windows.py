"""Windows: something seen without a mod revision, that no known write explains, places an unknown write in a range.

Within one key, from one known write to the next, what was seen is walked in order of revision. As long as it agrees
with the current value nothing needs to have happened; where it does not, one unknown write must have, after the last
sight that its value contradicts and not after the first that needs it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from chaos.checker.exact import Undecided
from chaos.checker.known import Known, Match
from chaos.checker.model import Ints
from chaos.checker.read_evidence import unexplained
from chaos.checker.violation import Violation

READY = 1
"""Effort up to which an unknown write can be done on the value that is there."""


@dataclass(frozen=True, slots=True)
class Window:
    """Unknown write `row` took a revision above `low`, up to and including `high`."""

    key: int
    row: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Sight:
    """One thing seen of a key."""

    revision: int
    value: int
    equal: bool
    pinned: bool
    """It named the mod revision of the known write: nothing came between."""
    row: int

    def agrees(self, value: int) -> bool:
        """Whether the key may have held this value."""
        return (self.value == value) == self.equal


def find(known: Known, match: Match, bad: Ints) -> tuple[list[Window], set[int]] | Violation:
    """A window for every unknown write that must have happened though nobody read its mod revision; keys left open.

    Every key is looked at, whichever others are left open. Returns a Violation when no unknown write is left that
    could have.
    """
    if not len(bad):
        return [], set()
    sights = known.sights
    stretch = match.at * np.int64(len(known.initial)) * 2 + sights.key  # one number for each key and known write
    dirty = np.unique(stretch[bad])
    members = np.flatnonzero(np.isin(stretch, dirty))
    members = members[np.lexsort((sights.revision[members], stretch[members]))]
    found: list[Window] = []
    used: set[int] = set()
    left: set[int] = set()
    for group in np.split(members, np.flatnonzero(np.diff(stretch[members])) + 1):
        first = int(group[0])
        seen = [
            Sight(
                int(sights.revision[n]),
                int(sights.value[n]),
                bool(sights.equal[n]),
                bool(sights.mod[n] >= 0),
                int(sights.row[n]),
            )
            for n in group.tolist()
        ]
        start = max(int(match.revision[first]), known.history.meta.base_revision)
        walk = Walk(known, int(sights.key[first]), int(match.value[first]), start, seen)
        try:
            wrong = walk.go(untouched=walk.key not in used)
        except Undecided as open_:
            used.add(walk.key)  # writes that it chose are gone from the choice
            left |= open_.keys
            continue
        if wrong is not None:
            return wrong
        if walk.found:
            used.add(walk.key)
            found += walk.found
    return found, left


class Walk:
    """From one known write of a key to the next."""

    def __init__(self, known: Known, key: int, value: int, start: int, seen: list[Sight]) -> None:
        self.known, self.unknowns = known, known.unknowns
        self.key, self.value, self.low = key, value, start
        self.seen = seen
        self.found: list[Window] = []

    def go(self, *, untouched: bool) -> Violation | None:
        """Fill `found`; a Violation only when no choice made in this key before (`untouched`) can be to blame."""
        for n, sight in enumerate(self.seen):
            if sight.pinned:
                self.low = max(self.low, sight.revision)
            if sight.agrees(self.value):
                continue
            if self.key in self.known.leased:
                raise Undecided({self.key})  # it may have expired
            value = sight.value if sight.equal else self._wish(n, sight)
            able = self.unknowns.able((self.key, value), sight.revision)
            if not able or self.low >= sight.revision or any(late.pinned for late in self.seen[n:]):
                if not untouched or self.found or not sight.equal or self.unknowns.guessed:
                    raise Undecided({self.key})
                where = f"at revision {sight.revision}"
                return unexplained(self.known.history, sight.row, self.key, value, where)
            for before in self.seen[:n]:
                if not before.agrees(value):
                    self.low = max(self.low, before.revision)
            self._bring_about(value, sight.revision, depth=3)
        return None

    def _wish(self, n: int, sight: Sight) -> int:
        """A value other than the one excluded: the next one that was seen, else the one easiest to get."""
        self.unknowns.guessed.add(self.key)
        for late in self.seen[n + 1 :]:
            if late.equal and sight.agrees(late.value):
                return late.value
        ready = [
            (*self._effort(row), value)
            for (key, value), makers in self.unknowns.makers.items()
            if key == self.key and sight.agrees(value)
            for row in makers
            if self.unknowns.least[row] < sight.revision
        ]
        if not ready or min(ready)[0] > READY:
            raise Undecided({self.key})
        return min(ready)[2]

    def _bring_about(self, value: int, high: int, depth: int) -> None:
        """Choose the unknown write that left `value` at or below `high`, and those that it needed."""
        able = [
            row
            for row in self.unknowns.able((self.key, value), high)
            if len(self.unknowns.effects[row]) == 1 and all(key == self.key for key, _ in self.unknowns.conditions[row])
        ]
        if not able or not depth:
            raise Undecided({self.key})
        if any(self.unknowns.conditions[row] for row in self.unknowns.makers[self.key, value]):
            self.unknowns.guess(able)
        maker = min(able, key=self._effort)
        self.unknowns.use(maker)
        for _, needed in self.unknowns.conditions[maker]:
            if needed != self.value:
                self._bring_about(needed, high - 1, depth - 1)
        self.low = max(self.low, self.unknowns.least[maker])
        if self.low >= high:
            raise Undecided({self.key})
        self.found.append(Window(self.key, maker, self.low, high))
        self.value, self.low = value, self.low + 1

    def _effort(self, row: int) -> tuple[int, int]:
        """What needs nothing first, then what needs what is there; of those what was invoked first."""
        needs = [value for _, value in self.unknowns.conditions[row]]
        return (0 if not needs else READY if needs == [self.value] else READY + 1, self.unknowns.least[row])


def fit(wanted: list[Window], taken: frozenset[int], base: int) -> dict[int, int] | None:
    """A free revision for each window (row -> revision), earliest deadline first; None when they do not fit.

    Unit jobs with release times and deadlines: earliest deadline first finds a schedule if there is one (Jackson 1955).
    """
    waiting = sorted(wanted, key=lambda window: (window.low, window.high))
    ready: list[tuple[int, int, int]] = []
    placed: dict[int, int] = {}
    now, n = base, 0
    while n < len(waiting) or ready:
        if not ready:
            now = max(now, waiting[n].low)
        now += 1
        while now in taken:
            now += 1
        while n < len(waiting) and waiting[n].low < now:
            heapq.heappush(ready, (waiting[n].high, n, waiting[n].row))
            n += 1
        if ready:
            high, _, row = heapq.heappop(ready)
            if high < now:
                return None
            placed[row] = now
    return placed
