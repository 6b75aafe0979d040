"""Clocks that jump (K1 to K4), drift (K5) or flip (K6): etcd's elections and leases run on monotonic time."""

from __future__ import annotations

import re

import pytest

from chaos.harness.declare import scenario
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps.leader_steps import expect_same_leader, serves, status_of
from chaos.harness.steps.write_steps import get_ok
from machine.errors import InconclusiveError

TTL = 600
"""Seconds of a lease that outlives every scenario, and no jump."""

pytestmark = pytest.mark.clock


def unmoved(play: ScenarioRun, fault: str, word: str, **params: float) -> None:
    """With a clock made wrong: no election, no lease lost, data kept, writes served."""
    first, second, *_ = play.need_nodes(3)
    play.lead_from(first)
    term = status_of(play, first).raft_term
    value = serves(play, first)
    lease = granted(play, second)
    play.inject(fault, first if word == "leader" else second, **params)
    expect_same_leader(play, first, term, play.lab.manifest.node_names)
    get_ok(play, second, f"served/{first}", value, "data kept", deadline=10)
    serves(play, second, reader=first)
    with play.step("lease", f"most of its {TTL} s left, as it counts monotonic time") as step:
        left = remaining(play, second, lease)
        step.observed(f"{left} s left")
        assert left > TTL / 2
    play.heal_all()
    expect_same_leader(play, first, term, play.lab.manifest.node_names)


def granted(play: ScenarioRun, node: str) -> str:
    """A precondition: a lease of TTL seconds; its id."""
    with play.precondition(f"lease of {TTL} s", "granted") as step:
        done = play.lab.etcdctl(node, "lease", "grant", str(TTL))
        step.observed(done.stdout.strip() or done.stderr.strip())
        found = re.match(r"lease (\w+) granted", done.stdout)
        if not found:
            raise InconclusiveError(f"No lease was granted: {done.stderr.strip()}")
        return found[1]


def remaining(play: ScenarioRun, node: str, lease: str) -> int:
    """Seconds that a lease has left; -1 when it is gone."""
    done = play.lab.etcdctl(node, "lease", "timetolive", lease)
    found = re.search(r"remaining\((\d+)s\)", done.stdout)
    return int(found[1]) if found else -1


@scenario("K1", "the leader's clock an hour ahead: nothing happens", "quick")
def test_the_leader_s_clock_jumps_ahead(scenario: ScenarioRun) -> None:
    """Leases and elections do not follow it."""
    unmoved(scenario, "clock-jump", "leader", seconds=3600)


@scenario("K2", "the leader's clock an hour back: nothing happens", "slow")
def test_the_leader_s_clock_jumps_back(scenario: ScenarioRun) -> None:
    """Leases and elections do not follow it."""
    unmoved(scenario, "clock-jump", "leader", seconds=-3600)


@scenario("K3", "a follower's clock an hour ahead: nothing happens", "slow")
def test_a_follower_s_clock_jumps_ahead(scenario: ScenarioRun) -> None:
    """It does not campaign."""
    unmoved(scenario, "clock-jump", "follower", seconds=3600)


@scenario("K4", "a follower's clock an hour back: nothing happens", "slow")
def test_a_follower_s_clock_jumps_back(scenario: ScenarioRun) -> None:
    """It does not hang either."""
    unmoved(scenario, "clock-jump", "follower", seconds=-3600)


@scenario("K5", "the leader's clock five percent fast: nothing happens", "slow")
def test_the_leader_s_clock_drifts(scenario: ScenarioRun) -> None:
    """Its timers run fast too, as the kernel slews monotonic time; T is ten heartbeats, so nobody notices."""
    unmoved(scenario, "clock-drift", "leader", ppm=50000)


@scenario("K6", "a follower's clock flips to and fro: nothing happens", "slow")
def test_a_follower_s_clock_flips(scenario: ScenarioRun) -> None:
    """Twice a second, by ten seconds."""
    unmoved(scenario, "clock-strobe", "follower", seconds=10, period_ms=500)
