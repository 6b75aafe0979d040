"""Random sequences: valid at every step, overlapping, ended, and the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from chaos.faults.guest import GuestFault
from chaos.faults.network.cut import Cut
from chaos.faults.registry import KINDS
from chaos.harness.sequences import Move, Planned, plan

NODES = ("etcd1", "etcd2", "etcd3")
SEEDS = st.integers(0, 2**32)


def injected(moves: list[Move]) -> Iterator[list[Planned]]:
    """What is in force after each injection, the new one last."""
    in_force: list[Planned] = []
    for move in moves:
        if move.inject:
            in_force.append(move.fault)
            yield list(in_force)
        else:
            in_force.remove(move.fault)


@given(SEEDS, st.integers(1, 9))
def test_every_fault_is_healed_once_and_nothing_is_healed_that_is_not_in_force(seed: int, count: int) -> None:
    in_force: list[Planned] = []
    for move in plan(seed, NODES, KINDS, count):
        if move.inject:
            in_force.append(move.fault)
        else:
            in_force.remove(move.fault)
    assert in_force == []


@given(SEEDS)
def test_at_most_five_are_in_force_and_none_takes_what_another_has(seed: int) -> None:
    for in_force in injected(plan(seed, NODES, KINDS, 9)):
        *others, new = in_force
        for other in others:
            both = set(other.words) & set(new.words)
            word = KINDS[other.name].occupies
            assert not (both and word and word == KINDS[new.name].occupies)
            assert other != new
        assert len(in_force) <= 5


@given(SEEDS)
def test_what_etcd_does_not_promise_is_never_played(seed: int) -> None:
    assert all(KINDS[move.fault.name].promised for move in plan(seed, NODES, KINDS))


@given(SEEDS)
def test_a_machine_that_cannot_be_logged_in_to_has_no_fault_inside(seed: int) -> None:
    for in_force in injected(plan(seed, NODES, KINDS, 9)):
        gone = {n for one in in_force if KINDS[one.name].occupies in ("power", "link") for n in one.words}
        inside = {n for one in in_force if KINDS[one.name].occupies in ("disk", "process", "clock") for n in one.words}
        assert not gone & inside


@given(SEEDS)
def test_no_fault_inside_comes_beside_a_pause_and_no_cut_inside_beside_what_takes_the_login(seed: int) -> None:
    for in_force in injected(plan(seed, NODES, KINDS, 9, cuts_inside=True)):
        halted = {n for one in in_force if one.name == "pause" for n in one.words}
        inside = {n for one in in_force if issubclass(KINDS[one.name], GuestFault) for n in one.words}
        assert not halted & inside
        gone = [one for one in in_force if KINDS[one.name].occupies in ("power", "link")]
        assert not (gone and any(issubclass(KINDS[one.name], Cut) for one in in_force))


@given(SEEDS)
def test_no_fault_takes_away_how_another_is_proved(seed: int) -> None:
    for in_force in injected(plan(seed, NODES, KINDS, 9)):
        held = [KINDS[one.name].occupies for one in in_force]
        assert held.count("netem") <= 1  # a ping crosses the bad lines of both its ends
        assert not ("power" in held and {"process", "disk"} & set(held))  # the other members tell who is gone


@given(SEEDS)
def test_a_seed_is_one_sequence(seed: int) -> None:
    assert plan(seed, NODES, KINDS) == plan(seed, NODES, KINDS)


def test_seeds_differ_and_faults_overlap() -> None:
    plans = [plan(seed, NODES, KINDS) for seed in range(50)]
    assert len({str(one) for one in plans}) == 50
    assert any(one[0].inject and one[1].inject and one[2].inject for one in plans)
    names = {move.fault.name for one in plans for move in one}
    assert {"partition", "power-off", "stop-process", "disk-full"} <= names


@given(SEEDS)
def test_one_node_alone_has_sequences_too_and_nothing_between_nodes(seed: int) -> None:
    moves = plan(seed, ("etcd1",), KINDS)
    assert moves
    assert {word for move in moves for word in move.fault.words} == {"etcd1"}
    assert {move.fault.name for move in moves if KINDS[move.fault.name].family == "network"} <= {"link-down"}
