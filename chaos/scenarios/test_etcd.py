"""What operators do to etcd, and its own limits: compaction, defragmentation, a leader moved, quota, snapshots."""

from __future__ import annotations

import time

import pytest

from chaos.faults.etcd.quota import EXCEEDED
from chaos.harness.declare import scenario
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps.loss_steps import joined, term_of, tolerate_inconclusive
from chaos.harness.steps.write_steps import calm, ledger_everywhere, more_writes, put_ok, same_data, writes_go_on
from chaos.workload.availability import measure

pytestmark = pytest.mark.etcd

DEFRAGMENT_EXTRA = 5.0
"""Seconds that writes may wait for a leader that rewrites its database, which has a few pages here."""

MORE_PUTS = 10


@scenario("E1", "compaction: the past is gone, the present stays", "quick")
def test_compaction_forgets_the_past_only(scenario: ScenarioRun) -> None:
    """Every member refuses the old revision (the fault's proof); all that is current is there, and writes go on."""
    first, *_ = scenario.need_nodes(1)
    with scenario.writer(first) as writer:
        count = calm(scenario, writer)
        compact = scenario.inject("compact", first)
        writes_go_on(scenario, writer, count)
        scenario.heal(compact)
    ledger_everywhere(scenario, writer)


@scenario("E2", "defragmentation of every member under writes: nothing is lost")
def test_defragmentation_keeps_everything(scenario: ScenarioRun) -> None:
    """Each member serves nobody while it writes its database anew; one at a time, and the keys stay the same."""
    first, *_ = scenario.need_nodes(1)
    with scenario.writer(first) as writer:
        count = calm(scenario, writer)
        defragment = scenario.inject("defragment", "all")
        with tolerate_inconclusive():
            writes_go_on(scenario, writer, count, extra=DEFRAGMENT_EXTRA)
        scenario.heal(defragment)
    same_data(scenario)
    ledger_everywhere(scenario, writer)


@scenario("E3", "NOSPACE by one member's quota: puts are refused, reads and deletes go on")
def test_a_full_quota_stops_puts_and_nothing_else(scenario: ScenarioRun) -> None:
    """The alarm binds every member, whoever raised it; it stays until it is disarmed, and then puts go on."""
    first, second, third, *_ = scenario.need_nodes(3)
    scenario.lead_from(first)
    key, client = f"quota/{time.monotonic_ns()}", scenario.client(second)
    with scenario.precondition(f"put {key}", "OK") as step:
        put = client.put(key, "there")
        step.observed(put)
        assert put.ok, put
    nospace = scenario.inject("nospace", third)
    for node in (first, second, third):
        with scenario.step(f"put on {node}", f"refused: {EXCEEDED}") as step:
            put = scenario.client(node).put(key, "more")
            step.observed(put)
            assert not put.ok
            assert EXCEEDED in put.error
    with scenario.step(f"get on {third}", "'there'") as step:
        got = scenario.client(third).get(key)
        step.observed(got)
        assert got.value == "there"
    with scenario.step(f"delete on {second}", "1 deleted: deletes are how room is made") as step:
        deleted = client.delete(key)
        step.observed(f"{deleted}, {deleted.deleted} deleted")
        assert deleted.ok, deleted
        assert deleted.deleted == 1
    scenario.heal(nospace)
    joined(scenario, third)
    for node in (first, second, third):
        put_ok(scenario, node, key, "again", f"put on {node} after healing")


@scenario("E4", "leadership moved: a new term, and hardly a pause", "quick")
def test_a_leader_that_hands_over_costs_no_election(scenario: ScenarioRun) -> None:
    """The chosen follower campaigns at once, without waiting for T (R raft.go, MsgTimeoutNow)."""
    first, second, third, *_ = scenario.need_nodes(3)
    scenario.lead_from(first)
    term = term_of(scenario)
    with scenario.writer(third) as writer:
        count = calm(scenario, writer)
        moved = scenario.inject("move-leader", second)
        with tolerate_inconclusive():
            writes_go_on(scenario, writer, count)
        with scenario.step("leader and term", f"{second} leads in term {term + 1}") as step:
            now, leads = term_of(scenario), scenario.lab.leader()
            step.observed(f"{leads} leads in term {now}")
            assert (leads, now) == (second, term + 1)
        scenario.heal(moved)
    ledger_everywhere(scenario, writer)


@scenario("E5", "a member that lacks more than the leader has comes back by a snapshot", "slow")
def test_a_member_far_behind_is_sent_a_snapshot(scenario: ScenarioRun) -> None:
    """Both logs tell of it (the proof of healing); afterwards it has the same data as the others."""
    first, second, third, *_ = scenario.need_nodes(3)
    lag = scenario.inject("snapshot-lag", third)
    told = f"{MORE_PUTS} puts acknowledged"
    with scenario.writer(second) as writer, scenario.step("writes go on without it", told) as step:
        more_writes(writer, MORE_PUTS, 30)
        step.observed(measure(writer.ops))
    scenario.heal(lag)
    joined(scenario, third)
    same_data(scenario)
    ledger_everywhere(scenario, writer)
    with scenario.step("settings", f"{first} has its own again") as step:
        drop_in = scenario.lab.shell(first).run("ls /run/systemd/system/etcd.service.d 2>/dev/null || :", seconds=20)
        step.observed(drop_in.stdout.strip() or "no drop-in")
        assert "etcdlab" not in drop_in.stdout
