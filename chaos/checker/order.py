"""Real time against revisions: what returned before another was invoked may not have the higher revision."""

from __future__ import annotations

import numpy as np

from chaos.checker.model import NONE, Flags, History, Ints, Kind, Outcome
from chaos.checker.violation import Violation, violation


class RealTime:
    """For any moment, the highest revision that any answer had shown before it.

    Serializable reads count here too: the revision they show was committed, so what is invoked later may not be
    below it (they themselves may lag, see `serializable`).
    """

    def __init__(self, history: History) -> None:
        rows = np.flatnonzero((history.outcome == Outcome.OK) & (history.revision >= 0))
        rows = rows[np.argsort(history.ret[rows], kind="stable")]
        self._rows = rows
        self._returns = history.ret[rows]
        self._highest = np.maximum.accumulate(history.revision[rows]) if len(rows) else np.zeros(0, np.int64)
        self._revision = history.revision

    def before(self, moments: Ints) -> Ints:
        """Highest revision answered strictly before each moment; NONE when there was none."""
        at = np.searchsorted(self._returns, moments, side="left")
        if not len(self._rows):
            return np.full(len(moments), NONE, np.int64)
        return np.where(at > 0, self._highest[np.maximum(at - 1, 0)], NONE)

    def witness(self, moment: int) -> int:
        """The row that showed that highest revision first."""
        at = int(np.searchsorted(self._returns, moment, side="left"))
        return int(self._rows[int(np.argmax(self._revision[self._rows[:at]]))])


def numbered(history: History) -> Flags:
    """Acknowledged linearizable operations that carry a revision."""
    return np.asarray((history.outcome == Outcome.OK) & (history.revision >= 0) & ~history.serializable, dtype=np.bool_)


def check_order(history: History, past: RealTime, writes: Flags) -> Violation | None:
    """Base, uniqueness and real-time order of revisions."""
    rows = np.flatnonzero(numbered(history))
    revision, wrote = history.revision[rows], writes[rows]
    # a serializable read may be of before the beginning: its member had not come that far
    seen = np.flatnonzero((history.outcome == Outcome.OK) & (history.revision >= 0) & ~history.serializable)
    low = seen[np.flatnonzero(history.revision[seen] < history.meta.base_revision + writes[seen])]
    if len(low):
        return violation(
            history,
            "base revision",
            f"The history says that the store began at revision "
            f"{history.meta.base_revision}, and this is below what may follow.",
            [int(low[0])],
        )
    kind, mod = history.kind[rows], history.mod[rows]
    odd = np.flatnonzero(((kind == Kind.PUT) | ((kind == Kind.CAS) & wrote)) & (mod >= 0) & (mod != revision))
    if len(odd):
        return violation(
            history,
            "mod revision",
            "A write's mod revision is the revision it took; these differ.",
            [int(rows[odd[0]])],
        )
    by = rows[wrote][np.argsort(revision[wrote], kind="stable")]
    same = np.flatnonzero(history.revision[by][1:] == history.revision[by][:-1])
    if len(same):
        pair = [int(by[same[0]]), int(by[same[0] + 1])]
        return violation(
            history, "one write, one revision", f"Both say that they took revision {history.revision[pair[0]]}.", pair
        )
    least = past.before(history.invoke[rows])
    bad = np.flatnonzero((least > revision) | ((least == revision) & wrote))
    if not len(bad):
        return None
    one = int(rows[bad[np.argmin(history.ret[rows[bad]])]])
    other = past.witness(int(history.invoke[one]))
    took = "took" if writes[one] else "was answered at"
    return violation(
        history,
        "real-time order",
        f"Revision {history.revision[other]} had been answered before the second was invoked, which yet {took} "
        f"revision {history.revision[one]}.",
        [other, one],
    )
