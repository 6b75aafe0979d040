"""Bad lines of the leader: latency (N21), loss (N22), and what else happens to packets (N23 to N26)."""

from __future__ import annotations

import statistics

import pytest

from chaos.harness.declare import scenario
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps.leader_steps import expect_same_leader, serves, status_of
from chaos.workload.outcome import Op
from machine.errors import InconclusiveError

LATENCY_MS = 200
"""Well under the heartbeat interval under TCG, well over a put in calm."""

PUTS = 5

pytestmark = pytest.mark.network


def puts(play: ScenarioRun, node: str, when: str) -> list[Op]:
    """A step: some puts to a node are acknowledged."""
    with play.step(f"{PUTS} puts to {node}, {when}", "acknowledged") as step:
        made = [play.client(node).put(f"line/{number}", when, deadline=20) for number in range(PUTS)]
        step.observed(", ".join(f"{op.seconds:.2f} s" for op in made))
        assert all(op.ok for op in made), made
    return made


@scenario("N21", "latency on the leader's lines: writes go on, later by as much", "quick")
def test_latency_on_the_leader_s_lines(scenario: ScenarioRun) -> None:
    """An entry waits once on its way to the followers, whose answers are not held back. No election."""
    first, *_ = scenario.need_nodes(3)
    scenario.lead_from(first)
    term = status_of(scenario, first).raft_term
    calm = puts(scenario, first, "before")
    scenario.inject("latency", first, ms=LATENCY_MS)
    slow = puts(scenario, first, "during")
    scenario.metric(
        "put_seconds",
        {
            when: round(statistics.median(op.seconds for op in ops), 3)
            for when, ops in (("calm", calm), ("latency", slow))
        },
    )
    with scenario.step("every put during", f"takes {LATENCY_MS} ms or more") as step:
        quickest = min(op.seconds for op in slow)
        step.observed(f"quickest {quickest:.3f} s; in calm {min(op.seconds for op in calm):.3f} s")
        if min(op.seconds for op in calm) >= LATENCY_MS / 1000:
            raise InconclusiveError("Puts took that long in calm already")
        assert quickest >= LATENCY_MS / 1000
    expect_same_leader(scenario, first, term, scenario.lab.manifest.node_names)


def goes_on(play: ScenarioRun, fault: str, **params: float) -> None:
    """With the leader's lines made bad, puts through a follower are acknowledged; an election is recorded, no more."""
    first, second, *_ = play.need_nodes(3)
    play.lead_from(first)
    term = status_of(play, first).raft_term
    play.inject(fault, first, **params)
    puts(play, second, "during")
    with play.step("leadership", "recorded: etcd promises service, not that the leader stays") as step:
        leader = play.lab.leader()
        now = max(play.lab.terms().values(), default=term)
        step.observed(f"{leader} leads, term {now}, before {first} in term {term}")
        play.metric("elections", now - term)
    play.heal_all()
    serves(play, first, reader=second)


@scenario("N22", "30 percent loss on the leader's lines: writes go on", "slow")
def test_loss_on_the_leader_s_lines(scenario: ScenarioRun) -> None:
    """TCP sends again; entries and heartbeats come late, not never."""
    goes_on(scenario, "loss", percent=30)


@scenario("N23", "duplicates on the leader's lines: writes go on", "slow")
def test_duplicates_on_the_leader_s_lines(scenario: ScenarioRun) -> None:
    """TCP drops what it has."""
    goes_on(scenario, "duplicate", percent=50)


@scenario("N24", "packets of the leader out of order: writes go on", "slow")
def test_disorder_on_the_leader_s_lines(scenario: ScenarioRun) -> None:
    """TCP puts them in order."""
    goes_on(scenario, "reorder", percent=25, ms=100)


@scenario("N25", "flipped bits on the leader's lines: writes go on, no data is wrong", "slow")
def test_corruption_on_the_leader_s_lines(scenario: ScenarioRun) -> None:
    """Checksums of TCP and TLS catch them."""
    goes_on(scenario, "corrupt", percent=10)


@scenario("N26", "a slow line of the leader: writes go on", "slow")
def test_a_slow_line_of_the_leader(scenario: ScenarioRun) -> None:
    """A quarter of a megabit a second is enough for small entries."""
    goes_on(scenario, "rate", kbit=256)


@scenario("N27", "latency that varies on a follower's lines: writes go on", "slow")
def test_jitter_on_a_follower_s_lines(scenario: ScenarioRun) -> None:
    """The leader needs one follower only, so its puts wait for nobody."""
    first, second, third, *_ = scenario.need_nodes(3)
    scenario.lead_from(first)
    term = status_of(scenario, first).raft_term
    scenario.inject("jitter", second)
    puts(scenario, third, "during")
    expect_same_leader(scenario, first, term, scenario.lab.manifest.node_names)
