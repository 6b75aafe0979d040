"""Machines halted and gone on, reset, and a majority without power (P1, …)."""

from __future__ import annotations

import time

import pytest

from chaos.harness.declare import scenario
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps.leader_steps import USER_DEADLINE
from chaos.harness.steps.loss_steps import follower_returns, joined, old_leader_returns
from chaos.harness.steps.write_steps import calm, ledger_everywhere, more_writes
from chaos.oracle import request_bound

pytestmark = pytest.mark.power


@scenario("P1", "the leader's machine halted and gone on: it steps down, and tells nothing stale")
def test_a_halted_leader_does_not_lie_when_it_goes_on(scenario: ScenarioRun) -> None:
    """It believes that no time has passed; only a majority can tell it otherwise, and it must ask."""
    first, second, *_ = scenario.need_nodes(3)
    old_leader_returns(scenario, "pause", first, second)


@scenario("P2", "a follower's machine halted and gone on: no election")
def test_a_halted_follower_costs_nothing(scenario: ScenarioRun) -> None:
    """The others serve, and it catches up; with pre-vote its return moves no term."""
    first, second, third, *_ = scenario.need_nodes(3)
    follower_returns(scenario, "pause", third, first, second)


@scenario("P3", "power off a majority: no write is acknowledged, then all is there again")
def test_a_majority_without_power_stops_writes_and_loses_none(scenario: ScenarioRun) -> None:
    """The member that is left takes no write and no linearizable read; its own copy can be read."""
    first, second, third, *_ = scenario.need_nodes(3)
    scenario.require_ops(during=0)
    lab = scenario.lab
    key = f"majority/{time.monotonic_ns()}"
    with scenario.writer(third) as writer:
        calm(scenario, writer)
        with scenario.precondition(f"put {key}", "OK") as step:
            put = scenario.client(third).put(key, "before")
            step.observed(put)
            assert put.ok, put
        off = scenario.inject("power-off", f"{first},{second}")
        begun_ns = time.monotonic_ns()
        limit = request_bound(lab.manifest)
        limits = f"client's limit {USER_DEADLINE:g} s, server's {limit:g} s"
        with scenario.step(f"put on {third}", f"no answer ({limits})") as step:
            put = scenario.client(third).put(key, "meanwhile", deadline=USER_DEADLINE)
            step.observed(put)
            assert not put.ok
            assert put.outcome == "unknown"
        with scenario.step(f"get on {third}", "no value") as step:
            got = scenario.client(third).get(key, deadline=USER_DEADLINE)
            step.observed(got)
            assert not got.ok
        with scenario.step(f"serializable get on {third}", "'before', of its own copy") as step:
            got = scenario.client(third).get(key, serializable=True)
            step.observed(got)
            assert got.value == "before"
        ended_ns = time.monotonic_ns()
        with scenario.step("writes without a majority", "none is acknowledged") as step:
            tried = [op for op in writer.ops if begun_ns < op.return_ns < ended_ns]
            step.observed(f"{sum(op.ok for op in tried)} of {len(tried)} acknowledged since the proof")
            assert not any(op.ok for op in tried)
        scenario.heal(off)
        joined(scenario, first, within=180)
        more_writes(writer, 5, 60)
    ledger_everywhere(scenario, writer)


@scenario("P4", "a follower's machine reset: it boots and joins by itself")
def test_a_reset_follower_joins_by_itself(scenario: ScenarioRun) -> None:
    """What it acknowledged was synced, so that nothing is missing; nobody is elected."""
    first, second, third, *_ = scenario.need_nodes(3)
    follower_returns(scenario, "reset", third, first, second)
