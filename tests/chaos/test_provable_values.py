"""Every value that a fault takes can be proved: netem's rules played by chance, and what cannot show is refused."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.faults.etcd.process import CpuStarve, OutOfMemory
from chaos.faults.network.impairments import Corrupt, Duplicate, Loss, Reorder, _Share
from chaos.faults.network.pings import Pings
from chaos.lab.lab import Lab
from machine.errors import UsageError
from tests.manifests import manifest

GROUPS = (("etcd1",), ("etcd2",))
LOOKS = 4
"""A proof is looked at again for 30 s."""


def lab(**fields: Any) -> Lab:
    return cast("Lab", SimpleNamespace(manifest=manifest(**fields)))


def chance_of(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a test plays, it keeps no secret


def pinged(sent: int, answers: list[int], duplicates: int = 0) -> Pings:
    return Pings(sent, (1.0,) * len(answers), tuple(answers), duplicates)


def lost(fault: _Share, chance: random.Random, unnoticed: float = 0.0) -> Pings:
    hit = fault.share * (1 - unnoticed)
    return pinged(fault.count, [number for number in range(fault.count) if chance.random() >= hit])


def twice(fault: Duplicate, chance: random.Random) -> Pings:
    """busybox' ping ends with the first answer to its last question: no second one is seen of that."""
    again = sum(chance.random() < fault.share for _ in range(fault.count - 1))
    return pinged(fault.count, list(range(fault.count)), again)


def reordered(fault: Reorder, chance: random.Random) -> Pings:
    """A packet leaves at once with the share's chance, else it waits (sch_netem.c, netem_enqueue)."""
    arrival = [
        number * fault.every + (0.0 if chance.random() < fault.share else fault.value("ms") / 1000)
        for number in range(fault.count)
    ]
    return pinged(fault.count, sorted(range(fault.count), key=lambda number: arrival[number]))


PERCENT = st.floats(1, 100)


@given(PERCENT, st.integers())
def test_every_share_of_lost_packets_shows(percent: float, seed: int) -> None:
    fault, chance = Loss(GROUPS, params={"percent": percent}), chance_of(seed)
    assert any(fault.judge(lost(fault, chance), in_force=True)[2] for _ in range(LOOKS))


@given(PERCENT, st.integers())
def test_every_share_of_corrupted_packets_shows_though_some_go_unnoticed(percent: float, seed: int) -> None:
    fault, chance = Corrupt(GROUPS, params={"percent": percent}), chance_of(seed)
    assert any(fault.judge(lost(fault, chance, 6 / 98), in_force=True)[2] for _ in range(LOOKS))


@given(PERCENT | st.just(100.0), st.integers())
def test_every_share_of_duplicates_shows(percent: float, seed: int) -> None:
    fault, chance = Duplicate(GROUPS, params={"percent": percent}), chance_of(seed)
    assert any(fault.judge(twice(fault, chance), in_force=True)[2] for _ in range(LOOKS))


@given(st.floats(1, 98), st.floats(20, 5000), st.integers())
def test_every_share_of_overtaking_packets_shows(percent: float, ms: float, seed: int) -> None:
    fault, chance = Reorder(GROUPS, params={"percent": percent, "ms": ms}), chance_of(seed)
    fault.check(lab())
    assert any(fault.judge(reordered(fault, chance), in_force=True)[2] for _ in range(LOOKS))


@pytest.mark.parametrize("kind", [Loss, Corrupt, Duplicate])
@pytest.mark.parametrize("percent", [30.0, 99.0, 100.0])
def test_a_line_that_is_well_is_no_proof_of_any(kind: type[_Share], percent: float) -> None:
    fault = kind(GROUPS, params={"percent": percent})
    well = pinged(fault.count, list(range(fault.count)))
    assert not fault.judge(well, in_force=True)[2]
    assert fault.judge(well, in_force=False)[2]


def test_half_of_the_duplicates_is_no_proof_of_all() -> None:
    fault = Duplicate(GROUPS, params={"percent": 100.0})
    assert not fault.judge(pinged(40, list(range(40)), 38), in_force=True)[2]
    assert fault.judge(pinged(40, list(range(40)), 39), in_force=True)[2]


@pytest.mark.parametrize("percent", [98.5, 100.0])
def test_where_no_packet_waits_none_is_overtaken_and_that_is_said(percent: float) -> None:
    with pytest.raises(UsageError, match="none is overtaken") as refused:
        Reorder(GROUPS, params={"percent": percent}).check(lab())
    assert "from 1 to 98" in refused.value.next


@pytest.mark.parametrize(("vcpus", "percent", "refused"), [(1, 66, False), (1, 67, True), (2, 90, False)])
def test_a_share_that_etcd_does_not_exceed_anyway_is_refused(vcpus: int, percent: int, refused: bool) -> None:
    there = lab()
    nodes = [node.model_copy(update={"vcpus": vcpus}) for node in there.manifest.nodes]
    there = cast("Lab", SimpleNamespace(manifest=there.manifest.model_copy(update={"nodes": tuple(nodes)})))
    fault = CpuStarve((("etcd1",),), params={"percent": percent})
    if not refused:
        fault.check(there)
        return
    with pytest.raises(UsageError, match="too much to be proved") as error:
        fault.check(there)
    assert "from 1 to 66" in error.value.next


def test_a_memory_limit_above_the_machines_own_is_refused() -> None:
    OutOfMemory((("etcd1",),), params={"limit": 511}).check(lab())
    with pytest.raises(UsageError, match="etcd1 has 512: nothing is killed"):
        OutOfMemory((("etcd1",),), params={"limit": 512}).check(lab())
