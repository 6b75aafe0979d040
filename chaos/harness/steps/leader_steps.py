"""Steps that scenarios share: who leads, who knows of it, who serves, and who waits in vain."""

from __future__ import annotations

import time
from collections.abc import Sequence

from chaos.faults.network.cut import Cut
from chaos.faults.network.link import LinkDown
from chaos.faults.registry import kind
from chaos.harness.context import since
from chaos.harness.judging import in_time, unseen
from chaos.harness.scenario_run import ScenarioRun
from chaos.measure.figures import leader_change
from chaos.oracle import Timing, election_bound, step_down_bound
from chaos.oracle.context import Context
from chaos.oracle.judge import interval
from chaos.oracle.rules import rule
from infra.cluster import EndpointStatus
from machine.errors import InconclusiveError
from machine.waiting import Pending, wait_until

SLOW_MACHINE = 10.0
"""Seconds added to etcd's own bounds before a wait is given up."""

CLOCK = 0.05
"""Seconds by which a time of etcd's log may be placed wrongly on this host's clock (chaos.measure.clocks)."""

USER_DEADLINE = 5.0
"""etcdctl's command timeout (E etcdctl/ctlv3/ctl.go)."""


def status_of(play: ScenarioRun, node: str) -> EndpointStatus:
    """One member's status."""
    return next(one for one in play.lab.cluster.status() if one.node == node)


def expect_leaderless(play: ScenarioRun, node: str) -> EndpointStatus:
    """A step: a member that hears no leader, or no quorum, says that there is none."""
    bound = step_down_bound(play.lab.manifest)
    allowed = f"2T = {bound:g} s, {SLOW_MACHINE:g} s more on a slow machine"
    with play.step(f"{node} notices", f"it knows no leader, within {allowed}") as step:

        def gone() -> EndpointStatus:
            status = status_of(play, node)
            if not status.ok or status.leader_id:
                raise Pending(status.error or f"leader {status.leader_id:x}")
            return status

        begun = time.monotonic_ns()
        with play.patience():
            status = wait_until(gone, f"{node} without a leader", seconds=bound + SLOW_MACHINE)
        step.observed(f"no leader, term {status.raft_term}, {since(begun):.1f} s after the proof")
        return status


def successor(play: ScenarioRun, old: str, among: Sequence[str], begun_ns: int) -> str:
    """A step: one of `among` leads in a higher term, held against the oracle's rule of elections by etcd's own logs.

    `begun_ns` is from before the fault, which is the last one that was injected.
    """
    term = max(play.lab.terms().values(), default=0)
    bound = election_bound(play.lab.manifest)
    with play.step("a new leader", f"one of {', '.join(among)}; {old} leads no more") as step:

        def elected() -> str:
            statuses = [one for one in play.lab.cluster.status() if one.node in among]
            leader = next((one for one in statuses if one.leader), None)
            known = {one.leader_id for one in statuses if one.ok}
            if leader is None or known != {leader.member_id} or len(known) != 1:
                raise Pending(", ".join(f"{one.node} names {one.leader_id:x}" for one in statuses))
            term_now = leader.raft_term
            step.observed(f"{leader.node} in term {term_now}")
            return leader.node

        with play.patience():
            new = wait_until(elected, f"a leader among {', '.join(among)}", seconds=bound + SLOW_MACHINE)
        assert new != old
    entry, ended_ns = play.recorder.scenario.faults[-1], time.monotonic_ns()
    change = leader_change(play.measures.collect(), begun_ns, ended_ns) if play.measures else None
    play.metric("terms", {"before": term, "after": max(play.lab.terms().values(), default=0)})
    if change is None or change.elected_ns is None:
        raise InconclusiveError(f"etcd's logs do not tell of the election: {change}{unseen(play)}")
    made_ns, unsure = (entry.started_ns + entry.injected_ns) // 2, (entry.injected_ns - entry.started_ns) / 2e9
    seconds = (change.elected_ns - made_ns) / 1e9
    play.metric("election_seconds", round(seconds, 3))
    play.compare("election", seconds, window=(begun_ns, ended_ns), resolution=unsure + CLOCK)
    return new


def expect_same_leader(play: ScenarioRun, leader: str, term: int, among: Sequence[str]) -> None:
    """A step: nothing changed for these members: one leader, one term."""
    with play.step("no election", f"{leader} leads {', '.join(among)} in term {term}") as step:

        def same() -> list[EndpointStatus]:
            statuses = [one for one in play.lab.cluster.status() if one.node in among]
            if not all(one.ok for one in statuses):
                raise Pending("; ".join(f"{one.node}: {one.error}" for one in statuses if not one.ok))
            return statuses

        with play.patience():
            statuses = wait_until(same, "status of the members", seconds=SLOW_MACHINE)
        step.observed("; ".join(f"{one.node}: leader {one.leader_id:x}, term {one.raft_term}" for one in statuses))
        lead = next(one for one in statuses if one.node == leader)
        assert lead.leader
        assert {(one.leader_id, one.raft_term) for one in statuses} == {(lead.member_id, term)}


def serves(play: ScenarioRun, node: str, *, reader: str = "") -> str:
    """A step: a put to `node` is acknowledged, and `reader` (the same) reads it; gives the value."""
    reader = reader or node
    value = f"value-{time.monotonic_ns()}"
    with play.step(f"put to {node}, get from {reader}", "acknowledged, and read") as step:
        seen = []

        def put() -> None:
            op = play.client(node).put(f"served/{node}", value)
            seen.append(op)
            if not op.ok:  # a put that met the election may be given up: the next one must pass
                raise Pending(str(op))

        limit = USER_DEADLINE + SLOW_MACHINE
        with play.patience():
            wait_until(put, f"a put to {node}", seconds=limit)
            got = in_time(play.client(reader).get(f"served/{node}", deadline=limit), limit)
        step.observed(f"{seen[-1]}; {got}" + (f"; {len(seen) - 1} puts before were not" if len(seen) > 1 else ""))
        assert got.value == value
    return value


def expect_read_times_out(play: ScenarioRun, node: str) -> None:
    """A step: without quorum a linearizable read ends at its limit; a serializable one is answered."""
    with play.step(f"get from {node}", f"no value within {USER_DEADLINE:g} s; a serializable one answers") as step:
        got = play.client(node).get("served", deadline=USER_DEADLINE)
        limit = USER_DEADLINE + SLOW_MACHINE
        local = play.client(node).get("served", deadline=limit, serializable=True)
        step.observed(f"{got}; serializable: {local}")
        assert not got.ok
        with play.patience():
            in_time(local, limit)


def healed(play: ScenarioRun, seconds: float = 60.0) -> None:
    """A step: every member is healthy again, in one term; after cuts another: how soon, held against the oracle's rule.

    `seconds` is the least that is waited. What other faults leave behind (members that start) has no rule: how long
    that took is observed.
    """
    faults = play.recorder.scenario.faults
    begun_ns = min(one.started_ns or one.injected_ns for one in faults)
    mended_ns = max(one.mended_ns or one.healed_ns for one in faults)
    alone = (mended_ns - begun_ns) / 1e9
    cut = all(issubclass(kind(one.name), (Cut, LinkDown)) for one in faults)
    context = Context(Timing.of(play.lab.manifest), play.machine, alone=alone)
    wait = max(seconds, interval(rule("rejoin"), context)[1] + SLOW_MACHINE if cut else 0.0)
    how_soon = "the next step says how soon that must be" if cut else "how soon is observed"
    with play.step("all healthy", f"every member, in one term; {how_soon}") as step:
        with play.patience():
            play.lab.cluster.wait_healthy(wait)
        ended_ns = time.monotonic_ns()
        took = (ended_ns - mended_ns) / 1e9
        play.metric("heal_to_healthy_seconds", round(took, 2))
        terms = play.lab.terms()
        step.observed(f"{took:.1f} s after {alone:.1f} s of faults; terms {sorted(set(terms.values()))}")
        assert len(set(terms.values())) == 1
    if cut:
        play.compare("rejoin", took, window=(mended_ns, ended_ns), alone=alone)
