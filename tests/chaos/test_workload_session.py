"""Counting what the workload did before, during and after, and what is missing of what was asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.workload.plan import Plan
from chaos.workload.pool import Pool
from chaos.workload.workload import Need, Window, WorkloadSession, _Tail
from machine.errors import InconclusiveError

SECOND = 10**9


@pytest.fixture
def session(tmp_path: Path) -> WorkloadSession:
    """Two workers at 2 operations a second for 10 s; etcd2's fail between 4 s and 7 s."""
    pool = Pool([])
    pool._endpoints = {"etcd1": None, "etcd2": None}  # type: ignore[dict-item]
    made = WorkloadSession(pool, Plan.parse("register,rate=2"), "p/", tmp_path, 1, begun_ns=0, stopped_ns=10 * SECOND)
    for node in pool.nodes:
        lines = []
        for half in range(1, 20):
            at = half * SECOND // 2
            broken = node == "etcd2" and 4 * SECOND <= at < 7 * SECOND
            begun = {"op": "put", "invoke_ns": at - 5, "process": 0}
            over = {"outcome": "unknown" if broken else "ok", "return_ns": None if broken else at, "gave_up_ns": at}
            lines += [json.dumps(begun), json.dumps(begun | over)]
        made.history_of(node).write_text("\n".join(lines) + '\n{"op": "put", "cut o')
        made._tails[node] = _Tail(made.history_of(node))
    return made


WINDOW = [Window(4 * SECOND, 7 * SECOND)]


def test_operations_are_counted_in_the_phase_they_returned_in(session: WorkloadSession) -> None:
    phases = session.phases(WINDOW)
    assert phases["before"] == {"ok": 14, "by_member": {"etcd1": 7, "etcd2": 7}}
    assert phases["during"] == {"ok": 6, "unknown": 6, "by_member": {"etcd1": 6}}
    assert phases["after"] == {"ok": 12, "by_member": {"etcd1": 6, "etcd2": 6}}


def test_a_fault_that_was_never_healed_leaves_nothing_after(session: WorkloadSession) -> None:
    phases = session.phases([Window(4 * SECOND, 0)])
    assert "ok" not in phases["after"]
    assert phases["during"]["ok"] == 18
    assert session.phases([])["before"]["ok"] == 32


@pytest.mark.parametrize(
    ("need", "missing"),
    [
        (Need(), ""),
        (Need(before=14, during=6, after=12), ""),
        (Need(before=15), "before: 14 of at least 15 operations succeeded"),
        (Need(during=1, side=("etcd2",)), "during on etcd2: 0 of at least 1 operations succeeded"),
        (Need(during=7, side=("etcd1", "etcd2")), "during on etcd1, etcd2: 6 of at least 7 operations succeeded"),
        (Need(after=13), "after: 12 of at least 13 operations succeeded"),
    ],
)
def test_less_than_asked_for_is_named_with_phase_and_side(session: WorkloadSession, need: Need, missing: str) -> None:
    session.need = need
    assert session.shortfall(WINDOW) == missing


def test_an_idle_workload_is_inconclusive(session: WorkloadSession) -> None:
    with pytest.raises(InconclusiveError, match="stands still"):
        session.wait_ok(8 * SECOND, 1000, seconds=0.2)
    session._seen = [one for one in session.seen() if one.node == "etcd1"]
    with pytest.raises(InconclusiveError, match="none by etcd2"):
        session.wait_ok(0, 1, everyone=True, seconds=0.2)


def test_the_asked_rate_is_judged_in_calm_only(session: WorkloadSession) -> None:
    reached, enough = session.rate(WINDOW)
    assert enough
    assert reached == pytest.approx(1.75, abs=0.3)
    session.plan = Plan.parse("register,rate=20")
    assert session.rate(WINDOW)[1] is False
