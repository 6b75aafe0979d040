"""Timing, rules and comparison: worked cases from etcd's documents and source, and laws that hold for all timings."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.oracle.context import Context
from chaos.oracle.delays import Machine
from chaos.oracle.judge import compare, interval
from chaos.oracle.rules import RULES, rule
from chaos.oracle.timing import Timing

USUAL = Timing.from_ms(100, 1000, pre_vote=True, version=(3, 6))
OLD = Timing.from_ms(100, 1000, pre_vote=False, version=(3, 4))
TCG = Timing.from_ms(300, 3000, pre_vote=True, version=(3, 6))

timings = st.builds(
    lambda heartbeat, times, before: Timing.from_ms(heartbeat, heartbeat * times, pre_vote=before, version=(3, 6)),
    st.integers(10, 1000),
    st.integers(5, 40),
    st.booleans(),
)
machines = st.builds(Machine, *[st.floats(0, 5) for _ in range(7)])
contexts = st.builds(
    Context,
    timing=timings,
    machine=machines,
    rounds=st.integers(1, 9),
    alone=st.floats(0, 600),
    led=st.booleans(),
    ttl=st.integers(0, 100),
    resolution=st.floats(0, 2),
)
rules = st.sampled_from(sorted(RULES))


def test_etcds_own_defaults_give_the_figures_its_documents_and_users_name() -> None:
    assert USUAL.request_limit == 7.0
    assert USUAL.least_ttl == 2
    low, high = interval(rule("election"), Context(USUAL))
    assert (low, high) == pytest.approx((0.9, 2.1))


@pytest.mark.parametrize(
    ("heartbeat", "election", "timeout", "ttl"),
    [(29, 271, 0.261, 1), (101, 521, 0.505, 1), (100, 2000, 2.0, 3), (300, 3000, 3.0, 5), (100, 5000, 5.0, 8)],
)
def test_whole_ticks_count_as_in_etcds_own_arithmetic(heartbeat: int, election: int, timeout: float, ttl: int) -> None:
    timing = Timing.from_ms(heartbeat, election, pre_vote=True, version=(3, 6))
    assert timing.election == pytest.approx(timeout)
    assert timing.least_ttl == ttl


def test_terms_of_a_lonely_member_match_what_was_reported_of_a_minute() -> None:
    """At T = 1 s some 30 to 60 terms a minute without pre-vote, none with it."""
    low, high = interval(rule("term-alone-without-pre-vote"), Context(OLD, alone=60))
    assert 25 <= low <= 30
    assert 60 <= high <= 67
    assert compare(0, "term-alone", Context(USUAL, alone=60)).verdict == "inside"
    assert compare(1, "term-alone", Context(USUAL, alone=60)).verdict == "outside"


def test_a_cut_leader_costs_a_term_and_a_cut_follower_none() -> None:
    assert compare(1, "term-cluster", Context(USUAL, led=True)).verdict == "inside"
    assert compare(0, "term-cluster", Context(USUAL, led=True)).verdict == "outside"
    assert compare(1, "term-cluster", Context(USUAL)).verdict == "outside"
    assert compare(0, "term-after-heal", Context(OLD)).verdict == "outside"


def test_a_lease_that_dies_early_is_a_broken_promise_on_any_machine() -> None:
    slow = Machine(fsync=1.0)
    assert compare(9.8, "lease-life", Context(USUAL, slow, ttl=10)).verdict == "outside"
    assert compare(10.2, "lease-life-new-leader", Context(USUAL, slow, ttl=10)).verdict == "outside"
    assert compare(11.2, "lease-life-new-leader", Context(USUAL, ttl=10)).verdict == "inside"
    assert compare(1, "lease-no-quorum", Context(USUAL, slow)).verdict == "outside"


def test_a_late_election_is_a_failure_on_a_fast_machine_and_nothing_on_a_slow_one() -> None:
    fast, slow = Machine(0.001, 0.002, 0.001), Machine(0.001, 0.4, 0.001)
    assert compare(9.0, "election", Context(TCG, fast)).verdict == "outside"
    told = compare(9.0, "election", Context(TCG, slow))
    assert told.verdict == "inconclusive"
    assert "fsync" in told.why
    assert "400 ms" in told.why
    assert "round trip" not in told.why


def test_a_further_round_that_the_log_shows_is_allowed_for() -> None:
    assert compare(9.0, "election", Context(TCG)).verdict == "outside"
    assert compare(9.0, "election", Context(TCG, rounds=2)).verdict == "inside"


def test_sooner_than_raft_can_be_is_better_and_told_apart() -> None:
    assert compare(0.2, "election", Context(TCG)).verdict == "better"


def test_a_version_before_the_table_judges_nothing() -> None:
    ancient = Timing.from_ms(100, 1000, pre_vote=False, version=(3, 3))
    assert compare(1.5, "election", Context(ancient)).verdict == "inconclusive"


def test_nothing_observed_is_inconclusive() -> None:
    assert compare(math.nan, "election", Context(TCG)).verdict == "inconclusive"


def test_an_unknown_rule_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="election"):
        rule("elections")


@given(rules, contexts)
def test_every_rule_gives_an_interval_and_its_ends_are_inside(name: str, context: Context) -> None:
    low, high = interval(rule(name), context)
    assert 0 <= low <= high
    assert compare(low, name, context).verdict == "inside"
    if not math.isinf(high):
        assert compare(high, name, context).verdict == "inside"


@given(rules, contexts, st.floats(0, 1000))
def test_a_verdict_is_bad_only_beyond_an_end_and_excused_only_by_a_named_measurement(
    name: str, context: Context, observed: float
) -> None:
    told = compare(observed, name, context)
    assert (told.verdict == "inside") == (told.allowed_low <= observed <= told.allowed_high)
    if told.verdict == "inconclusive":
        slow = context.machine.too_slow_for(context.timing)
        assert slow
        assert all(text in told.why for text in slow)


@given(rules, contexts, st.floats(0, 1000), machines)
def test_a_faster_machine_never_turns_a_failure_into_a_pass(
    name: str, context: Context, observed: float, other: Machine
) -> None:
    """What fails on the slower of two machines' intervals fails on the faster's as well."""
    slower = dataclasses.replace(context, machine=context.machine.beside(other))
    if compare(observed, name, slower).verdict == "outside" and name != "term-alone-without-pre-vote":
        assert compare(observed, name, context).verdict == "outside"


@given(timings, machines)
def test_the_advised_timeouts_hold_the_machine_that_they_were_chosen_for(timing: Timing, machine: Machine) -> None:
    heartbeat, election = machine.timeouts_ms()
    advised = Timing.from_ms(heartbeat, election, pre_vote=timing.pre_vote, version=timing.version)
    assert election <= 50_000
    assert advised.ticks >= 5
    assert not dataclasses.replace(machine, stuck=0.0).too_slow_for(advised)
    assert bool(machine.advice(timing)) == bool(machine.too_slow_for(timing))


def test_after_a_long_cut_members_wait_for_tcp_as_long_as_the_cut_was() -> None:
    """A link that was down for 34.3 s, with T = 3 s: healthy 30 s after it was up, in the run that showed it."""
    lossy = Context(TCG, Machine(round_trip=0.03), alone=34.3)
    low, high = interval(rule("rejoin"), lossy)
    assert low == 0
    assert high == pytest.approx(34.3 + 0.23 + 0.5 + 6.3, abs=0.1)
    assert compare(30.0, "rejoin", lossy).verdict == "inside"
    assert compare(45.0, "rejoin", lossy).verdict == "outside"


def test_how_long_members_wait_for_tcp_depends_on_version_and_has_an_end() -> None:
    """3.4 gives a silent stream up after 5 s; from 3.5 on the kernel's retransmission decides, up to two minutes."""
    old = dataclasses.replace(TCG, version=(3, 4))
    assert Context(old, alone=60.0).connected == pytest.approx(5 + 1 + 3)
    assert Context(old, alone=6.0).connected == pytest.approx(6.2)
    assert Context(TCG, alone=600.0).connected == 120
    assert Context(TCG, alone=0.1).connected == pytest.approx(1 + 3), "a dial that is under way"


@given(st.floats(0, 300), st.floats(0.2, 2))
def test_a_retransmission_comes_after_a_cut_no_later_than_the_rule_says(cut: float, first: float) -> None:
    """Retransmissions after first, 3 first, 7 first, … since the last segment; the next one after the cut's end."""
    at, pause = 0.0, first
    while at <= cut:
        at, pause = at + pause, min(2 * pause, 120.0)
    assert at - cut <= min(cut + first, 120.0) + 1e-9
