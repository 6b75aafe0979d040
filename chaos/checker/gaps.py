"""Closed world: nobody but the history's own clients took revisions, so each one has to be accounted for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import numpy as np

from chaos.checker import windows
from chaos.checker.exact import Undecided, ValueAt
from chaos.checker.known import Known
from chaos.checker.matching import TooMuch, match
from chaos.checker.model import NULL, Kind, Outcome
from chaos.checker.violation import Violation, violation


def fill(state: Known, wanted: list[windows.Window], taken: frozenset[int]) -> Violation | None:
    """Find an unknown write for every revision that nothing else took.

    A Violation when there are too few even without looking at what was seen; raises Undecided when the simple choice
    (writes that nobody saw, where nobody looked) does not reach.
    """
    history, base = state.history, state.history.meta.base_revision
    placed = windows.fit(wanted, taken, base)
    if placed is None:
        raise Undecided({window.key for window in wanted})
    ok = history.outcome == Outcome.OK
    top = int(np.max(history.revision[ok], initial=base))
    missing = np.setdiff1d(np.arange(base + 1, top + 1), np.fromiter(taken, np.int64, len(taken)))
    free = sorted(
        state.unknowns.least[row] for row in state.unknowns.least if row not in state.settled and row not in placed
    )
    own = set(placed.values())
    gaps = [gap for gap in missing.tolist() if gap not in own]
    if gaps and history.leases:
        raise Undecided(set(range(len(history.keys))))
    for n, gap in enumerate(gaps):
        if bisect_left(free, gap) <= n:
            if wanted:
                raise Undecided(set(range(len(history.keys))))
            return _missing(state, gap)
    state.place_windows(placed)
    if gaps and not Filling(state, state.values(), placed).works(gaps):
        raise Undecided(set(range(len(history.keys))))
    return None


def _missing(state: Known, gap: int) -> Violation:
    """Say which operations stand around a revision that nobody can have taken."""
    writes = state.writes
    after = np.flatnonzero(writes.revision > gap)
    before = np.flatnonzero(writes.revision < gap)
    near = [int(writes.row[before[np.argmax(writes.revision[before])]])] if len(before) else []
    near += [int(writes.row[after[np.argmin(writes.revision[after])]])] if len(after) else []
    why = f"Somebody took revision {gap} in this closed world, but no operation is left that could have."
    return violation(state.history, "gap in revisions", why, near)


class Filling:
    """Unknown writes in gaps where what was seen, from there to the next known write, agrees with them."""

    def __init__(self, state: Known, value_at: ValueAt, placed: dict[int, int]) -> None:
        self.state, self.unknowns, self.value_at = state, state.unknowns, value_at
        moved = state.leased | {key for row in state.refused for key, _ in state.history.txns[row].compare}
        self.own = {at: row for row, at in {**state.settled, **placed}.items() if at > 0}
        """Places settled before; an equal put may take over there, if that sets a needed one free."""
        used = set(state.settled) | set(placed)
        self.puts: dict[int, list[int]] = {}
        self.others: dict[int, list[int]] = {}
        for row in sorted(self.unknowns.least, key=self.unknowns.least.__getitem__, reverse=True):
            key = int(state.history.key[row])
            if key in moved or state.history.kind[row] not in (Kind.PUT, Kind.DELETE, Kind.CAS):
                continue
            if self.unknowns.plain[row]:
                self.puts.setdefault(key, []).append(row)
            elif row not in used:
                self.others.setdefault(key, []).append(row)
        self.known = {key: self._known(key) for key in self.puts.keys() | self.others.keys()}

    def _known(self, key: int) -> tuple[list[int], list[int], list[tuple[int, bool, bool]]]:
        """Of a key: revisions of its writes; revisions of what was seen of it, and that (value, equal, pinned)."""
        writes, sights = self.state.writes, self.state.sights
        mine = np.flatnonzero(sights.key == key)
        mine = mine[np.argsort(sights.revision[mine], kind="stable")]
        equal = (sights.equal[mine] == 1).tolist()
        pinned = (sights.mod[mine] >= 0).tolist()
        seen = list(zip(sights.value[mine].tolist(), equal, pinned, strict=True))
        return np.sort(writes.revision[writes.key == key]).tolist(), sights.revision[mine].tolist(), seen

    def able(self, gap: int) -> Iterator[int]:
        """Writes that could have taken this revision; those that need nothing first."""
        if gap in self.own:
            yield from self._instead(self.own[gap], gap)
            return
        views = {key: self._views(key, gap) for key in self.known}
        for key, rows in self.puts.items():
            yield from (row for row in rows if self._agrees(row, key, gap, views[key]))
        for key, rows in self.others.items():
            value = self.value_at(key, gap - 1)
            for row in rows:
                if self._possible(row, value) and self._agrees(row, key, gap, views[key]):
                    yield row

    def _instead(self, row: int, at: int) -> Iterator[int]:
        """What could stand at a place settled before: first what does."""
        yield row
        if self.unknowns.plain[row]:
            key = int(self.state.history.key[row])
            same = self.unknowns.effects[row]
            for other in self.puts.get(key, []):
                if self.unknowns.effects[other] == same and self.unknowns.least[other] < at:
                    yield other

    def _views(self, key: int, gap: int) -> list[tuple[int, bool, bool]]:
        """What was seen of the key from `gap` until its next known write."""
        writes, revisions, seen = self.known[key]
        at = bisect_left(writes, gap)
        first = bisect_left(revisions, gap)
        last = bisect_left(revisions, writes[at]) if at < len(writes) else len(seen)
        return seen[first:last]

    def _agrees(self, row: int, key: int, gap: int, view: list[tuple[int, bool, bool]]) -> bool:
        if self.unknowns.least[row] >= gap:
            return False
        value = self.unknowns.effects[row][key]
        return all(not pinned and (value == other) == equal for other, equal, pinned in view)

    def _possible(self, row: int, value: int) -> bool:
        if self.state.history.kind[row] == Kind.DELETE:
            return value != NULL
        return all(value == needed for _, needed in self.unknowns.conditions[row])

    def works(self, gaps: list[int]) -> bool:
        """Whether every gap finds a write, and these do not stand in each other's way."""
        try:
            found, missing = match([*sorted(self.own), *gaps], self.able)
        except TooMuch:
            return False
        if missing is not None:
            return False
        last: dict[tuple[int, int], int] = {}
        for gap in sorted(gaps):
            row = found[gap]
            key = int(self.state.history.key[row])
            stretch = (key, bisect_left(self.known[key][0], gap))
            value = last.get(stretch, self.value_at(key, gap - 1))
            if not self.unknowns.plain[row] and not self._possible(row, value):
                return False
            last[stretch] = self.unknowns.effects[row][key]
        return True
