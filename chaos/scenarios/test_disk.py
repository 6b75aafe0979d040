"""Disks that are full, slow, failing, read-only, or that lie: under a follower (D1, …) and under the leader."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from chaos.harness.declare import scenario
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps.write_steps import calm, ledger_everywhere, more_writes, writes_go_on
from chaos.member import etcd_unit
from chaos.workload.client import Writer
from machine.errors import InconclusiveError
from machine.waiting import Pending, wait_until

LARGE = 100_000
"""Bytes of a value that makes the database grow."""

LARGE_PUTS = 8

SLOW_MS = 200
"""Well under the election timeout, with room for a slow machine."""

END_SECONDS = 60.0
"""A member that cannot write ends at its next write; it takes a while to say so under TCG."""

pytestmark = pytest.mark.disk


def new_leader(play: ScenarioRun, old: str) -> None:
    """A step: another node leads."""
    with play.step("leadership", f"not with {old}") as step:

        def another() -> str:
            now = play.lab.leader()
            if now in (None, old):
                raise Pending(f"{now} leads")
            return str(now)

        step.observed(f"{wait_until(another, 'another leader', seconds=END_SECONDS)} leads")


def grow(play: ScenarioRun, node: str) -> None:
    """A step: values that make the database of every member grow; how many are taken is for the caller to know."""
    with play.step(f"{LARGE_PUTS} values of {LARGE // 1000} kB", "put where there is room") as step:
        client = play.client(node)
        taken = [client.put(f"large/{number}", "v" * LARGE, deadline=10) for number in range(LARGE_PUTS)]
        step.observed(f"{sum(op.ok for op in taken)} acknowledged by {node}")
        assert any(op.ok for op in taken)


class Broken(NamedTuple):
    """What a scenario has under a broken disk."""

    writer: Writer
    calm_ops: int
    since: str
    """When the fault came, by the node's own clock."""


@contextmanager
def broken_disk(play: ScenarioRun, fault: str, node: str, other: str) -> Iterator[Broken]:
    """A disk fault on `node` under a writer on `other`, healed after the block: then nothing acknowledged is missing.

    The first node leads when it comes.
    """
    play.lead_from(play.lab.manifest.node_names[0])
    with play.writer(other) as writer:
        count = calm(play, writer)
        since = etcd_unit.clock(play.lab, node)
        made = play.inject(fault, node)
        yield Broken(writer, count, since)
        play.heal(made)
        play.lab.cluster.wait_healthy(120)
    ledger_everywhere(play, writer)


class Slowed(NamedTuple):
    """Median seconds of an acknowledged put."""

    before: float
    during: float

    def __str__(self) -> str:
        return f"median {self.during:.3f} s, before {self.before:.3f} s"


@contextmanager
def slow_disk(play: ScenarioRun, node: str, other: str, delay_ms: int, *, extra: float = 0.0) -> Iterator[Slowed]:
    """A slow disk on `node` under a writer on `other`, healed after the block."""
    with play.writer(other) as writer:
        count = calm(play, writer)
        before = seconds_of(writer, 0)
        made = play.inject("disk-slow", node, delay_ms=delay_ms)
        begun = len(writer.ops)
        writes_go_on(play, writer, count, extra=extra)
        found = Slowed(before, seconds_of(writer, begun))
        play.metric("put_seconds", {name: round(seconds, 3) for name, seconds in found._asdict().items()})
        yield found
        play.heal(made)


def seconds_of(writer: Writer, begin: int) -> float:
    """Median of the acknowledged puts since the operation numbered `begin`."""
    return statistics.median(op.seconds for op in writer.ops[begin:] if op.ok)


@scenario("D1", "data volume of a follower full: the others serve")
def test_a_full_disk_under_a_follower(scenario: ScenarioRun) -> None:
    """The write-ahead log has its room allocated ahead, the database cannot grow. What the member does is recorded."""
    first, _, third, *_ = scenario.need_nodes(3)
    with broken_disk(scenario, "disk-full", third, first) as (writer, count, since):
        grow(scenario, first)
        writes_go_on(scenario, writer, count, extra=5)
        with scenario.step(f"etcd on {third}", "recorded: runs on, or ends for want of room") as step:
            step.observed(etcd_unit.look(scenario.lab, third, since))


@scenario("D2", "data volume of the leader full: the others serve, with its consent or without", "slow")
def test_a_full_disk_under_the_leader(scenario: ScenarioRun) -> None:
    """When the leader ends for want of room the others elect one; nothing acknowledged is lost."""
    first, second, *_ = scenario.need_nodes(3)
    with broken_disk(scenario, "disk-full", first, second) as (writer, count, since):
        grow(scenario, second)
        # the large values, and an election with the retries of a client that was told of a lost leader
        writes_go_on(scenario, writer, count, extra=10)
        with scenario.step(f"etcd on {first}", "recorded: leads on, or ends for want of room") as step:
            step.observed(f"{etcd_unit.look(scenario.lab, first, since)}; {scenario.lab.leader()} leads")


@scenario("D3", "slow disk under the leader: every write waits for it, and it leads on")
def test_a_slow_disk_under_the_leader(scenario: ScenarioRun) -> None:
    """The leader syncs its own log before it goes on (E etcdserver/raft.go), so that each write takes its delay."""
    first, second, *_ = scenario.need_nodes(3)
    scenario.lead_from(first)
    term = max(scenario.lab.terms().values())
    delay = SLOW_MS / 1000
    with slow_disk(scenario, first, second, SLOW_MS, extra=5 * delay) as puts:
        with scenario.step("a write", f"{delay:.1f} s or more, and done") as step:
            step.observed(puts)
            assert puts.during >= delay
        with scenario.step("leader and term", f"{first} leads in term {term}") as step:
            now = scenario.lab.leader(), max(scenario.lab.terms().values())
            step.observed(f"{now[0]} leads in term {now[1]}")
            if now != (first, term):
                raise InconclusiveError("An election took place that a delay far under the election timeout explains "
                                        "on a slow machine only")  # fmt: skip


@scenario("D4", "slow disk under a follower: writes need only the others", "quick")
def test_a_slow_disk_under_a_follower(scenario: ScenarioRun) -> None:
    """A quorum of leader and one follower commits, so the slow one is not waited for."""
    first, _, third, *_ = scenario.need_nodes(3)
    scenario.lead_from(first)
    delay = 5 * SLOW_MS / 1000
    expected = f"in less than the {delay:.1f} s that {third}'s disk takes longer"
    with slow_disk(scenario, third, first, 5 * SLOW_MS) as puts, scenario.step("a write", expected) as step:
        step.observed(puts)
        if puts.before >= delay:
            raise InconclusiveError("Writes take as long without the fault")
        assert puts.during < delay


@scenario("D5", "failing writes under a follower: it ends, the others serve")
def test_a_failing_disk_under_a_follower(scenario: ScenarioRun) -> None:
    """A member that cannot sync its log ends (E etcdserver/raft.go: failed to save Raft hard state and entries)."""
    first, _, third, *_ = scenario.need_nodes(3)
    with broken_disk(scenario, "disk-error", third, first) as (writer, count, since):
        writes_go_on(scenario, writer, count)
        with scenario.step(f"etcd on {third}", "ends rather than acknowledge what it cannot write") as step:
            step.observed(etcd_unit.wait_ended(scenario.lab, third, since, END_SECONDS))


@scenario("D6", "failing writes under the leader: it ends, another leads")
def test_a_failing_disk_under_the_leader(scenario: ScenarioRun) -> None:
    """The leader ends at its first write that fails; the others elect one of them, and lose nothing."""
    first, second, *_ = scenario.need_nodes(3)
    with broken_disk(scenario, "disk-error", first, second) as (writer, count, since):
        new_leader(scenario, first)
        writes_go_on(scenario, writer, count, extra=END_SECONDS / 4)
        with scenario.step(f"etcd on {first}", "ends rather than acknowledge what it cannot write") as step:
            step.observed(etcd_unit.wait_ended(scenario.lab, first, since, END_SECONDS))


@scenario("D7", "file system of a follower read-only: the others serve")
def test_a_read_only_disk_under_a_follower(scenario: ScenarioRun) -> None:
    """Whether the follower notices depends on what it writes next; recorded. What it acknowledged is kept."""
    first, _, third, *_ = scenario.need_nodes(3)
    with broken_disk(scenario, "disk-readonly", third, first) as (writer, count, since):
        writes_go_on(scenario, writer, count)
        with scenario.step(f"etcd on {third}", "recorded: runs on, or ends") as step:
            step.observed(etcd_unit.look(scenario.lab, third, since))


@scenario("D8", "a follower's disk lies, then its power goes: the others' data is kept", "slow")
def test_lost_writes_then_power_off(scenario: ScenarioRun) -> None:
    """The member has acknowledged entries that it forgets: nothing is promised for it, so what it does is recorded.

    As the others hold every entry, what clients were told stays true; healing makes a new member of it.
    """
    first, _, third, *_ = scenario.need_nodes(3)
    scenario.lead_from(first)
    with scenario.writer(first) as writer:
        count = calm(scenario, writer)
        lying = scenario.inject("lost-writes", third)
        writes_go_on(scenario, writer, count)
        off = scenario.inject("power-off", third)
        more_writes(writer, 5, 30)
        scenario.heal(off)
        with scenario.step(f"etcd on {third}, which has forgotten", "recorded: panics, or catches up") as step:
            did = etcd_unit.what_it_does(scenario.lab, third, "boot", 120)
            scenario.metric("observed", did)
            step.observed(did)
        writes_go_on(scenario, writer, count, "writes go on beside it")
        scenario.heal(lying)
        scenario.lab.cluster.wait_healthy(120)
    ledger_everywhere(scenario, writer)
