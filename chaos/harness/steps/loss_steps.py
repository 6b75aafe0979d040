"""Steps that scenarios about leaders share: one that is lost under writes, one that comes back, reads meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from chaos.faults.base import Fault
from chaos.harness.context import since
from chaos.harness.judging import unseen
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps.leader_steps import CLOCK
from chaos.harness.steps.write_steps import calm, more_writes, put_ok, writes_go_on
from chaos.measure.figures import LeaderChange, leader_change
from chaos.oracle import election_bound
from chaos.workload.outcome import Op
from machine.errors import InconclusiveError, LabError
from machine.waiting import Pending, wait_until

READ_DEADLINE = 1.0
"""Of one read on a member that may not answer: short, so that the next is under way when it does again."""

FRESH_READS = 3
"""Reads that must be answered by a member that is back."""


def term_of(play: ScenarioRun) -> int:
    """The highest term that a member tells."""
    return max(play.lab.terms().values(), default=0)


def elected_after(play: ScenarioRun, begun_ns: int, ended_ns: int) -> LeaderChange:
    """A step: what etcd's own logs tell of a leader lost and another elected between two times."""
    with play.precondition("etcd's log", "tells of a leader lost and another elected") as step:
        assert play.measures is not None
        change = leader_change(play.measures.collect(), begun_ns, ended_ns)
        if change is None or change.elected_ns is None:
            raise InconclusiveError(f"The logs of the members show {change}{unseen(play)}")
        step.observed(f"term {change.term} after {change.rounds} round(s)")
    return change


@contextmanager
def tolerate_inconclusive() -> Iterator[None]:
    """Go on after a step that a slow machine made inconclusive: it stands in the report, and so in the verdict."""
    with contextlib.suppress(InconclusiveError):
        yield


def leader_lost(play: ScenarioRun, fault: str, leader: str, other: str) -> Fault:
    """The leader on `leader` is taken by a fault, under a writer on `other`: another is elected, in time.

    Gives the fault, in force.
    """
    play.lead_from(leader)
    term = term_of(play)
    with play.writer(other) as writer:
        count = calm(play, writer)
        begun_ns = time.monotonic_ns()
        made = play.inject(fault, leader)
        with tolerate_inconclusive():
            writes_go_on(play, writer, count)
    ended_ns = time.monotonic_ns()
    with play.step("leader and term", f"somebody leads, in a later term than {term}") as step:
        now, leads = term_of(play), play.lab.leader()
        step.observed(f"{leads} leads in term {now}")
        assert leads is not None
        assert now > term
    with tolerate_inconclusive():
        change = elected_after(play, begun_ns, ended_ns)
        entry = play.recorder.scenario.faults[-1]
        unsure = (entry.injected_ns - entry.started_ns) / 2e9
        took = ((change.elected_ns or 0) - (entry.injected_ns + entry.started_ns) // 2) / 1e9
        play.compare("election", took, window=(begun_ns, ended_ns), resolution=unsure + CLOCK)
        with play.step("terms", f"one for each round: {change.rounds} at most") as step:
            step.observed(f"{change.term} from {term}")
            assert (change.term or 0) - term <= max(1, change.rounds)
    return made


def no_election(play: ScenarioRun, leader: str, term: int) -> None:
    """A step: the same leader in the same term; a machine that starves it explains another, so that is no fail."""
    with play.step("leader and term", f"{leader} leads, term stays {term}") as step:
        now, leads = term_of(play), play.lab.leader()
        step.observed(f"{leads} leads in term {now}")
        if (leads, now) != (leader, term):
            raise InconclusiveError("An election took place that this fault does not explain")


def follower_lost(play: ScenarioRun, fault: str, follower: str, leader: str, other: str) -> tuple[Fault, int]:
    """A follower is taken by a fault, under a writer on `other`: no election, no gap. Gives the fault and the term."""
    play.lead_from(leader)
    term = term_of(play)
    with play.writer(other) as writer:
        count = calm(play, writer)
        made = play.inject(fault, follower)
        with tolerate_inconclusive():
            writes_go_on(play, writer, count)
    with tolerate_inconclusive():
        no_election(play, leader, term)
    return made, term


def joined(play: ScenarioRun, node: str, *, within: float = 120.0) -> None:
    """A step: the member is back among the healthy, a follower unless it was elected, with every entry."""
    with play.step(f"{node} joins again", "every member is healthy, in one term, and it has every entry") as step:
        begun = time.monotonic_ns()

        def level() -> str:
            status = {one.node: one for one in play.lab.cluster.status()}
            leader = play.lab.leader()
            if leader is None or not status[node].ok or status[node].raft_term != status[leader].raft_term:
                raise Pending(f"{leader} leads; {status[node].error or status[node].raft_term}")
            if status[node].raft_applied_index < status[leader].raft_applied_index - 50:
                raise Pending(f"applied {status[node].raft_applied_index}")
            return f"{leader} leads in term {status[leader].raft_term}"

        with play.patience():
            play.lab.cluster.wait_healthy(within)
            caught_up = wait_until(level, f"{node} to catch up", seconds=60)
        step.observed(f"{caught_up}, {since(begun):.1f} s after healing")


def follower_returns(play: ScenarioRun, fault: str, follower: str, leader: str, other: str) -> None:
    """A follower is taken by a fault and comes back: no gap, every entry, and no election in all that time."""
    made, term = follower_lost(play, fault, follower, leader, other)
    play.heal(made)
    joined(play, follower)
    no_election(play, leader, term)


@contextmanager
def reads_on(play: ScenarioRun, node: str, key: str) -> Iterator[list[Op]]:
    """Linearizable reads of a key on one member all the time, over one connection that was there before the block."""
    client = play.run.clients.new(node)
    first = client.get(key)
    if not first.ok:
        client.close()
        raise InconclusiveError(f"{node} did not answer a read before the fault: {first}")
    ops: list[Op] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                ops.append(client.get(key, deadline=READ_DEADLINE))
            except LabError:
                return  # too few reads then, which is said
            ended.wait(0.02)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield ops
    finally:
        ended.set()
        thread.join(READ_DEADLINE + 5)
        client.close()


def old_leader_returns(play: ScenarioRun, fault_name: str, leader: str, other: str) -> None:
    """The leader is halted with all it believes; another is elected and a key changes; then it goes on.

    It must step down and never answer a linearizable read with the old value: it needs a majority to say that it
    leads still (E#20418: it did answer so before 3.4.42, 3.5.28 and 3.6.9).
    """
    key, old, new = f"old-leader/{time.monotonic_ns()}", "old", "new"
    with play.precondition(f"put {key}", "OK") as step:
        put = play.client(other).put(key, old)
        step.observed(put)
        if not put.ok:
            raise InconclusiveError(f"The first put did not go through: {put}")
    play.lead_from(leader)
    with reads_on(play, leader, key) as ops:
        fault = leader_lost(play, fault_name, leader, other)
        term = term_of(play)
        put_ok(play, other, key, new, f"put {key} on {other}")
        acknowledged_ns = time.monotonic_ns()
        play.heal(fault)
        with play.step(f"reads on {leader} after it goes on", f"{new!r}, never {old!r}") as step:

            def answered() -> list[Op]:
                late = [op for op in list(ops) if op.ok and op.invoke_ns > acknowledged_ns]
                if len(late) < FRESH_READS:
                    raise Pending(f"{len(late)} reads answered")
                return late

            with play.patience():
                late = wait_until(answered, f"reads on {leader}", seconds=2 * election_bound(play.lab.manifest) + 30)
            stale = [op for op in late if op.value != new]
            refused = sorted({op.error for op in list(ops) if not op.ok and op.invoke_ns > acknowledged_ns})
            step.observed(f"{len(late)} answered, {len(stale)} stale; before that: {'; '.join(refused) or 'nothing'}")
            assert not stale, f"stale linearizable read: {stale[0]}"
    joined(play, leader)
    with play.step("the old leader", f"a follower in term {term} or later") as step:
        status = next(one for one in play.lab.cluster.status() if one.node == leader)
        step.observed(f"leader: {status.leader}, term {status.raft_term}")
        assert status.raft_term >= term
        if status.leader and status.raft_term == term:
            raise AssertionError("two leaders in one term")
    with play.writer(other) as writer, play.patience():
        more_writes(writer, FRESH_READS, 30)
