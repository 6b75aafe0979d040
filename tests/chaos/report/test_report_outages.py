"""Outages as exact intervals from a history."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chaos.workload.outages import SLOW_NS, Outage, find_outages

MS = 1_000_000


def op(at_ms: int, took_ms: int | None, outcome: str = "ok", **more: Any) -> dict[str, Any]:
    return {
        "invoke_ns": at_ms * MS,
        "return_ns": None if took_ms is None else (at_ms + took_ms) * MS,
        "outcome": outcome,
        **more,
    }


def test_an_outage_runs_from_the_first_call_without_an_answer_to_the_next_success() -> None:
    ops = [op(0, 10), op(100, 10), op(200, None, "unknown"), op(1200, 1000, "fail"), op(2300, 10), op(2400, 10)]
    found = find_outages(ops)
    assert found.outages == (Outage(200 * MS, 2310 * MS, ended=True),)
    assert found.total_ns == 2110 * MS


def test_a_client_that_asks_nothing_is_no_outage() -> None:
    assert find_outages([op(0, 10), op(5000, 10)]).outages == ()


def test_one_that_never_ends_says_so() -> None:
    found = find_outages([op(0, 10), op(100, 1000, "fail"), op(1200, 1000, "fail")])
    assert found.outages == (Outage(100 * MS, 2200 * MS, ended=False),)


def test_one_call_that_hangs_while_others_succeed_is_no_outage() -> None:
    ops = sorted([op(0, 3000), *(op(at, 10) for at in range(5, 3000, 100))], key=lambda one: int(one["invoke_ns"]))
    assert find_outages(ops).outages == ()


def test_a_slow_success_is_an_outage_for_as_long_as_it_took() -> None:
    found = find_outages([*(op(at, 10) for at in range(0, 1000, 100)), op(1000, 900), op(2000, 10)])
    assert found.outages == (Outage(1000 * MS, 1900 * MS, ended=True),)


def test_reads_that_one_member_answers_alone_do_not_count() -> None:
    ops = [op(0, 10), op(100, 2000, "fail"), *(op(at, 5, serializable=True) for at in range(200, 2000, 100))]
    (outage,) = find_outages(ops).outages
    assert not outage.ended


def test_the_resolution_is_the_usual_time_between_calls() -> None:
    assert find_outages([op(at, 1) for at in (0, 50, 100, 150, 900)]).spacing_ns == 50 * MS


@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 3000), st.booleans()), min_size=1, max_size=60))
def test_no_success_falls_inside_an_outage_and_each_exceeds_the_limit(raw: list[tuple[int, int, bool]]) -> None:
    ops = [op(at, took, "ok" if good else "fail") for at, took, good in sorted(raw)]
    found = find_outages(ops)
    successes = [int(one["return_ns"]) for one in ops if one["outcome"] == "ok"]
    for outage in found.outages:
        assert outage.end_ns - outage.begin_ns > found.limit_ns >= SLOW_NS
        assert not [end for end in successes if outage.begin_ns < end < outage.end_ns]
        assert any(int(one["invoke_ns"]) <= outage.begin_ns <= int(one["return_ns"]) for one in ops)
    spans = sorted((one.begin_ns, one.end_ns) for one in found.outages)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
