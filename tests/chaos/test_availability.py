"""Gaps in availability: from operations to intervals, with laws that hold for any sequence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.workload.availability import SLOW_SECONDS, measure, slow_limit
from chaos.workload.outcome import Op, Outcome

MS = 1_000_000


def op(begin_ms: int, took_ms: int, outcome: Outcome = "ok", error: str = "") -> Op:
    return Op(
        process=0, member="etcd1", op="put", key=f"k{begin_ms}", value="v", invoke_ns=begin_ms * MS,
        return_ns=(begin_ms + took_ms) * MS, outcome=outcome, revision=1, mod_revision=None, values=(),
        code="OK" if outcome == "ok" else "DEADLINE_EXCEEDED", error=error,
    )  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> list[Op]:
    ops, now = [], 0
    for _ in range(draw(st.integers(0, 30))):
        now += draw(st.integers(0, 200))
        took = draw(st.integers(1, 1500))
        ops.append(op(now, took, draw(st.sampled_from(["ok", "ok", "fail", "unknown"]))))
        now += took
    return ops


def test_prompt_puts_have_no_gap() -> None:
    found = measure([op(0, 10), op(100, 499), op(700, 20)])
    assert (found.gaps, found.longest, found.attempted, found.acknowledged) == ((), 0.0, 3, 3)


def test_a_gap_lasts_from_the_first_failing_call_to_the_next_acknowledgement() -> None:
    ops = [op(0, 10), op(100, 1000, "unknown", "deadline"), op(1100, 5, "fail", "refused"), op(1300, 40), op(1500, 10)]
    (gap,) = measure(ops).gaps
    assert (gap.begin_ns, gap.end_ns, gap.ended) == (100 * MS, 1340 * MS, True)
    assert gap.errors == ("DEADLINE_EXCEEDED: deadline", "DEADLINE_EXCEEDED: refused")


def test_a_slow_acknowledgement_is_a_gap_of_its_own_length() -> None:
    (gap,) = measure([op(0, 10), op(100, 800), op(1000, 10)]).gaps
    assert gap.seconds == pytest.approx(0.8)


def test_a_gap_at_the_end_is_told_to_go_on() -> None:
    (gap,) = measure([op(0, 10), op(100, 1000, "unknown")]).gaps
    assert not gap.ended
    assert "and going on" in str(measure([op(100, 1000, "unknown")]))


@given(histories())
def test_gaps_are_disjoint_in_order_and_hold_every_put_that_was_not_prompt(ops: list[Op]) -> None:
    found = measure(ops)
    for one, other in zip(found.gaps, found.gaps[1:], strict=False):
        assert one.end_ns <= other.begin_ns
    for each in ops:
        prompt = each.ok and each.seconds <= SLOW_SECONDS
        inside = any(gap.begin_ns <= each.invoke_ns and each.return_ns <= gap.end_ns for gap in found.gaps)
        assert prompt or inside
    # a prompt put lies in a gap only as the acknowledgement that ends it
    ends = {gap.end_ns for gap in found.gaps if gap.ended}
    for each in ops:
        if each.ok and any(gap.begin_ns < each.return_ns < gap.end_ns for gap in found.gaps):
            pytest.fail(f"{each} was acknowledged in the middle of a gap")
    assert all(any(each.ok and each.return_ns == end for each in ops) for end in ends)
    assert found.total == pytest.approx(sum(gap.seconds for gap in found.gaps))
    assert [gap.ended for gap in found.gaps[:-1]] == [True] * max(0, len(found.gaps) - 1)


@given(st.lists(st.integers(1, 3000), min_size=1))
def test_what_is_slow_follows_the_machine_but_is_never_under_the_floor(times: list[int]) -> None:
    limit = slow_limit([op(0, each) for each in times])
    assert limit >= SLOW_SECONDS
    assert limit >= 10 * sorted(times)[(len(times) - 1) // 2] / 1000 - 1e-9


def test_without_a_calm_put_the_floor_holds() -> None:
    assert slow_limit([op(0, 9000, "unknown")]) == SLOW_SECONDS
