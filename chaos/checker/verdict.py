"""The whole check: revision path where there are revisions, search where there are none or too few, both for a mix."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from chaos.checker.explain import invented, unordered
from chaos.checker.full import judge, written
from chaos.checker.leases import check_leases
from chaos.checker.members import named
from chaos.checker.model import NEVER, History, Kind, Outcome
from chaos.checker.order import RealTime, check_order
from chaos.checker.partition import apart, some_keys, steps_of, together
from chaos.checker.progress import check_progress
from chaos.checker.replay import Answer as Order
from chaos.checker.revisions import decide
from chaos.checker.search import Answer, Limit
from chaos.checker.serializable import check_serializable
from chaos.checker.tables import leased_keys
from chaos.checker.violation import Violation
from chaos.checker.watches import Event, Told, check_watches, told

READS = (Kind.GET, Kind.RANGE, Kind.LEASE_GRANT, Kind.LEASE_KEEPALIVE)


class Verdict(Enum):
    """What can be said of a history."""

    LINEARIZABLE = "linearizable"
    VIOLATION = "violation"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        """Exit status of `./lab check`."""
        return {Verdict.LINEARIZABLE: 0, Verdict.VIOLATION: 1, Verdict.UNKNOWN: 3}[self]


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict, its reason, and what it cost (seconds without reading the file)."""

    verdict: Verdict
    operations: int
    keys: int
    seconds: float
    violation: Violation | None = None
    reason: str = ""
    """Why nothing can be said."""
    settled: dict[int, int] = field(default_factory=dict)
    """Rows of unknown writes that must have happened -> revision (0: known only within a window)."""

    def text(self) -> str:
        """For a person."""
        size = f"{self.operations} operations, {self.keys} keys, {self.seconds:.2f} s"
        told = self.violation.text() if self.violation else self.reason
        return f"{self.verdict.value} ({size})" + (f"\n{told}" if told else "")

    def data(self) -> dict[str, object]:
        """The object that `./lab check --json` prints."""
        found: dict[str, object] = {
            "verdict": self.verdict.value,
            "operations": self.operations,
            "keys": self.keys,
            "seconds": round(self.seconds, 3),
            "violation": self.violation.data() if self.violation else None,
        }
        return found | ({"reason": self.reason} if self.reason else {})


def check(
    history: History,
    events: Sequence[Event] = (),
    *,
    known: Sequence[Told] = (),
    seconds: float = 60.0,
    places: int = 2_000_000,
) -> Report:
    """Decide a history, and the watch events recorded with it.

    `known` are writes known from elsewhere, such as members' logs; they count where all answers carry revisions. The
    search may take `seconds` and remember `places` (about 400 bytes each).
    """
    started = time.monotonic()
    limit = Limit(started + seconds, places)
    verdict, found, reason, settled = _decide(history, events, known, limit)
    found = None if found is None else named(history, events, found)
    spent = time.monotonic() - started
    return Report(verdict, len(history), len(history.keys), spent, found, reason, settled)


Found = tuple[Verdict, Violation | None, str, dict[int, int]]


def _decide(history: History, events: Sequence[Event], known: Sequence[Told], limit: Limit) -> Found:
    wrong = _apart(history, events)
    if wrong is not None:
        return Verdict.VIOLATION, wrong, "", {}
    if not history.acknowledged:
        return Verdict.UNKNOWN, None, _nothing_acknowledged(history), {}
    if history.actions:
        return _whole(history, events, known, limit)
    ok = history.outcome == Outcome.OK
    speaks = ok & ~np.isin(history.kind, (Kind.LEASE_GRANT, Kind.LEASE_KEEPALIVE))
    carries = history.revision >= 0
    mods = (
        bool((history.mod[ok] >= 0).any())
        or any(mod >= 0 for row, found in history.ranges.items() if ok[row] for _, mod in found.found.values())
        or any(part.mod >= 0 for row, txn in history.txns.items() if ok[row] for part in txn.parts)
    )
    if not (carries & ok).any() and not mods:
        return _search(history, limit)
    if bool((carries | ~speaks).all()):
        return _numbered(history, sorted({*told(history, events), *known}), limit)
    return _mixed(history, limit)


def _nothing_acknowledged(history: History) -> str:
    """Why a history without an acknowledged operation says nothing: any cluster, also none, leaves such a one."""
    if not len(history):
        return "there is nothing to judge: the history holds no operation"
    failed = int((history.outcome == Outcome.FAIL).sum())
    outcomes = ", ".join(
        f"{count} {what}"
        for count, what in ((failed, "failed"), (len(history) - failed, "of unknown outcome"))
        if count
    )
    return f"there is nothing to judge: no operation was acknowledged ({outcomes})"


def _whole(history: History, events: Sequence[Event], known: Sequence[Told], limit: Limit) -> Found:
    """Operations beyond the columns: what these say first, as it explains better; then all of it in exact form."""
    wrong = check_order(history, RealTime(history), history.takes_revision())
    evidence = sorted({*told(history, events), *known})
    if wrong is None and not history.vague and _all_numbered(history):
        relaxed = replace(history, meta=replace(history.meta, closed_world=False))
        wrong = decide(relaxed, evidence).violation
    if wrong is not None:
        return Verdict.VIOLATION, wrong, "", {}
    result, found = judge(history, evidence, deadline=limit.deadline, places=limit.places)
    if found is not None:
        return Verdict.VIOLATION, found, "", {}
    if result.answer != Order.YES:
        return _gave_up(limit)
    if events and result.forced and result.store is not None:
        wrong = check_watches(history, events, written(history, result.store))
        if wrong is not None:
            return Verdict.VIOLATION, wrong, "", {}
    return Verdict.LINEARIZABLE, None, "", {}


def _apart(history: History, events: Sequence[Event]) -> Violation | None:
    """What needs no order: reads that go back on one member, leases by the clock, watches."""
    wrong = check_serializable(history) or check_leases(history, gone_by_ns=history.meta.leases_gone_by_ns)
    if wrong is None and events:
        wrong = check_watches(history, events) or check_progress(events)
    return wrong


def _all_numbered(history: History) -> bool:
    """Whether every acknowledged answer that could have a revision has one."""
    quiet = np.isin(history.kind, (Kind.LEASE_GRANT, Kind.LEASE_KEEPALIVE))
    for row, action in history.actions.items():
        quiet[row] |= bool(action.answer) or action.kind == "lease_ttl"
    return bool(((history.outcome != Outcome.OK) | quiet | (history.revision >= 0)).all())


def _search(history: History, limit: Limit) -> Found:
    steps = steps_of(history)
    wrong = invented(history, steps)
    if wrong is not None:
        return Verdict.VIOLATION, wrong, "", {}
    answer, result, group = apart(history, steps, limit)
    if answer == Answer.NO and result is not None:
        return Verdict.VIOLATION, unordered(history, group, result, limit), "", {}
    return (Verdict.LINEARIZABLE, None, "", {}) if answer == Answer.YES else _gave_up(limit)


def _gave_up(limit: Limit) -> Found:
    which = "time" if limit.passed() else "memory"
    return Verdict.UNKNOWN, None, f"the search reached its limit of {which}; give it more with --timeout", {}


def _numbered(history: History, told_: list[Told], limit: Limit) -> Found:
    decision = decide(history, told_)
    if decision.violation is not None:
        return Verdict.VIOLATION, decision.violation, "", decision.settled
    undecided = (decision.undecided or set()) | leased_keys(history)
    if decision.undecided is None and not undecided:
        return Verdict.LINEARIZABLE, None, "", decision.settled
    steps = steps_of(history, RealTime(history))
    if history.meta.closed_world:
        result = together(history, steps, limit)
    else:
        result, steps = some_keys(history, steps, undecided, decision.taken, limit)
    if result.answer == Answer.NO:
        return Verdict.VIOLATION, unordered(history, steps, result, limit), "", decision.settled
    return (Verdict.LINEARIZABLE, None, "", decision.settled) if result.answer == Answer.YES else _gave_up(limit)


def _mixed(history: History, limit: Limit) -> Found:
    """Operations without revisions are first left as open as unknown ones are, and what is wrong then is wrong."""
    loose = (history.outcome == Outcome.OK) & (history.revision < 0)
    writes = loose & ~np.isin(history.kind, READS)
    outcome = np.where(writes, Outcome.UNKNOWN, np.where(loose, Outcome.FAIL, history.outcome))
    relaxed = replace(history, outcome=outcome, ret=np.where(writes, NEVER, history.ret))
    decision = decide(relaxed)
    if decision.violation is not None:
        return Verdict.VIOLATION, decision.violation, "", {}
    steps = steps_of(history, RealTime(history))
    result = together(history, steps, limit)
    if result.answer == Answer.NO:
        return Verdict.VIOLATION, unordered(history, steps, result, limit), "", {}
    return (Verdict.LINEARIZABLE, None, "", {}) if result.answer == Answer.YES else _gave_up(limit)
