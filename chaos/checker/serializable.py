"""Serializable reads: stale is allowed; invented, from the future, or going back on one member is not.

A serializable read with revision r shows exactly the store as it was at r. It may lag behind, but not behind what the
same process was already shown by the same member; that is checked here. The rest needs no code of its own: for the
order, a serializable read is one that may have been invoked at any time before it returned (`steps.step`), its value
at r is a sight like any other (`rows`), and what is invoked after it may not be below r (`order.RealTime`).
"""

from __future__ import annotations

import numpy as np

from chaos.checker.model import History, Outcome
from chaos.checker.violation import Violation, violation


def check_serializable(history: History) -> Violation | None:
    """Nothing goes back within one process on one member."""
    rows = np.flatnonzero((history.outcome == Outcome.OK) & (history.revision >= 0) & (history.member >= 0))
    if not history.serializable[rows].any():
        return None
    order = rows[np.lexsort((history.invoke[rows], history.member[rows], history.process[rows]))]
    highest: dict[tuple[int, int], int] = {}
    for row in order.tolist():
        one = (int(history.process[row]), int(history.member[row]))
        before = highest.get(one)
        if before is None or history.revision[row] >= history.revision[before]:
            highest[one] = row
        elif history.serializable[row]:
            why = (
                f"Process {one[0]} had been shown revision {history.revision[before]} by {history.members[one[1]]}, "
                f"and then revision {history.revision[row]}."
            )
            return violation(history, "serializable read going back", why, [before, row])
    return None
