"""What is known of a history so far: writes by revision, what was seen of them, unknown writes that are settled.

The revision path (`revisions`) grows it; `windows` and `gaps` read it and place unknown writes in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from chaos.checker.exact import Slot, Unknowns, ValueAt
from chaos.checker.model import NONE, NULL, Flags, History, Ints
from chaos.checker.order import RealTime
from chaos.checker.tables import Compiled, Extra, Table, joined, leased_keys
from chaos.checker.watches import Told

SHIFT = 41
"""Bits for a revision (the reader takes none of 2^40 or more); the rest of 63 are for the key."""


EVIDENCE = 1
"""In the mod column of a write: known by what was read of it, not by an answer to the writer."""


@dataclass(slots=True)
class Match:
    """Each sight with the last known write at or below it."""

    writes: Table
    order: Ints
    """Writes sorted by key and revision."""
    at: Ints
    """For each sight: position in `order`, or NONE for the initial state."""
    value: Ints
    revision: Ints
    """Of that write; NONE for the initial state."""
    good: Flags


class Known:
    """Writes, sights and settled rows of one history."""

    def __init__(self, history: History, past: RealTime, compiled: Compiled) -> None:
        self.history, self.past = history, past
        self.sights, self.writes = compiled.sights, compiled.writes
        self.refused = compiled.refused
        self.initial = np.zeros(len(history.keys) + 1, np.int64)
        for key, value in history.initial.items():
            self.initial[key] = value
        self.unknowns = Unknowns(history, past)
        self.settled: dict[int, int] = {}
        self.slots: dict[int, Slot] = {}
        self.leased = leased_keys(history)

    def add_evidence(self, told: Iterable[Told]) -> None:
        """Take what watches told, where no acknowledged write says it already, as places of unknown writes."""
        known = set(zip(self.writes.revision.tolist(), self.writes.key.tolist(), strict=True)) if told else set()
        extra, sights = Extra(), Extra()
        for key, value, revision in told:
            if (revision, key) not in known:
                self.slots.setdefault(revision, {})[key] = (value, NONE)
                extra.add(key, revision, value, NONE, mod=EVIDENCE)
                if value == NULL:
                    sights.add(key, revision - 1, NULL, NONE, equal=False)  # there was something to delete
        self.writes = joined(self.writes, extra.table())
        self.sights = joined(self.sights, sights.table())

    def match(self) -> Match:
        """Look up every sight."""
        writes, sights = self.writes, self.sights
        code = writes.key << SHIFT | writes.revision
        order = np.argsort(code, kind="stable")
        sorted_code = code[order]
        at = np.searchsorted(sorted_code, sights.key << SHIFT | sights.revision, side="right") - 1
        if len(order):
            first = order[np.maximum(at, 0)]
            at = np.where((at >= 0) & (writes.key[first] == sights.key), at, NONE)
            value = np.where(at >= 0, writes.value[first], self.initial[sights.key])
            revision = np.where(at >= 0, writes.revision[first], NONE)
        else:
            at = np.full(len(sights), NONE, np.int64)
            value, revision = self.initial[sights.key], at
        meta = self.history.meta
        old = (revision == NONE) & ((sights.mod <= meta.base_revision) | (not meta.base_known))
        right_mod = (sights.mod < 0) | (sights.mod == revision) | old
        equal = sights.equal == 1
        good = np.where(equal, (value == sights.value) & (right_mod | (value == NULL)), value != sights.value)
        return Match(writes, order, at, value, revision, good)

    def place_windows(self, placed: dict[int, int]) -> None:
        """Writes in windows, now that each has a revision, become known ones."""
        writes = Extra()
        for row, at in placed.items():
            for key, value in self.unknowns.effects[row].items():
                writes.add(key, at, value, row)
        self.writes = joined(self.writes, writes.table())

    def values(self, match: Match | None = None) -> ValueAt:
        """The value of a key at a revision, by what is known now."""
        match = self.match() if match is None else match
        code = self.writes.key[match.order] << SHIFT | self.writes.revision[match.order]
        return lambda key, revision: self._value_at(match, code, key, revision)

    def _value_at(self, match: Match, code: Ints, key: int, revision: int) -> int:
        at = int(np.searchsorted(code, key << SHIFT | revision, side="right")) - 1
        if at < 0 or self.writes.key[match.order[at]] != key:
            return int(self.initial[key])
        return int(self.writes.value[match.order[at]])
