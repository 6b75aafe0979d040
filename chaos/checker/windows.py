"""Windows: something seen without a mod revision, that no known write explains, places an unknown write in a range.

Within one key, from one known write to the next, what was seen is walked in order of revision. As long as it agrees
with the current value nothing needs to have happened; where it does not, one unknown write must have, after the last
sight that its value contradicts and not after the first that needs it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chaos.checker.model import NULL, Ints
from chaos.checker.places import Undecided
from chaos.checker.said import unexplained
from chaos.checker.violation import Violation

if TYPE_CHECKING:
    from chaos.checker.revisions import Match, Path


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


def find(path: Path, match: Match, bad: Ints) -> list[Window] | Violation:
    """A window for every unknown write that must have happened though nobody read its mod revision.

    Returns a Violation when no unknown write is left that could have; raises Undecided.
    """
    if not len(bad):
        return []
    sights = path.sights
    stretch = match.at * np.int64(len(path.initial)) * 2 + sights.key  # one number for each key and known write
    dirty = np.unique(stretch[bad])
    members = np.flatnonzero(np.isin(stretch, dirty))
    members = members[np.lexsort((sights.revision[members], stretch[members]))]
    found: list[Window] = []
    used: dict[int, int] = {}
    for group in np.split(members, np.flatnonzero(np.diff(stretch[members])) + 1):
        first = int(group[0])
        key, value, revision = int(sights.key[first]), int(match.value[first]), int(match.revision[first])
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
        result = _walk(path, key, value, max(revision, path.history.meta.base_revision), seen, used)
        if isinstance(result, Violation):
            return result
        found += result
    return found


def _walk(  # noqa: PLR0917 - one stretch: whose, from what, what was seen
    path: Path, key: int, value: int, start: int, seen: list[Sight], used: dict[int, int]
) -> list[Window] | Violation:
    low = start
    found: list[Window] = []
    for n, sight in enumerate(seen):
        if sight.pinned:
            low = max(low, sight.revision)
        if sight.agrees(value):
            continue
        if not sight.equal or key in path.leased:
            raise Undecided({key})  # any of several values would do, or an expiry
        able = path.unknowns.able((key, sight.value), sight.revision)
        if not able or low >= sight.revision or any(late.pinned for late in seen[n:]):
            if used.get(key):
                raise Undecided({key})  # an earlier choice in this key may be to blame
            return unexplained(path.history, sight.row, key, sight.value, f"at revision {sight.revision}")
        maker = able[0]
        simple = path.unknowns.plain[maker] or sight.value == NULL
        if not simple or len(path.unknowns.effects[maker]) > 1 or any(path.unknowns.conditions[one] for one in able):
            raise Undecided({key} | {key for one in able for key in path.unknowns.effects[one]})
        path.unknowns.use(maker)
        for before in seen[:n]:
            if not before.agrees(sight.value):
                low = max(low, before.revision)
        low = max(low, path.unknowns.least[maker])
        if low >= sight.revision:
            raise Undecided({key})
        used[key] = used.get(key, 0) + 1
        found.append(Window(key, maker, low, sight.revision))
        value, low = sight.value, low + 1
    return found


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
