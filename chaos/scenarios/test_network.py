"""One member cut off at the bridge: the cut (S6), each side's view (S7), what works (S8), healing (S9)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from chaos.faults.base import Fault
from chaos.harness.context import election_seconds, since
from chaos.harness.declare import scenario
from chaos.harness.end_checks import same_index
from chaos.harness.judging import first_event, own_term
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps.leader_steps import CLOCK, SLOW_MACHINE, USER_DEADLINE, expect_leaderless, healed, status_of
from chaos.harness.steps.write_steps import get_ok, put_ok
from chaos.oracle import pre_vote, request_bound
from infra.view import View, view_from
from machine.waiting import Pending, wait_until

pytestmark = pytest.mark.network


def cut_off(play: ScenarioRun, leader: str, member: str) -> Fault:
    """With the leader on `leader`, cut `member` off and wait until it knows no leader any more."""
    play.require_ops(during=5, side=[name for name in play.lab.manifest.node_names if name != member])
    play.lead_from(leader)
    fault = play.inject("partition", member)
    expect_leaderless(play, member)
    return fault


def views(play: ScenarioRun, *viewers: str) -> list[View]:
    """Health as each of these nodes sees it, at the same time."""
    lab = play.lab
    with ThreadPoolExecutor(len(viewers)) as pool:
        return list(pool.map(lambda node: view_from(lab.manifest, lab.paths, node, lab.shell(node)), viewers))


@scenario("S6", "cut one member off from the others", "seed", "quick")
def test_partition_is_two_sided_and_leaves_the_majority_leading(scenario: ScenarioRun) -> None:
    """Proved by probes of every directed pair and by counters; the leader stays on the majority's side."""
    first, second, *rest = scenario.need_nodes(3)
    cut_off(scenario, first, second)
    cut_ns, unsure = scenario.taken_hold()
    lost = first_event(scenario, "leader-lost", cut_ns, node=second)
    window = (cut_ns, time.monotonic_ns())
    scenario.compare("leader-lost", (lost.at_ns - cut_ns) / 1e9, window=window, resolution=unsure + CLOCK)
    with scenario.step("the majority", f"{first} leads on") as step:
        majority = [one for one in scenario.lab.cluster.status() if one.node != second]
        step.observed("; ".join(f"{one.node}: leader {one.leader_id:x}, term {one.raft_term}" for one in majority))
        leader = next(one for one in majority if one.node == first)
        assert leader.leader
        assert {one.leader_id for one in majority} == {leader.member_id}
    with scenario.step("this host", "reaches every node by ssh, the cut one too") as step:
        names = {
            node: scenario.lab.shell(node).run("hostname", seconds=10).stdout.strip() for node in (first, second, *rest)
        }
        step.observed(", ".join(names.values()))
        assert all(node == name for node, name in names.items())


@scenario("S7", "health as each side of a partition sees it", "seed", "quick")
def test_each_side_sees_its_own_health(scenario: ScenarioRun) -> None:
    """Healthy before; degraded from the majority; unavailable from the minority, with a reason per member."""
    first, second, *rest = scenario.need_nodes(3)
    with scenario.step("before, from both", "every member healthy, cluster healthy") as step:
        before = views(scenario, first, second)
        step.observed("; ".join(map(str, before)))
        assert [view.verdict for view in before] == ["healthy", "healthy"]
    cut_off(scenario, first, second)
    majority, minority = views(scenario, first, second)
    with scenario.step(f"from {first}", f"all healthy but {second}, which is unreachable; cluster degraded") as step:
        step.observed(majority)
        assert majority.verdict == "degraded"
        assert all(majority.member(node).healthy for node in (first, *rest))
        assert majority.member(second).reason.startswith("unreachable")
    with scenario.step(f"from {second}", "itself unhealthy, all others unreachable; cluster unavailable") as step:
        step.observed(minority)
        assert minority.verdict == "unavailable"
        assert minority.member(second).reason.startswith("unhealthy")
        assert all(minority.member(node).reason.startswith("unreachable") for node in (first, *rest))


@scenario("S8", "the majority writes, the minority waits in vain", "seed", "quick")
def test_majority_writes_and_minority_times_out(scenario: ScenarioRun) -> None:
    """put on etcd1, get on etcd3 give the new value; get on etcd2 ends at its time limit, with no value."""
    first, second, third, *_ = scenario.need_nodes(3)
    lab = scenario.lab
    cut_off(scenario, first, second)
    value = f"value2-{time.monotonic_ns()}"
    put_ok(scenario, first, "key", value, f"put key value2 on {first}")
    get_ok(scenario, third, "key", value, f"get key on {third}")
    server = request_bound(lab.manifest)
    limits = f"client's limit {USER_DEADLINE:g} s, server's 5 s + 2T = {server:g} s"
    with ThreadPoolExecutor(1) as pool:
        started = time.monotonic_ns()
        by_hand = pool.submit(lab.etcdctl, second, "get", "key")
        with scenario.step(f"get key on {second}, recording client", f"no value: deadline exceeded ({limits})") as step:
            got = scenario.client(second).get("key", deadline=USER_DEADLINE)
            step.observed(f"{got} ({limits})")
            assert got.outcome == "unknown"
            assert got.value is None
            assert got.code == "DEADLINE_EXCEEDED"
            assert got.seconds >= USER_DEADLINE - 0.5
        with scenario.step(f"etcdctl get key on {second}", f"context deadline exceeded ({limits})") as step:
            done = by_hand.result()
            took = since(started)
            said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.stdout.strip()
            step.observed(f"exit status {done.status}: {said} after {took:.1f} s")
            scenario.metric("minority_get_seconds", {"client": round(got.seconds, 2), "etcdctl": round(took, 2)})
            assert not done.ok
            assert "context deadline exceeded" in done.stderr
    scenario.compare("client-deadline", got.seconds, deadline=USER_DEADLINE, resolution=0.5)


@scenario("S9", "heal: one term, one index, the new value everywhere", "seed", "quick")
def test_healed_member_catches_up_in_the_same_term(scenario: ScenarioRun) -> None:
    """The cut member's term before, during and after; with pre-vote it stays still, however long it was alone."""
    first, second, *_ = scenario.need_nodes(3)
    lab = scenario.lab
    scenario.lead_from(first)
    before = status_of(scenario, second).raft_term
    cut_ns = time.monotonic_ns()
    fault = cut_off(scenario, first, second)
    value = f"value2-{time.monotonic_ns()}"
    put_ok(scenario, first, "key", value, f"put key value2 on {first} meanwhile")
    told = term_after_campaigns(scenario, second, cut_ns)
    healed_ns = time.monotonic_ns()
    during = own_term(scenario, second, cut_ns, healed_ns, told)
    scenario.heal(fault)
    healed(scenario)
    scenario.quiesce()
    with scenario.step("status table", "one term and one index on all") as step:
        with scenario.patience():
            statuses = wait_until(
                lambda: same_index(lab.cluster.status()), "one applied index on all members", seconds=SLOW_MACHINE
            )
        after = next(one.raft_term for one in statuses if one.node == second)
        step.observed("; ".join(f"{s.node}: term {s.raft_term}, index {s.raft_applied_index}" for s in statuses))
        assert len({one.raft_term for one in statuses}) == 1
    scenario.metric("term_of_cut_member", {"before": before, "during": during, "after": after, "status": told})
    still = pre_vote(lab.manifest)
    expected = "still, as members pre-vote" if still else "rising, as members do not pre-vote"
    with scenario.step(f"term of {second}", expected) as step:
        step.observed(f"before {before}, during {during}, after {after}")
        assert (before == during == after) if still else (before < during <= after)
    alone = (healed_ns - cut_ns) / 1e9
    scenario.compare(
        "term-alone" if still else "term-alone-without-pre-vote",
        during - before,
        alone=alone,
        window=(cut_ns, healed_ns),
    )
    scenario.compare("term-after-heal", after - before, window=(cut_ns, time.monotonic_ns()))
    get_ok(scenario, second, "key", value, f"get key on {second}")


def term_after_campaigns(play: ScenarioRun, member: str, cut_ns: int) -> int:
    """Term of the cut member once it has had time for a campaign: 4T after the cut (one every T to 2T)."""
    need = 4 * election_seconds(play.lab)

    def waited() -> int:
        if since(cut_ns) < need:
            raise Pending(f"{since(cut_ns):.1f} s of {need:g} s alone")
        status = status_of(play, member)
        if not status.ok:
            raise Pending(status.error)
        return status.raft_term

    with play.patience():
        return wait_until(waited, f"{member} alone for 4T", seconds=need + SLOW_MACHINE)
