"""Damaged data of one member (recorded: etcd promises nothing), and its replacement by a new member (asserted)."""

from __future__ import annotations

import pytest

from chaos.faults.parameters import Param
from chaos.faults.storage.corruption import FILES
from chaos.harness.declare import scenario
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps.write_steps import calm, ledger_everywhere, same_data, writes_go_on
from chaos.member import etcd_unit, join, replacement
from machine.waiting import Pending, wait_until

CLEAR_SECONDS = 120.0
"""Until it is clear what a member does: two starts of etcd under TCG."""

SNAPSHOT_COUNT = 10
"""Entries after which a member is made to take a snapshot, so that there is one to damage."""

pytestmark = pytest.mark.data


def ids(play: ScenarioRun) -> dict[str, int]:
    """Member id of every node, as the cluster has it."""
    found = play.lab.cluster.members()
    entries = {node.name: join.entry_of(found, node) for node in play.lab.manifest.nodes}
    return {name: entry.id if entry else 0 for name, entry in entries.items()}


def replaced(play: ScenarioRun, node: str, before: dict[str, int]) -> None:
    """A step: one member has another id, the others theirs."""
    with play.step("member ids", f"another one on {node}, the others as before") as step:
        now = ids(play)
        step.observed(", ".join(f"{name} {before[name]:x} > {now[name]:x}" for name in now))
        assert now[node] not in (0, before[node])
        assert {name: one for name, one in now.items() if name != node} == {
            name: one for name, one in before.items() if name != node
        }


def damaged(play: ScenarioRun, fault: str, **params: Param) -> None:
    """Damage the data of a follower while writes go on, record what it does, replace it."""
    first, _, third, *_ = play.need_nodes(3)
    play.lead_from(first)
    before = ids(play)
    with play.writer(first) as writer:
        count = calm(play, writer)
        since = etcd_unit.clock(play.lab, third)
        made = play.inject(fault, third, **params)
        with play.step(f"etcd on {third}", "recorded: refuses to start, panics, or runs on") as step:
            did = etcd_unit.what_it_does(play.lab, third, since, CLEAR_SECONDS)
            play.metric("observed", did)
            step.observed(did)
        writes_go_on(play, writer, count)
        play.heal(made)
        writes_go_on(play, writer, count, "writes went on while it was replaced")
    replaced(play, third, before)
    ledger_everywhere(play, writer)


@scenario("X1", "a member is replaced while writes go on: nothing lost, never unavailable", "slow")
def test_a_member_is_replaced(scenario: ScenarioRun) -> None:
    """Removed, wiped, added as a learner, promoted: the others are a quorum all the time."""
    first, _, third, *_ = scenario.need_nodes(3)
    scenario.lead_from(first)
    before = ids(scenario)
    with scenario.writer(first) as writer:
        count = calm(scenario, writer)
        with scenario.step(f"replace the member on {third}", "a new member that votes") as step:
            told: list[str] = []
            new = replacement.replace(scenario.lab, third, told.append)
            step.observed("; ".join(told))
            assert new.id != before[third]
        writes_go_on(scenario, writer, count, "writes went on all the time")
    replaced(scenario, third, before)
    with scenario.step("who has to be replaced", "nobody") as step:
        left = replacement.needs_replacing(scenario.lab)
        step.observed(", ".join(left) or "nobody")
        assert not left
    same_data(scenario)
    ledger_everywhere(scenario, writer)


@scenario("X2", "a bit flipped in a follower's write-ahead log", "slow")
def test_a_flipped_bit_in_the_log(scenario: ScenarioRun) -> None:
    """Records carry a CRC (E server/storage/wal), so that a member can notice."""
    damaged(scenario, "bit-flip", file="wal", seed=1)


@scenario("X3", "bits flipped in a follower's database", "slow")
def test_flipped_bits_in_the_database(scenario: ScenarioRun) -> None:
    """Only the meta pages of the database carry a checksum (bbolt), so that a member may not notice."""
    damaged(scenario, "bit-flip", file="db", seed=1, bits=8)


@scenario("X4", "a bit flipped in a follower's snapshot", "slow")
def test_a_flipped_bit_in_the_snapshot(scenario: ScenarioRun) -> None:
    """A member that is told to take snapshots often takes one; then a bit of it is flipped."""
    first, _, third, *_ = scenario.need_nodes(3)
    lab = scenario.lab
    with scenario.precondition(f"a snapshot on {third}", "a file to damage") as step:
        join.start_with(lab, third, f"snapshot-count: {SNAPSHOT_COUNT}\n")
        lab.cluster.wait_healthy(CLEAR_SECONDS)

        def taken() -> str:
            scenario.client(first).put("towards-a-snapshot", "1")
            done = lab.shell(third).run(f"ls {FILES['snap']} 2>/dev/null | tail -n 1", seconds=20, check=False)
            if not done.stdout.strip():
                raise Pending("no snapshot yet")
            return done.stdout.strip()

        step.observed(wait_until(taken, f"a snapshot on {third}", seconds=CLEAR_SECONDS))
        join.start_as_deployed(lab, third)
    damaged(scenario, "bit-flip", file="snap", seed=1)


@scenario("X5", "the end cut off a follower's write-ahead log", "slow")
def test_a_log_cut_short(scenario: ScenarioRun) -> None:
    """A torn record at the end is what a crash leaves, and is mended; whole ones that are gone were acknowledged."""
    damaged(scenario, "truncate", file="wal", bytes=2000)


@scenario("X6", "the end cut off a follower's database", "slow")
def test_a_database_cut_short(scenario: ScenarioRun) -> None:
    """Pages that the database refers to are gone."""
    damaged(scenario, "truncate", file="db", bytes=8192)


@scenario("X7", "a follower's disk put back to an older save (amnesia)", "slow")
def test_a_rolled_back_member(scenario: ScenarioRun) -> None:
    """It has forgotten entries that it acknowledged, and maybe a vote: outside Raft's fault model."""
    damaged(scenario, "rollback", entries=20)
