"""Exact places: a mod revision that was read and that no acknowledged write took belongs to an unknown write.

First all such places are collected, so that the history of each key is known as far as evidence goes; then each place
gets a write that could have made it: one that leaves that value, was invoked before everything that had been answered
there, and, if it is conditional, found what it needed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from chaos.checker.matching import TooMuch, match
from chaos.checker.model import History, Kind
from chaos.checker.order import RealTime
from chaos.checker.read_evidence import unexplained
from chaos.checker.tables import conditions, effects, unknown_writes
from chaos.checker.violation import Violation, violation

Slot = dict[int, tuple[int, int]]
"""At one revision: key -> (value, a row that read it)."""
ValueAt = Callable[[int, int], int]
"""(key, revision) -> value by what is known."""


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

    def guess(self, rows: list[int]) -> None:
        """A choice among these was not forced."""
        self.guessed.update(key for row in rows for key in self.effects[row])

    def make(self, slots: dict[int, Slot], value_at: ValueAt) -> dict[int, int] | Violation:
        """A write for each slot (row -> revision), or the proof that one cannot have any. Raises Undecided."""
        made: dict[int, int] = {}
        left = sorted(slots)
        while left:
            # a place with one candidate is settled, which may leave another with one
            later: list[int] = []
            before = len(made)
            for at in left:
                able = self._candidates(slots[at], at)
                if not able:
                    return self._nobody(slots[at], at, made)
                if len(able) == 1:
                    made[able[0]] = at
                    self.use(able[0])
                else:
                    later.append(at)
            if len(made) == before:
                break
            left = later
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for at in left:
            key, (value, _) = min(slots[at].items())
            groups[key, value].append(at)
        for pair, places in groups.items():
            result = self._share_out(pair, places, slots, value_at)
            if isinstance(result, Violation):
                return result
            made.update(result)
        return made

    def _nobody(self, slot: Slot, at: int, made: dict[int, int]) -> Violation:
        key, (value, row) = next(iter(slot.items()))
        for other, revision in made.items():
            if self.effects[other].get(key) == value:
                why = f"One write is seen at revision {revision} and again at {at}."
                return violation(self.history, "double apply", why, [other, row], key)
        return unexplained(self.history, row, key, value, f"as written at revision {at}")

    def _candidates(self, slot: Slot, at: int) -> list[int]:
        lists = [self.able((key, value), at) for key, (value, _) in slot.items()]
        if len(lists) == 1:
            return lists[0]
        common = set(lists[0]).intersection(*lists[1:])
        return [row for row in lists[0] if row in common]

    def _share_out(
        self, pair: tuple[int, int], places: list[int], slots: dict[int, Slot], value_at: ValueAt
    ) -> dict[int, int] | Violation:
        """Several candidates for several places of one key and value.

        Equal puts are as good as each other: of those the one invoked last leaves most choice. Else those are
        preferred whose condition is known to hold, and it counts as a guess.
        """
        able = {at: self._candidates(slots[at], at)[::-1] for at in places}
        everyone = sorted({row for rows in able.values() for row in rows})
        try:
            if all(self.plain[row] and self.history.lease[row] < 0 for row in self.makers[pair]):
                found, missing = match(places, able.__getitem__)
            else:
                self.guess(everyone)
                fitting = {at: [row for row in rows if self._fits(row, at, value_at)] for at, rows in able.items()}
                found, missing = match(places, fitting.__getitem__)
                if missing is not None:
                    found, missing = match(places, able.__getitem__)
        except TooMuch:
            raise Undecided({pair[0]}) from None
        if missing is not None:
            return self._nobody(slots[missing], missing, {})
        for row in found.values():
            self.use(row)
        return {row: at for at, row in found.items()}

    def _fits(self, row: int, at: int, value_at: ValueAt) -> bool:
        """Whether what is known leaves what a conditional write needs just before `at`."""
        return all(value_at(key, at - 1) == value for key, value in self.conditions[row])
