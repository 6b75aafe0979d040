"""Closed world: nobody but the history's own clients took revisions, so each one has to be accounted for."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from chaos.checker import windows
from chaos.checker.model import NONE, Kind, Outcome
from chaos.checker.places import Undecided
from chaos.checker.violation import Violation, violation

if TYPE_CHECKING:
    from chaos.checker.revisions import Match, Path


def fill(path: Path, match: Match, wanted: list[windows.Window], taken: frozenset[int]) -> Violation | None:
    """Find an unknown write for every revision that nothing else took.

    A Violation when there are too few even without looking at what was seen; raises Undecided when the simple choice
    (puts that nobody saw) does not reach.
    """
    history, base = path.history, path.history.meta.base_revision
    placed = windows.fit(wanted, taken, base)
    if placed is None:
        raise Undecided({window.key for window in wanted})
    ok = history.outcome == Outcome.OK
    top = int(np.max(history.revision[ok], initial=base))
    missing = np.setdiff1d(np.arange(base + 1, top + 1), np.fromiter(taken, np.int64, len(taken)))
    free = sorted(
        path.unknowns.least[row] for row in path.unknowns.least if row not in path.settled and row not in placed
    )
    own = set(placed.values())
    gaps = [gap for gap in missing.tolist() if gap not in own]
    if gaps and (history.leases or path.refused):
        raise Undecided(set(range(len(history.keys))))
    for n, gap in enumerate(gaps):
        if bisect_left(free, gap) <= n:
            if wanted:
                raise Undecided(set(range(len(history.keys))))
            return _missing(path, gap)
    if gaps and not _puts(path, match, gaps, {window.key for window in wanted}):
        raise Undecided(set(range(len(history.keys))))
    return None


def _missing(path: Path, gap: int) -> Violation:
    """Say which operations stand around a revision that nobody can have taken."""
    writes = path.writes
    after = np.flatnonzero(writes.revision > gap)
    before = np.flatnonzero(writes.revision < gap)
    near = [int(writes.row[before[np.argmax(writes.revision[before])]])] if len(before) else []
    near += [int(writes.row[after[np.argmin(writes.revision[after])]])] if len(after) else []
    why = f"Somebody took revision {gap} in this closed world, but no operation is left that could have."
    return violation(path.history, "gap in revisions", why, near)


def _puts(path: Path, match: Match, gaps: list[int], moved: set[int]) -> bool:
    """Whether puts that nobody saw can fill the gaps: first come, first served."""
    unknowns, history = path.unknowns, path.history
    puts: dict[int, list[int]] = {}
    for row, least in sorted(unknowns.least.items(), key=lambda item: item[1], reverse=True):
        key = int(history.key[row])
        if history.kind[row] == Kind.PUT and row not in path.settled and key not in moved:
            puts.setdefault(key, []).append(least)  # the one invoked first is at the end
    quiet = {key: _quiet(path, match, key) for key in puts}
    for gap in gaps:
        able = [key for key, rows in puts.items() if rows and rows[-1] < gap and _unseen(quiet[key], gap)]
        if not able:
            return False
        # the key with most puts left that could go here keeps most choice for later
        best = max(able, key=lambda key: len(puts[key]))
        puts[best].pop()
    return True


def _quiet(path: Path, match: Match, key: int) -> tuple[list[int], list[int]]:
    """Revisions of the known writes of a key, and of the things seen of it."""
    mine = path.writes.revision[match.order[path.writes.key[match.order] == key]]
    seen = np.sort(path.sights.revision[path.sights.key == key])
    return mine.tolist(), seen.tolist()


def _unseen(quiet: tuple[list[int], list[int]], gap: int) -> bool:
    """Whether nothing was seen of the key from `gap` until its next known write."""
    writes, seen = quiet
    at = bisect_left(writes, gap)
    until = writes[at] if at < len(writes) else None
    first = bisect_left(seen, gap)
    nearest = seen[first] if first < len(seen) else NONE
    return nearest == NONE or (until is not None and nearest >= until)
