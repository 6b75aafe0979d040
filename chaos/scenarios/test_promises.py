"""What etcd promises clients of leases and watches while things break; and what a lock alone does not promise."""

from __future__ import annotations

import time

import pytest

from chaos.harness.context import election_seconds, since
from chaos.harness.declare import scenario
from chaos.harness.judging import first_event
from chaos.harness.scenario_run import ScenarioRun
from chaos.oracle import election_bound, step_down_bound
from chaos.report import Step
from chaos.workload.workload import Line, WorkloadSession
from machine.errors import InconclusiveError
from machine.waiting import Pending, wait_until

TTL = 20
"""Seconds asked for: more than injecting takes, and than etcd's least, 1.5 T (E lease/lessor.go, minLeaseTTL)."""

USED = 4.0
"""Seconds of a lease that are over before its leader dies: what an extension must be seen by."""

DEADLINE = 5.0
"""Of one call by these scenarios."""

SLOW = 15.0
"""Seconds added to etcd's own bounds before a scenario gives up: revoking is an entry, written like any other."""

LOOK = 1.0
"""Seconds by which an expiry may be seen late: the pause between two looks, and a read."""

LOCK_ROUNDS = 6
"""Increments under the lock before it is looked at."""

pytestmark = pytest.mark.promises


def workload(play: ScenarioRun) -> WorkloadSession:
    """The clients at work; without them (`--workload none`) these scenarios have no hands."""
    if play.workload is None:
        reason = "needs the workload's clients, and --workload none turned them off"
        play.recorder.scenario.steps.append(
            Step(title="clients", expected="at work", observed=reason, verdict="skipped")
        )
        pytest.skip(reason)
    return play.workload


def do(session: WorkloadSession, node: str, **request: object) -> Line:
    """One operation that must be acknowledged."""
    line = session.do(node, dict(request), DEADLINE)
    if line["outcome"] != "ok":
        raise InconclusiveError(f"{node} did not answer {request['op']}: {line.get('error')}")
    return line


def leased(play: ScenarioRun, session: WorkloadSession, node: str) -> tuple[str, int, int]:
    """A key on a lease: its name, the seconds granted, and when the lease was asked for."""
    key, name = f"{session.prefix}kept", time.monotonic_ns() >> 2
    with play.precondition("a key on a lease", f"granted for {TTL} s or more") as step:
        granted = do(session, node, op="lease_grant", lease=name, ttl=TTL)
        do(session, node, op="put", key=key, value="kept", lease=name)
        step.observed(f"granted for {granted['ttl']} s")
    play.compare("lease-granted", int(granted["ttl"]), ttl=TTL)
    return key, int(granted["ttl"]), int(granted["invoke_ns"])


def within(play: ScenarioRun, asked_ns: int, ttl: int) -> None:
    """The last fault has to be in force before the lease's own time is over, else it shows nothing."""
    took = (play.recorder.scenario.faults[-1].injected_ns - asked_ns) / 1e9
    if took >= ttl - 1:
        raise InconclusiveError(f"The fault was in force {took:.1f} s after a lease of {ttl} s was asked for: too late")


def wait_gone(play: ScenarioRun, session: WorkloadSession, node: str, key: str, seconds: float) -> int:
    """Wait until a key is gone; when that was seen."""

    def gone() -> int:
        seen = session.do(node, {"op": "get", "key": key}, DEADLINE)
        if seen["outcome"] != "ok" or seen["value"] is not None:
            raise Pending(seen.get("error") or "still there")
        return int(seen["return_ns"])

    with play.patience():
        return wait_until(gone, f"expiry of {key}", seconds=seconds)


@scenario("W1", "a lease outlives its leader, and starts anew with the next")
def test_a_new_leader_starts_every_lease_anew(scenario: ScenarioRun) -> None:
    """Time to live is the leader's; a new one counts it anew, plus T (E server/lease/lessor.go, Promote)."""
    first, second, *_ = scenario.need_nodes(3)
    session = workload(scenario)
    scenario.lead_from(first)
    key, ttl, asked_ns = leased(scenario, session, second)
    wait_until(lambda: passed(asked_ns, USED), "some of the lease's time", seconds=ttl)
    cut_ns = time.monotonic_ns()
    scenario.inject("kill-hold", first)
    within(scenario, asked_ns, ttl)
    within_3t = election_bound(scenario.lab.manifest)
    with scenario.step("another leader", f"within 3T = {within_3t:g} s, {SLOW:g} s more on a slow machine") as step:
        with scenario.patience():
            leader = wait_until(lambda: other_leader(scenario, first), "another leader", seconds=within_3t + SLOW)
        step.observed(f"{leader}, seen {since(cut_ns):.1f} s after the kill was ordered")
        elected_ns = time.monotonic_ns()
    with scenario.step(
        "the lease", f"not over before {ttl} s from the kill, over within {ttl} s + T of the election"
    ) as step:
        bound = ttl + election_seconds(scenario.lab) + SLOW
        gone_ns = wait_gone(scenario, session, second, key, bound)
        lived, anew = (gone_ns - asked_ns) / 1e9, (gone_ns - cut_ns) / 1e9
        scenario.metric("lease_seconds", {"granted": ttl, "lived": round(lived, 2), "from_kill": round(anew, 2)})
        step.observed(
            f"gone {lived:.1f} s after it was granted, {(gone_ns - elected_ns) / 1e9:.1f} s after the election"
        )
        assert anew >= ttl * 0.99, "the new leader did not start the lease anew"
    won = first_event(scenario, "leader-elected", cut_ns, text="became leader")
    scenario.compare("lease-life-new-leader", (gone_ns - won.at_ns) / 1e9, ttl=TTL, resolution=LOOK)


@scenario("W2", "no lease ends while nobody leads")
def test_a_lease_does_not_expire_without_a_quorum(scenario: ScenarioRun) -> None:
    """Revoking is an entry of the log: without a quorum nothing expires, however late; then it starts anew."""
    first, second, third, *_ = scenario.need_nodes(3)
    session = workload(scenario)
    scenario.require_ops(during=0)
    scenario.lead_from(first)
    key, ttl, asked_ns = leased(scenario, session, third)
    fault = scenario.inject("kill-hold", f"{first},{second}")
    within(scenario, asked_ns, ttl)
    with scenario.step(f"{third} alone, past the lease's time", "the key is there: nobody may end its lease") as step:
        wait_until(lambda: passed(asked_ns, ttl + 4), "the lease's own time and more", seconds=ttl + 30)
        alone = do(session, third, op="get", key=key, serializable=True)
        step.observed(f"{alone['value']!r} {since(asked_ns):.1f} s after the lease of {ttl} s was granted")
    scenario.compare("lease-no-quorum", int(alone["value"] != "kept"))
    healed_ns = time.monotonic_ns()
    scenario.heal(fault)
    with scenario.step("a quorum again", f"the lease starts anew: {ttl} s from the healing at least") as step:
        with scenario.patience():
            wait_until(lambda: other_leader(scenario, ""), "a leader", seconds=60)
        gone_ns = wait_gone(scenario, session, third, key, ttl + step_down_bound(scenario.lab.manifest) + SLOW)
        anew = (gone_ns - healed_ns) / 1e9
        scenario.metric("lease_seconds", {"granted": ttl, "lived": round((gone_ns - asked_ns) / 1e9, 2)})
        step.observed(f"gone {anew:.1f} s after healing began, {(gone_ns - asked_ns) / 1e9:.1f} s after it was granted")
        assert anew >= ttl * 0.99, "the new leader did not start the lease anew"


@scenario("W3", "a watch that is cut goes on without a gap", workload="watch")
def test_a_watch_resumes_after_a_cut_without_a_gap(scenario: ScenarioRun) -> None:
    """Cut off from its leader a member ends its watches; resumed there, they tell all that was written meanwhile."""
    first, second, *_ = scenario.need_nodes(3)
    session = workload(scenario)
    scenario.lead_from(first)
    fault = scenario.inject("partition", second)
    with scenario.step(f"the watch on {second}", "ended by etcd: no leader") as step:
        # open streams are ended after three checks of T each: the oracle's rule stream-cancelled
        bound = 5 * election_seconds(scenario.lab) + SLOW

        def canceled() -> str:
            told = [event["error"] for event in session.events(second) if event["event"] == "canceled"]
            if not told:
                raise Pending("it goes on")
            return str(told[-1])

        with scenario.patience():
            step.observed(wait_until(canceled, "end of the watch", seconds=bound))
    session.wait_ok(time.monotonic_ns(), 5, side=(first,), seconds=30)
    newest = max(line.get("revision") or 0 for line in session.operations() if line["outcome"] == "ok")
    scenario.heal(fault)
    with scenario.step("resumed", f"it tells everything up to revision {newest}, and more") as step:

        def caught_up() -> list[Line]:
            told = session.events(second)
            if max(event.get("mod_revision", 0) for event in told) <= newest:
                raise Pending(f"{len(told)} events")
            return told

        with scenario.patience():
            told = wait_until(caught_up, f"events of {second} after revision {newest}", seconds=60)
        resumed = sum(event["event"] == "created" for event in told) - 1
        step.observed(f"{len(told)} lines, created anew {resumed} times; the checks look for gaps and repetitions")
        assert resumed >= 1


@scenario("W4", "a lock without fencing loses updates, one with fencing does not", workload="lock,rate=8")
def test_only_a_fenced_lock_keeps_every_update(scenario: ScenarioRun) -> None:
    """Holders that are slow outlive their lease. What is written without a look at the lock is observed, not judged."""
    first, *_ = scenario.need_nodes(3)
    session = workload(scenario)
    with scenario.step("work under the lock", f"{LOCK_ROUNDS} increments of each counter acknowledged") as step:

        def enough() -> tuple[int, int]:
            plain, fenced = increments(session, "ok")
            if min(plain, fenced) < LOCK_ROUNDS:
                raise Pending(f"{plain} plain, {fenced} fenced")
            return plain, fenced

        with scenario.patience():
            done = wait_until(enough, "increments under the lock", seconds=150, every=0.5)
        step.observed(f"{done[0]} of the plain counter, {done[1]} of the fenced one")
    scenario.quiesce()
    plain, fenced = increments(session, "ok")
    unknown = increments(session, "unknown")
    with scenario.step("counter without fencing", f"{plain} acknowledged increments; etcd promises nothing") as step:
        value = int(do(session, first, op="get", key=f"{session.prefix}x/plain")["value"] or 0)
        scenario.metric("lock", {"plain": {"acknowledged": plain, "value": value, "lost": max(0, plain - value)}})
        step.observed(f"{value} in the end: {max(0, plain - value)} lost, {unknown[0]} of unknown outcome")
    with scenario.step("counter with fencing", f"every one of {fenced} acknowledged increments counts") as step:
        value = int(do(session, first, op="get", key=f"{session.prefix}x/fenced")["value"] or 0)
        step.observed(f"{value} in the end, {unknown[1]} of unknown outcome")
        assert fenced <= value <= fenced + unknown[1]


def increments(session: WorkloadSession, outcome: str) -> tuple[int, int]:
    """How many increments ended so: of the plain counter, of the fenced one."""
    plain = fenced = 0
    for line in session.operations():
        if line["outcome"] != outcome:
            continue
        plain += line["op"] == "put" and line["key"].endswith("x/plain")
        fenced += line["op"] == "txn" and line.get("succeeded", outcome == "unknown")
    return plain, fenced


def passed(since_ns: int, seconds: float) -> None:
    """Pending until so much time is over."""
    if since(since_ns) < seconds:
        raise Pending(f"{since(since_ns):.1f} of {seconds:g} s")


def other_leader(play: ScenarioRun, than: str) -> str:
    """Who leads, when it is another one; Pending."""
    leader = play.lab.leader()
    if leader is None or leader == than:
        raise Pending(f"{leader or 'nobody'} leads")
    return leader
