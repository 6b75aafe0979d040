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
from chaos.checker.exact import Undecided
from chaos.checker.known import EVIDENCE, Known, Match
from chaos.checker.model import NONE, NULL, History, Ints
from chaos.checker.order import RealTime, check_order
from chaos.checker.read_evidence import contradictory_read
from chaos.checker.tables import Extra, compile_rows, joined
from chaos.checker.violation import Violation, violation
from chaos.checker.watches import Told


@dataclass(slots=True)
class Decision:
    """What the revision path found: a violation, nothing wrong, or keys that it could not decide."""

    violation: Violation | None = None
    undecided: set[int] | None = None
    settled: dict[int, int] = field(default_factory=dict)
    """Writes of unknown outcome found to have happened: row -> revision (0: somewhere in a window)."""
    taken: frozenset[int] = frozenset()
    """Every revision known to be taken."""


class Path(Known):
    """One run of the revision path."""

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
            wrong = contradictory_read(self.history, self.sights, self.writes, match.revision, exact)
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
    path.add_evidence(told)
    return path.run()
