"""Revision path: decide a history whose acknowledged operations all carry revisions, in near-linear time.

Revisions fix the order of everything acknowledged, so only two things are open: whether what was seen agrees with the
last write at or below, and which writes of unknown outcome took effect, and where. The second is settled by evidence:
a mod revision that was read names the place exactly (`Places`), a value or an absence without one names a window
(`windows`), and in a closed world every revision must have been taken by somebody (`gaps`). Each step either proves
a contradiction, or finds the one possible (or an as good as any) choice, or says it cannot; then the search path
decides those keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from chaos.checker import gaps, windows
from chaos.checker.model import NONE, NULL, Flags, History, Ints
from chaos.checker.order import RealTime, check_order
from chaos.checker.places import Slot, Undecided, Unknowns, ValueAt
from chaos.checker.rows import Compiled, Extra, Table, compile_rows, joined, leased_keys
from chaos.checker.said import said_wrong
from chaos.checker.violation import Violation, violation
from chaos.checker.watches import Told

SHIFT = 41
"""Bits for a revision (the reader takes none of 2^40 or more); the rest of 63 are for the key."""


EVIDENCE = 1
"""In the mod column of a write: known by what was read of it, not by an answer to the writer."""


@dataclass(slots=True)
class Decision:
    """What the revision path found: a violation, nothing wrong, or keys that it could not decide."""

    violation: Violation | None = None
    undecided: set[int] | None = None
    settled: dict[int, int] = field(default_factory=dict)
    """Writes of unknown outcome found to have happened: row -> revision (0: somewhere in a window)."""
    taken: frozenset[int] = frozenset()
    """Every revision known to be taken."""


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


class Path:
    """One run of the revision path."""

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

    def believe(self, told: Iterable[Told]) -> None:
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

    def run(self) -> Decision:
        """Settle what evidence settles, then look at what is left."""
        try:
            while True:
                match, found = self._collect()
                if found is None and self.slots:
                    made = self.unknowns.make(self.slots, self.values(match))
                    found = made if isinstance(made, Violation) else None
                    if not isinstance(made, Violation):
                        self._settle(made)
                        continue
                if found is None:
                    break
                return self._violated(found)
        except Undecided as open_:
            return self._undecided(open_.keys | self._unexplained())
        clash = self._initial_mods(match)
        if clash is not None:
            return Decision(violation=clash)
        return self._rest(match, np.flatnonzero(~match.good))

    def _collect(self) -> tuple[Match, Violation | None]:
        """Put every place that a mod revision names, and nobody acknowledged, into `slots` and among the writes."""
        while True:
            match = self.match()
            bad = np.flatnonzero(~match.good)
            exact = bad[(self.sights.mod[bad] >= 0) & (self.sights.equal[bad] == 1)]
            if not len(exact):
                return match, None
            wrong = said_wrong(self.history, self.sights, self.writes, match.revision, exact)
            if wrong is not None:
                return match, wrong
            extra = Extra()
            for sight in exact.tolist():
                key, at = int(self.sights.key[sight]), int(self.sights.mod[sight])
                slot = self.slots.setdefault(at, {})
                if key not in slot:
                    slot[key] = (int(self.sights.value[sight]), int(self.sights.row[sight]))
                    extra.add(key, at, slot[key][0], slot[key][1], mod=EVIDENCE)
            self.writes = joined(self.writes, extra.table())

    def _rest(self, match: Match, bad: Ints) -> Decision:
        """What exact places did not explain: windows, refused transactions, and gaps of a closed world."""
        found = windows.find(self, match, bad)
        if isinstance(found, Violation):
            return self._violated(found)
        wanted, left = found
        left |= self._refused(match, left | {window.key for window in wanted})
        closed, unsure = self.history.meta.closed_world, False
        taken = frozenset(self.writes.revision.tolist()) if wanted or closed else frozenset()
        try:
            if closed and not left:
                gap = gaps.fill(self, wanted, taken)
                if gap is not None:
                    return self._violated(gap)
            elif wanted and not windows.fit(wanted, taken, self.history.meta.base_revision):
                raise Undecided({window.key for window in wanted})
        except Undecided as open_:
            left |= open_.keys
            unsure = True  # also where there are no keys: a revoke may be all there is
        if left or unsure:
            return self._undecided(left)
        self.settled.update((window.row, 0) for window in wanted)
        return Decision(settled=self.settled)

    def _violated(self, found: Violation) -> Decision:
        """A violation is proved only while every choice made so far was forced."""
        if self.unknowns.guessed:
            return self._undecided(self._unexplained())
        return Decision(violation=found)

    def _unexplained(self) -> set[int]:
        """Keys that nobody has looked at to the end: something was seen of them that no write explains so far.

        Or only one that was assumed at the place that a mod revision names, and that nobody was found for yet.
        """
        assumed = {key for slot in self.slots.values() for key in slot}
        return assumed | set(self.sights.key[~self.match().good].tolist())

    def _undecided(self, keys: Iterable[int]) -> Decision:
        return Decision(
            undecided=set(keys) | set(self.unknowns.guessed),
            settled=self.settled,
            taken=frozenset(self.writes.revision.tolist()),
        )

    def _settle(self, made: dict[int, int]) -> None:
        """Unknown writes found to have happened at exact revisions: all that they did, and what they saw."""
        writes, sights = Extra(), Extra()
        for row, at in made.items():
            for key, value in self.unknowns.effects[row].items():
                if key not in self.slots[at]:
                    writes.add(key, at, value, row)
            for key, value in self.unknowns.conditions[row]:
                sights.add(key, at - 1, value, row)
        self.settled.update(made)
        self.slots = {}
        self.writes = joined(self.writes, writes.table())
        self.sights = joined(self.sights, sights.table())

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

    def _initial_mods(self, match: Match) -> Violation | None:
        """An initial value has one mod revision, whoever reads it."""
        old = np.flatnonzero(
            (match.at == NONE)
            & (self.sights.mod >= 0)
            & match.good
            & (self.sights.equal == 1)
            & (self.sights.value != NULL)
        )
        if len(old) < 2:
            return None
        key, mod = self.sights.key[old], self.sights.mod[old]
        order = np.lexsort((mod, key))
        differ = np.flatnonzero((key[order][1:] == key[order][:-1]) & (mod[order][1:] != mod[order][:-1]))
        if not len(differ):
            return None
        pair = [int(self.sights.row[old[order[differ[0] + n]]]) for n in (0, 1)]
        return violation(
            self.history,
            "mod revision",
            "Two reads give the same initial value different mod revisions.",
            pair,
            int(key[order[differ[0]]]),
        )

    def _refused(self, match: Match, moved: set[int]) -> set[int]:
        """Keys of a txn refused for one of several reasons, of which none is seen in what is settled (not `moved`)."""
        left: set[int] = set()
        value_at = self.values(match)
        for row in self.refused:
            compare = self.history.txns[row].compare
            if not any(
                key not in moved and value_at(key, int(self.history.revision[row])) != value for key, value in compare
            ):
                left |= {key for key, _ in compare}
        return left

    def _value_at(self, match: Match, code: Ints, key: int, revision: int) -> int:
        at = int(np.searchsorted(code, key << SHIFT | revision, side="right")) - 1
        if at < 0 or self.writes.key[match.order[at]] != key:
            return int(self.initial[key])
        return int(self.writes.value[match.order[at]])


def decide(history: History, told: Iterable[Told] = ()) -> Decision:
    """The verdict of the revision path on the acknowledged operations that carry revisions.

    `told` are writes known from watches: evidence like a mod revision that was read.
    """
    past = RealTime(history)
    wrong = check_order(history, past, history.takes_revision())
    if wrong is not None:
        return Decision(violation=wrong)
    compiled = compile_rows(history)
    if isinstance(compiled, Violation):
        return Decision(violation=compiled)
    path = Path(history, past, compiled)
    path.believe(told)
    return path.run()
