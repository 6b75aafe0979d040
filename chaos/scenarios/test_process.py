"""The etcd process killed, stopped, starved: under the leader and under a follower (C1, …)."""

from __future__ import annotations

import time

import pytest

from chaos.harness.declare import scenario
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps.loss_steps import (
    elected_after,
    follower_lost,
    follower_returns,
    joined,
    leader_lost,
    old_leader_returns,
    term_of,
    tolerate_inconclusive,
)
from chaos.harness.steps.write_steps import calm, ledger_everywhere, more_writes, writes_go_on
from machine.errors import InconclusiveError

pytestmark = pytest.mark.process

STARVED_PUTS = 10


@scenario("C1", "SIGKILL to the leader: an election, and it comes back", "quick")
def test_a_killed_leader_is_replaced_and_comes_back(scenario: ScenarioRun) -> None:
    """Nobody is told: the others wait for T to 2T. systemd starts it again meanwhile, as a follower."""
    first, second, *_ = scenario.need_nodes(3)
    kill = leader_lost(scenario, "kill", first, second)
    scenario.heal(kill)
    joined(scenario, first)


@scenario("C2", "SIGKILL to a follower: nobody notices")
def test_a_killed_follower_costs_nothing(scenario: ScenarioRun) -> None:
    """No election, no gap; it comes back by itself, with every entry."""
    first, second, third, *_ = scenario.need_nodes(3)
    follower_returns(scenario, "kill", third, first, second)


@scenario("C3", "SIGSTOP to a follower: the others serve, it goes on where it was", "quick")
def test_a_stopped_follower_costs_nothing(scenario: ScenarioRun) -> None:
    """Its kernel takes what is sent; nobody waits for it. After SIGCONT it has a term's pre-vote and no election."""
    first, second, third, *_ = scenario.need_nodes(3)
    follower_returns(scenario, "stop-process", third, first, second)


@scenario("C4", "SIGSTOP to the leader: it wakes up as leader of the past, and tells nothing stale")
def test_a_stopped_leader_does_not_lie_when_it_goes_on(scenario: ScenarioRun) -> None:
    """Another is elected; the old leader steps down, and no linearizable read of it is stale."""
    first, second, *_ = scenario.need_nodes(3)
    old_leader_returns(scenario, "stop-process", first, second)


@scenario("C5", "graceful stop of the leader: it hands over first")
def test_a_leader_that_is_stopped_hands_over(scenario: ScenarioRun) -> None:
    """No election timeout passes: leadership is transferred before the process ends (E etcdserver/server.go, Stop)."""
    first, second, *_ = scenario.need_nodes(3)
    scenario.lead_from(first)
    term = term_of(scenario)
    with scenario.writer(second) as writer:
        count = calm(scenario, writer)
        begun_ns = time.monotonic_ns()
        stop = scenario.inject("stop", first)
        with tolerate_inconclusive():
            writes_go_on(scenario, writer, count)
    ended_ns = time.monotonic_ns()
    with tolerate_inconclusive():
        change = elected_after(scenario, begun_ns, ended_ns)
        took = max(0.0, ((change.elected_ns or 0) - change.lost_ns) / 1e9)
        scenario.compare("handover", took, window=(begun_ns, ended_ns))
    with scenario.step("leader and term", f"another leads, in term {term + 1}") as step:
        now, leads = term_of(scenario), scenario.lab.leader()
        step.observed(f"{leads} leads in term {now}")
        assert leads not in (None, first)
        assert now == term + 1
    scenario.heal(stop)
    joined(scenario, first)


@scenario("C6", "a follower killed for memory, again and again: the others serve")
def test_a_follower_without_memory_costs_nothing(scenario: ScenarioRun) -> None:
    """It starts and is killed all the time; no acknowledged write is lost, and it comes back with memory."""
    first, second, third, *_ = scenario.need_nodes(3)
    scenario.lead_from(first)
    with scenario.writer(second) as writer:
        count = calm(scenario, writer)
        oom = scenario.inject("oom", third)
        with tolerate_inconclusive():
            writes_go_on(scenario, writer, count)
        scenario.heal(oom)
        joined(scenario, third)
        more_writes(writer, STARVED_PUTS, 30)
    ledger_everywhere(scenario, writer)


@scenario("C7", "a follower starved of processor: the majority serves without it")
def test_a_starved_follower_costs_nothing(scenario: ScenarioRun) -> None:
    """It is late for everything; a leader and one follower that are in time are a majority."""
    first, second, third, *_ = scenario.need_nodes(3)
    starved, term = follower_lost(scenario, "cpu-starve", third, first, second)
    scenario.heal(starved)
    joined(scenario, third)
    with scenario.step("leadership", "recorded: a starved follower may campaign, pre-vote makes it harmless") as step:
        now, leads = term_of(scenario), scenario.lab.leader()
        step.observed(f"{leads} leads in term {now}, before {first} in term {term}")
        if leads is None:
            raise InconclusiveError("Nobody leads, on a cluster that is healthy")
