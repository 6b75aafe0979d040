"""A name service that is gone (M1), slow (M2) or wrong (M3), for labs whose members name each other."""

from __future__ import annotations

import pytest

from chaos.harness.declare import scenario
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps.leader_steps import expect_same_leader, healed, serves, status_of
from chaos.report import Step

pytestmark = pytest.mark.names


def need_names(play: ScenarioRun) -> tuple[str, ...]:
    """Names of three nodes or more; skips where members name each other by address."""
    nodes = play.need_nodes(3)
    peers = play.lab.manifest.peers
    if peers != "dns":
        reason = f"needs peers: dns, the lab has peers: {peers}"
        play.recorder.scenario.steps.append(
            Step(title="names", expected="peers: dns", observed=reason, verdict="skipped")
        )
        pytest.skip(reason)
    return nodes


def goes_on(play: ScenarioRun, fault: str, *words: str) -> None:
    """Open connections do not ask for names: leader and term stay, writes are served."""
    first, second, *_ = need_names(play)
    play.lead_from(first)
    term = status_of(play, first).raft_term
    play.inject(fault, *words)
    serves(play, second, reader=first)
    expect_same_leader(play, first, term, play.lab.manifest.node_names)


@scenario("M1", "the name service gone for all: members that are connected go on", "slow")
def test_members_go_on_without_a_name_service(scenario: ScenarioRun) -> None:
    """Names are looked up when a connection is made."""
    goes_on(scenario, "dns-gone", "all")


@scenario("M2", "the name service slow for all: members that are connected go on", "slow")
def test_members_go_on_with_a_slow_name_service(scenario: ScenarioRun) -> None:
    """Names are looked up when a connection is made."""
    goes_on(scenario, "dns-slow", "all")


@scenario("M3", "a follower's name leads elsewhere while it was cut off: recorded until the name is right", "slow")
def test_a_wrong_name_keeps_a_member_away_until_it_is_right(scenario: ScenarioRun) -> None:
    """After a cut connections are made anew; where its name leads elsewhere nobody reaches it, it may reach others."""
    first, second, third, *_ = need_names(scenario)
    scenario.lead_from(first)
    scenario.require_ops(side=[first, third])
    wrong = scenario.inject("dns-wrong", second)
    cut = scenario.inject("isolate", second)
    serves(scenario, first, reader=third)
    scenario.heal(cut)
    with scenario.step(f"{second} after the cut, its name still wrong", "recorded") as step:
        status = status_of(scenario, second)
        step.observed(
            f"leader {status.leader_id:x}, term {status.raft_term}, {'; '.join(status.errors) or 'no errors'}"
        )
    scenario.heal(wrong)
    healed(scenario, 120)
