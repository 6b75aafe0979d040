"""Machines that lose their power: one member (S4), its return (S5), all of them (S10)."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from chaos.faults.base import Result
from chaos.harness.context import since
from chaos.harness.declare import scenario
from chaos.harness.judging import unseen
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps.write_steps import CALM_PUTS, calm, get_ok, more_writes, put_ok
from chaos.oracle import election_bound
from chaos.workload.availability import Availability, measure, slow_limit
from chaos.workload.client import WRITER_DEADLINE, Writer
from machine.errors import InconclusiveError
from machine.waiting import Pending, wait_until

CONNECT_SECONDS = 5.0
"""From raft's start to hearing the peers: rafthttp's read timeout, which its start waits for (E rafthttp/peer.go)."""

LEDGER_PUTS = 40
"""Further puts before a cold start, so that it has something to lose."""

pytestmark = pytest.mark.power


def explain(
    play: ScenarioRun, found: Availability, leaders: tuple[str | None, str | None], terms: tuple[int, int]
) -> str:
    """Why writes stopped, as far as it was measured."""
    peers = play.lab.manifest.peers
    named = "peers are given by address, so no name service took part" if peers == "address" else f"peers by {peers}"
    if terms[0] != terms[1]:
        cause = f"an election: term {terms[0]} became {terms[1]}, leader {leaders[0]} became {leaders[1]}"
    elif found.gaps:
        told = sorted({error for gap in found.gaps for error in gap.errors}) or ["slow answers only"]
        cause = f"no election (term stays {terms[0]}, {leaders[1]} leads); clients saw {'; '.join(told)}"
    else:
        cause = f"no gap; term stays {terms[0]}, {leaders[1]} leads"
    return f"{cause}; {named}"


def leader_and_term(play: ScenarioRun) -> tuple[str | None, int]:
    """Who leads, and the highest term."""
    return play.lab.leader(), max(play.lab.terms().values(), default=0)


@scenario("S4", "power off a follower: writes go on", "seed", "quick")
def test_writes_go_on_when_a_follower_loses_power(scenario: ScenarioRun) -> None:
    """With the leader on etcd1, etcd3 off: put on etcd1, get on etcd2; availability of writes all the while."""
    first, second, third, *_ = scenario.need_nodes(3)
    lab = scenario.lab
    scenario.require_ops(during=CALM_PUTS, side=[first, second])
    scenario.lead_from(first)
    leader, term = leader_and_term(scenario)
    with scenario.writer(first) as writer:
        count = calm(scenario, writer)
        scenario.inject("power-off", third)
        off_ns, _ = scenario.taken_hold()
        value = f"value-{time.monotonic_ns()}"
        put_ok(scenario, first, "key", value, f"put key value on {first}")
        get_ok(scenario, second, "key", value, f"get key on {second}")
        bound = election_bound(lab.manifest) + WRITER_DEADLINE
        with scenario.step("writes go on", f"no gap over {bound:.1f} s") as step:
            more_writes(writer, CALM_PUTS, 30)
            found = measure(writer.ops, slow_limit(writer.ops[:count]))
            scenario.metric("write_availability", found.as_metrics())
            step.observed(found)
            assert found.longest <= bound
    with scenario.step("leader and term", f"who leads now; it was {first} in term {term}") as step:
        leader_after, term_after = leader_and_term(scenario)
        step.observed(explain(scenario, found, (leader, leader_after), (term, term_after)))
    # losing a follower elects nobody; a machine that starves the leader for T does
    scenario.compare("term-cluster", term_after - term, window=(off_ns, time.monotonic_ns()))


@scenario("S5", "power on again: back as a healthy follower", "seed")
def test_member_comes_back_as_a_healthy_follower(scenario: ScenarioRun) -> None:
    """The article's cluster fell apart for two minutes here; measured is how long writes really stop, and why."""
    first, second, third, *_ = scenario.need_nodes(3)
    lab = scenario.lab
    scenario.require_ops(during=CALM_PUTS, side=[first, second])
    scenario.lead_from(first)
    off = scenario.inject("power-off", third)
    value = f"while-away-{time.monotonic_ns()}"
    put_ok(scenario, first, "key", value, f"put key on {first} while {third} is away")
    leader, term = leader_and_term(scenario)
    with scenario.writer(first) as writer:
        count = calm(scenario, writer)
        on = scenario.heal(off)
        with scenario.step(f"{third} joins again", "every member is healthy") as step:
            lab.cluster.wait_healthy(180)
            took = since(on.started_ns)
            scenario.metric("power_on_to_healthy_seconds", round(took, 1))
            step.observed(f"{took:.1f} s after power on")
        more_writes(writer, CALM_PUTS, 30)
        found = measure(writer.ops, slow_limit(writer.ops[:count]))
    leader_after, term_after = leader_and_term(scenario)
    bound = 2 * election_bound(lab.manifest) + WRITER_DEADLINE
    with scenario.step("writes during the return", f"no gap over {bound:.1f} s, and the reason of each") as step:
        reason = explain(scenario, found, (leader, leader_after), (term, term_after))
        scenario.metric("write_availability", found.as_metrics())
        scenario.metric("explanation", reason)
        step.observed(f"{found}: {reason}")
        assert found.longest <= bound
    with scenario.step(f"role of {third}", "a follower in the leader's term, with every entry") as step:
        status = {one.node: one for one in lab.cluster.status()}
        back, led = status[third], status[leader_after or first]
        step.observed(
            f"leader: {back.leader}, term {back.raft_term} (leader's {led.raft_term}), index {back.raft_index}"
        )
        assert back.ok
        assert not back.leader
        assert back.raft_term == led.raft_term
    get_ok(scenario, third, "key", value, f"get key on {third}")
    scenario.compare("term-return", term_after - term, window=(on.started_ns, time.monotonic_ns()))


@scenario("S10", "power off all, power on all: nothing acknowledged is lost", "seed")
def test_cold_start_of_all_keeps_every_acknowledged_write(scenario: ScenarioRun) -> None:
    """A client writes until the power goes; after the cold start each write it got an answer for is there."""
    lab = scenario.lab
    names = lab.manifest.node_names
    scenario.require_ops(during=0)  # nobody is there to answer
    with scenario.writer(names[0], prefix="ledger/") as writer:
        calm(scenario, writer)
        with scenario.step("a ledger", f"{LEDGER_PUTS} more puts acknowledged, and on until the power goes") as step:
            more_writes(writer, LEDGER_PUTS, 60)
            step.observed(f"{len(writer.acknowledged)} acknowledged")
        off = scenario.inject("power-off", "all")
        with ThreadPoolExecutor(1) as pool:
            on_ns = time.monotonic_ns()
            healing: Future[Result] = pool.submit(off.heal, lab)
            with scenario.step("the cluster comes back", "unavailable, then healthy") as step:
                history, write = watch_recovery(scenario, writer, on_ns)
                step.observed(", ".join(f"{verdict} at {seconds:.1f} s" for seconds, verdict in history))
            healing.result().require()
        scenario.heal(off)
        more_writes(writer, 3, 30)
    full = history[-1][0]
    quorum = next(at for at, what in history if what != "unavailable")
    scenario.metric("health_after_power_on", [{"seconds": round(at, 1), "health": what} for at, what in history])
    scenario.metric("power_on_to_quorum_seconds", round(quorum, 1))
    scenario.metric("power_on_to_first_write_seconds", round(write, 1))
    scenario.metric("power_on_to_full_health_seconds", round(full, 1))
    ledger = writer.acknowledged
    for node in names:
        with scenario.step(
            f"ledger read on {node}", f"all {len(ledger)} acknowledged writes, value and revision"
        ) as step:
            read = scenario.client(node).range(writer.prefix, deadline=20)
            assert read.ok, read
            stored = {key: (value, revision) for key, value, revision in read.values}
            lost = [key for key, op in ledger.items() if stored.get(key) != (op.value, op.revision)]
            surplus = len(stored) - len(ledger)
            step.observed(f"{len(ledger) - len(lost)} there, {len(lost)} lost, {surplus} more of unknown outcome")
            assert not lost, f"acknowledged and not there as written: {lost[:5]}"
    elected_after_start(scenario, on_ns)


def elected_after_start(play: ScenarioRun, on_ns: int) -> None:
    """From the start of raft on the last member of the first quorum to a leader, by etcd's own logs."""
    if play.measures is None:
        return
    seen = [event for event in play.measures.collect() if event.at_ns >= on_ns]
    starts = sorted({event.node: event.at_ns for event in reversed(seen) if "newRaft" in event.text}.values())
    elected = [event.at_ns for event in seen if event.kind == "leader-elected"]
    if len(starts) < play.lab.manifest.quorum or not elected:
        play.metric("cold_start_election", "etcd's logs do not show it")
        with play.step("the election after the start", "etcd's logs show it") as step:
            step.observed(f"{len(starts)} starts of raft, {len(elected)} leaders elected")
            raise InconclusiveError(f"etcd's logs do not show the election{unseen(play)}")
    quorum_ns = starts[play.lab.manifest.quorum - 1]
    took = max(0.0, (elected[0] - quorum_ns) / 1e9)
    # what etcd needs from there to hearing its peers is connecting, not raft
    play.compare("cold-start", took, window=(quorum_ns, elected[0]), resolution=CONNECT_SECONDS)


def watch_recovery(play: ScenarioRun, writer: Writer, on_ns: int) -> tuple[list[tuple[float, str]], float]:
    """Health verdicts since power on, each when it changed, in seconds; and seconds to the first write."""
    manifest = play.lab.manifest
    history: list[tuple[float, str]] = []

    def probe() -> None:
        healthy = sum(member.healthy for member in play.lab.cluster.health(seconds=3))
        verdict = "degraded" if healthy >= manifest.quorum else "unavailable"
        verdict = "healthy" if healthy == len(manifest.nodes) else verdict
        if not history or history[-1][1] != verdict:
            history.append((since(on_ns), verdict))
        if verdict != "healthy":
            raise Pending(verdict)

    wait_until(probe, "a healthy cluster after a cold start", seconds=240)
    more_writes(writer, 1, 30)
    first = next(op.return_ns for op in writer.ops if op.ok and op.return_ns > on_ns)
    return history, (first - on_ns) / 1e9
