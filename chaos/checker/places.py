"""Exact places: a mod revision that was read and that no acknowledged write took belongs to an unknown write."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

import numpy as np

from chaos.checker.model import NULL, History, Ints, Kind
from chaos.checker.order import RealTime
from chaos.checker.rows import Table, conditions, effects, unknown_writes
from chaos.checker.said import unexplained
from chaos.checker.violation import Violation, violation


class Undecided(Exception):  # noqa: N818 - a way out, not an error
    """Evidence does not settle these keys; the search path has to."""

    def __init__(self, keys: set[int]) -> None:
        super().__init__(keys)
        self.keys = keys


class Unknowns:
    """Writes of unknown outcome, and what each could be the cause of.

    `guessed` collects keys where one of several unequal candidates was chosen: from then on a contradiction proves
    nothing.
    """

    def __init__(self, history: History, past: RealTime) -> None:
        self.history = history
        rows = unknown_writes(history)
        least = np.maximum(past.before(history.invoke[rows]), history.meta.base_revision)
        self.least: dict[int, int] = dict(zip(rows.tolist(), least.tolist(), strict=True))
        """A write's revision is above this: what had been answered before it was invoked."""
        self.effects = {row: effects(history, row) for row in self.least}
        self.conditions = {row: conditions(history, row) for row in self.least}
        self.plain = {row: history.kind[row] == Kind.PUT for row in self.least}
        self.makers: dict[tuple[int, int], list[int]] = defaultdict(list)
        """(key, value) -> unused writes that would leave it, by `least`."""
        for row in sorted(self.least, key=lambda one: (self.least[one], one)):
            for pair in self.effects[row].items():
                self.makers[pair].append(row)
        self.guessed: set[int] = set()

    def use(self, row: int) -> None:
        """Take one out of the choice."""
        for pair in self.effects[row].items():
            self.makers[pair].remove(row)

    def able(self, pair: tuple[int, int], below: int) -> list[int]:
        """Unused writes that could have left (key, value) at revision `below` or earlier."""
        makers = self.makers.get(pair, [])
        return makers[: bisect_left(makers, below, key=self.least.__getitem__)]

    def leased(self, row: int) -> bool:
        """Whether the write attaches a lease."""
        return bool(self.history.lease[row] >= 0)

    def place(self, sights: Table, exact: Ints, writes: Table) -> dict[int, int] | Violation:
        """A write for each mod revision in `exact` sights: row -> revision.

        Forced ones first: they may settle others. Returns a Violation when none can be; raises Undecided.
        """
        wanted: dict[int, dict[int, tuple[int, int]]] = {}
        for sight in exact.tolist():
            mod, key, value = int(sights.mod[sight]), int(sights.key[sight]), int(sights.value[sight])
            row = int(sights.row[sight])
            before = wanted.setdefault(mod, {}).setdefault(key, (value, row))
            if before[0] != value:
                return violation(
                    self.history,
                    "wrong value",
                    "Two reads of one key at one mod revision differ.",
                    [before[1], row],
                    key,
                )
        forced: dict[int, int] = {}
        open_: list[int] = []
        for mod in sorted(wanted):
            able = self._candidates(wanted[mod], mod)
            if not able:
                key, (value, row) = next(iter(wanted[mod].items()))
                return unexplained(self.history, row, key, value, f"as written at revision {mod}")
            if len(able) == 1:
                if able[0] in forced:
                    key, (value, row) = next(iter(wanted[mod].items()))
                    return self._twice(able[0], forced[able[0]], mod, row, key)
                forced[able[0]] = mod
            else:
                open_.append(mod)
        if forced:
            for row in forced:
                self.use(row)
            return forced
        return self._choose(wanted, open_, writes)

    def _twice(self, maker: int, first: int, second: int, row: int, key: int) -> Violation:
        return violation(
            self.history,
            "double apply",
            f"One write is seen at revision {first} and again at {second}.",
            [maker, row],
            key,
        )

    def _candidates(self, pairs: dict[int, tuple[int, int]], mod: int) -> list[int]:
        lists = [self.able((key, value), mod) for key, (value, _) in pairs.items()]
        if len(lists) == 1:
            return lists[0]
        common = set(lists[0]).intersection(*lists[1:])
        return [row for row in lists[0] if row in common]

    def _choose(
        self, wanted: dict[int, dict[int, tuple[int, int]]], mods: list[int], writes: Table
    ) -> dict[int, int] | Violation:
        """Several candidates each. Equal puts are as good as each other: the one invoked last leaves most choice."""
        chosen: dict[int, int] = {}
        for mod in mods:
            pairs = wanted[mod]
            able = self._candidates(pairs, mod)
            key, (value, row) = next(iter(pairs.items()))
            if not able:
                return unexplained(self.history, row, key, value, f"as written at revision {mod}")
            alike = all(self.plain[one] and not self.leased(one) for one in self.makers[(key, value)])
            if not alike:
                self.guessed.update(key for one in able for key in self.effects[one])
            puts = [one for one in able if self.plain[one]]
            fitting = [one for one in able if not self.plain[one] and self._fits(one, mod, writes)]
            pick = (fitting or puts or able)[-1]
            chosen[pick] = mod
            self.use(pick)
        return chosen

    def _fits(self, row: int, mod: int, writes: Table) -> bool:
        """Whether the known writes leave what a conditional write needs, just before `mod`."""
        for key, value in self.conditions[row]:
            mine = np.flatnonzero((writes.key == key) & (writes.revision < mod))
            last = (
                int(writes.value[mine[np.argmax(writes.revision[mine])]])
                if len(mine)
                else (self.history.initial.get(key, NULL))
            )
            if last != value:
                return False
        return bool(self.conditions[row])
