"""Cuts of every shape: a node alone (N1, N2), one way (N3, N4), a shared node (N5, N6), clients (N7), peers (N8),
the cable (N9, N10), and a partition made inside the guests (N11)."""

from __future__ import annotations

import time

import pytest

from chaos.harness.declare import scenario
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps.leader_steps import (
    expect_leaderless,
    expect_read_times_out,
    expect_same_leader,
    healed,
    serves,
    status_of,
    successor,
)
from chaos.harness.steps.write_steps import get_ok
from chaos.oracle import pre_vote

pytestmark = pytest.mark.network


def term_of(play: ScenarioRun, node: str) -> int:
    """Its term now."""
    return status_of(play, node).raft_term


def lose_leader_to(play: ScenarioRun, fault: str, *words: str) -> tuple[str, str]:
    """With the leader on the first node, break what makes the others elect another; gives old and new leader."""
    first, *rest = play.need_nodes(3)
    play.lead_from(first)
    before = term_of(play, first)
    play.require_ops(side=rest)
    begun = time.monotonic_ns()
    play.inject(fault, *words)
    new = successor(play, first, rest, begun)
    with play.step("term of the majority", "higher than before") as step:
        after = term_of(play, new)
        step.observed(f"before {before}, after {after}")
        assert after > before
    serves(play, new, reader=next(node for node in rest if node != new))
    return first, new


@scenario("N1", "isolate the leader: the others elect another, it steps down")
def test_isolated_leader_is_replaced_and_steps_down(scenario: ScenarioRun) -> None:
    """The old leader knows no leader after at most 2T, and serves no linearizable read; healed, it follows."""
    old, _ = lose_leader_to(scenario, "isolate", "leader")
    expect_leaderless(scenario, old)
    expect_read_times_out(scenario, old)
    scenario.heal_all()
    healed(scenario)


@scenario("N2", "isolate a follower: nothing changes for the others", "quick")
def test_isolated_follower_changes_nothing(scenario: ScenarioRun) -> None:
    """Leader and term stay; with pre-vote they stay when it returns, too."""
    first, second, *rest = scenario.need_nodes(3)
    scenario.lead_from(first)
    term = term_of(scenario, first)
    scenario.require_ops(side=[first, *rest])
    scenario.inject("isolate", second)
    expect_leaderless(scenario, second)
    expect_same_leader(scenario, first, term, [first, *rest])
    serves(scenario, first, reader=rest[0])
    scenario.heal_all()
    healed(scenario)
    after = term_of(scenario, first)
    scenario.compare("term-after-heal", after - term)
    if pre_vote(scenario.lab.manifest):
        expect_same_leader(scenario, first, term, [first, second, *rest])


@scenario("N3", "the leader cannot send: the others elect another", "slow")
def test_a_leader_that_cannot_send_is_replaced(scenario: ScenarioRun) -> None:
    """It hears of the new term, as it can still receive, and gives way; it cannot answer, so it serves nobody."""
    old, _ = lose_leader_to(scenario, "one-way", "leader")
    with scenario.step(f"{old} gives way", "it leads no more") as step:
        status = status_of(scenario, old)
        step.observed(f"leader {status.leader_id:x}, term {status.raft_term}")
        assert not status.leader
    scenario.heal_all()
    healed(scenario)


@scenario("N4", "the leader cannot receive: it steps down, the others elect another", "slow")
def test_a_leader_that_cannot_receive_steps_down(scenario: ScenarioRun) -> None:
    """Its heartbeats still come, so nobody campaigns before CheckQuorum makes it step down (T to 2T), then one does."""
    first, *rest = scenario.need_nodes(3)
    scenario.lead_from(first)
    before = term_of(scenario, first)
    scenario.require_ops(side=rest)
    scenario.inject("one-way", ",".join(rest), first)
    expect_leaderless(scenario, first)
    with scenario.step("a new leader", f"one of {', '.join(rest)}, in a higher term") as step:
        serves(scenario, rest[0], reader=rest[1])
        leader = scenario.lab.leader()
        after = term_of(scenario, rest[0])
        step.observed(f"{leader} leads in term {after}, before {before}")
        assert leader in rest
        assert after > before
    scenario.heal_all()
    healed(scenario)


@scenario("N5", "two halves that share the leader: nothing changes", "slow")
def test_a_bridge_with_the_leader_between_changes_nothing(scenario: ScenarioRun) -> None:
    """Every member still hears the leader."""
    first, second, third, *_ = scenario.need_nodes(3)
    scenario.lead_from(second)
    term = term_of(scenario, second)
    scenario.inject("bridge", second)
    serves(scenario, first, reader=third)
    expect_same_leader(scenario, second, term, scenario.lab.manifest.node_names)
    scenario.heal_all()
    healed(scenario)


@scenario("N6", "two halves, the leader in one of them: the other half's outer node is alone", "slow")
def test_a_bridge_with_the_leader_in_one_half(scenario: ScenarioRun) -> None:
    """The shared node hears the leader, so it refuses its vote (R raft.go, Step: the leader's lease); no election."""
    first, second, third = scenario.need_nodes(3)[:3]
    if len(scenario.lab.manifest.nodes) != 3:
        pytest.skip("the outcome is determined with three nodes")
    scenario.lead_from(first)
    term = term_of(scenario, first)
    scenario.require_ops(side=[first, second])
    scenario.inject("bridge", second)
    expect_leaderless(scenario, third)
    serves(scenario, first, reader=second)
    expect_read_times_out(scenario, third)
    if pre_vote(scenario.lab.manifest):
        expect_same_leader(scenario, first, term, [first, second])
    scenario.heal_all()
    healed(scenario)


@scenario("N7", "clients cut off from the leader: the cluster goes on", "quick")
def test_cutting_clients_leaves_the_cluster_alone(scenario: ScenarioRun) -> None:
    """No election; others serve; a client of the leader waits in vain, and status is still seen from this host."""
    first, *rest = scenario.need_nodes(3)
    scenario.lead_from(first)
    term = term_of(scenario, first)
    scenario.require_ops(side=rest)
    scenario.inject("cut-clients", first)
    serves(scenario, rest[0], reader=rest[1])
    with scenario.step(f"put to {first}", "no answer") as step:
        put = scenario.client(first).put("served/nobody", "x", deadline=3)
        step.observed(put)
        assert not put.ok
    expect_same_leader(scenario, first, term, scenario.lab.manifest.node_names)
    scenario.heal_all()
    serves(scenario, first)


@scenario("N8", "peers cut off from a follower: clients reach it, and it serves nothing new", "slow")
def test_cutting_peers_leaves_clients_with_a_member_that_cannot_serve(scenario: ScenarioRun) -> None:
    """As isolated for raft, but every client port answers, from other nodes too."""
    first, second, *rest = scenario.need_nodes(3)
    scenario.lead_from(first)
    term = term_of(scenario, first)
    scenario.require_ops(side=[first, *rest])
    scenario.inject("cut-peers", second)
    expect_leaderless(scenario, second)
    serves(scenario, first, reader=rest[0])
    expect_read_times_out(scenario, second)
    expect_same_leader(scenario, first, term, [first, *rest])
    scenario.heal_all()
    healed(scenario)


@scenario("N9", "link of a follower down and up: it catches up in the same term", "slow")
def test_a_follower_without_a_link_comes_back(scenario: ScenarioRun) -> None:
    """What was written meanwhile is read from it after."""
    first, second, *rest = scenario.need_nodes(3)
    scenario.lead_from(first)
    term = term_of(scenario, first)
    scenario.require_ops(side=[first, *rest])
    scenario.inject("link-down", second)
    value = serves(scenario, first, reader=rest[0])
    expect_same_leader(scenario, first, term, [first, *rest])
    scenario.heal_all()
    healed(scenario)
    get_ok(scenario, second, f"served/{first}", value, f"get from {second}", deadline=15)
    if pre_vote(scenario.lab.manifest):
        expect_same_leader(scenario, first, term, scenario.lab.manifest.node_names)


@scenario("N10", "link of the leader down: the others elect another", "slow")
def test_a_leader_without_a_link_is_replaced(scenario: ScenarioRun) -> None:
    """As an isolated one, seen by its own kernel."""
    lose_leader_to(scenario, "link-down", "leader")
    scenario.heal_all()
    healed(scenario)


@scenario("N11", "a partition made inside the guests: the same outcome as at the bridge", "slow")
def test_a_partition_inside_the_guests(scenario: ScenarioRun) -> None:
    """One follower cut off by rules in every guest's own kernel."""
    first, second, *rest = scenario.need_nodes(3)
    scenario.lead_from(first)
    term = term_of(scenario, first)
    scenario.require_ops(side=[first, *rest])
    scenario.inject("partition", second, where="guest")
    expect_leaderless(scenario, second)
    expect_same_leader(scenario, first, term, [first, *rest])
    serves(scenario, first, reader=rest[0])
    scenario.heal_all()
    healed(scenario)
