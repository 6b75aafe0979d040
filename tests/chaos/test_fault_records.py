"""Undo records: on disk before the fault, readable after any death, gone after a proved heal."""

# ruff: noqa: ARG002 - the scripted fault has the signatures of its base

from __future__ import annotations

import json
import stat
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from chaos.faults import records
from chaos.faults.base import Fault, Proof
from chaos.faults.host.power import PowerOff
from chaos.faults.network.partitions import Partition
from chaos.faults.registry import KINDS, from_record, kind
from chaos.lab.lab import Lab
from machine.errors import InconclusiveError, UsageError
from machine.paths import StackPaths

LAB_ID = "12ab34cd"


@dataclass(frozen=True)
class Scripted(Fault):
    """A fault that notes what happens to it, and shows or does not, as told."""

    name: ClassVar[str] = "scripted"
    family: ClassVar[str] = "test"
    summary: ClassVar[str] = "for tests"

    log: list[str] = field(default_factory=list, compare=False)
    shows: bool = True
    dies: bool = False

    def place(self, lab: Lab) -> str:
        return "here"

    def apply(self, lab: Lab) -> None:
        self.log.append(f"apply with {len(records.load_all(lab.paths)[0])} records")
        if self.dies:
            raise KeyboardInterrupt

    def lift(self, lab: Lab) -> None:
        self.log.append("lift")

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        return [Proof("it", "here", str(in_force), "?", self.shows)]

    def proof_seconds(self, in_force: bool) -> float:
        return 0.05


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return cast(Lab, SimpleNamespace(paths=StackPaths(tmp_path, "t"), manifest=SimpleNamespace(lab_id=LAB_ID)))


def only_record(lab: Lab) -> records.Record:
    good, bad = records.load_all(lab.paths)
    assert len(good) == 1
    assert not bad
    return good[0]


def test_the_record_is_there_before_the_fault_is_made(lab: Lab) -> None:
    fault = Scripted((("etcd1",),))
    assert fault.inject(lab).proved
    assert fault.log == ["apply with 1 records"]


def test_a_death_in_the_middle_leaves_the_record(lab: Lab) -> None:
    with pytest.raises(KeyboardInterrupt):
        Scripted((("etcd1",),), dies=True).inject(lab)
    assert only_record(lab).name == "scripted"


def test_a_proved_heal_forgets_the_record_and_an_unproved_one_keeps_it(lab: Lab) -> None:
    Scripted((("etcd1",),)).inject(lab)
    assert not Scripted((("etcd1",),), shows=False).heal(lab).proved
    only_record(lab)
    assert Scripted((("etcd1",),)).heal(lab).proved
    assert records.load_all(lab.paths) == ([], [])


def test_a_fault_that_does_not_show_is_inconclusive(lab: Lab) -> None:
    result = Scripted((("etcd1",),), shows=False).inject(lab)
    with pytest.raises(InconclusiveError, match="did not show"):
        result.require()


def test_injecting_twice_keeps_one_record(lab: Lab) -> None:
    fault = Scripted((("etcd1",),))
    fault.inject(lab)
    fault.inject(lab)
    only_record(lab)


@pytest.mark.parametrize(
    "fault",
    [
        PowerOff((("etcd3", "etcd1"),), ("minority",)),
        Partition((("etcd2",), ("etcd1", "etcd3")), ("etcd2",), {"lease": 77}),
    ],
    ids=["power", "partition"],
)
def test_a_record_brings_back_the_same_fault(lab: Lab, fault: Fault) -> None:
    records.write(lab.paths, fault.record(LAB_ID, "somewhere"))
    record = only_record(lab)
    assert from_record(record) == fault
    assert (record.lab_id, record.place, record.id) == (LAB_ID, "somewhere", fault.id)


def test_records_are_private_and_plain_json(lab: Lab) -> None:
    path = records.write(lab.paths, PowerOff((("etcd1",),)).record(LAB_ID, "hypervisor"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["groups"] == [["etcd1"]]


@pytest.mark.parametrize("text", ["", "{", '{"schema": 9}', '{"schema": 1, "groups": [], "words": []}', "[]", "null"])
def test_what_is_no_record_is_told_apart_and_does_not_stop_the_others(lab: Lab, text: str) -> None:
    records.write(lab.paths, PowerOff((("etcd1",),)).record(LAB_ID, "hypervisor"))
    broken = lab.paths.faults / "broken.json"
    broken.write_text(text)
    good, bad = records.load_all(lab.paths)
    assert [record.name for record in good] == ["power-off"]
    assert bad == [broken]


def test_a_record_that_goes_while_all_are_read_is_none(lab: Lab) -> None:
    """Status asks without the lock, while a heal removes one after the other."""
    records.write(lab.paths, PowerOff((("etcd1",),)).record(LAB_ID, "hypervisor"))
    (lab.paths.faults / "gone.json").symlink_to(lab.paths.faults / "nowhere")
    good, bad = records.load_all(lab.paths)
    assert ([record.name for record in good], bad) == (["power-off"], [])


def test_ids_differ_by_target_and_parameters_only() -> None:
    one = PowerOff((("etcd1",),), ("leader",))
    assert one.id == PowerOff((("etcd1",),), ("etcd1",)).id
    assert one.id != PowerOff((("etcd2",),), ("leader",)).id
    groups = (("etcd1",), ("etcd2",))
    assert Partition(groups, (), {"lease": 5}).id != Partition(groups, (), {"lease": 6}).id


def test_the_catalogue_names_itself() -> None:
    assert kind("partition") is Partition
    assert all(name == each.name for name, each in KINDS.items())
    with pytest.raises(UsageError, match=r"There is no fault 'fire'.*partition.*power-off"):
        kind("fire")


def test_parameters_that_a_fault_does_not_know_are_refused_before_anything_is_asked() -> None:
    untouched: Any = SimpleNamespace()
    with pytest.raises(UsageError, match="no parameter 'volume'"):
        PowerOff.declare(untouched, ("all",), {"volume": 11})


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e309", "9" * 400, "-1", "", "ten", "0x10", "9" * 5000])
@pytest.mark.parametrize(("name", "parameter"), [("latency", "ms"), ("disk-slow", "delay_ms"), ("oom", "limit")])
def test_numbers_that_are_none_or_out_of_bounds_are_refused_before_anything_is_asked(
    name: str, parameter: str, value: str
) -> None:
    untouched: Any = SimpleNamespace()
    with pytest.raises(UsageError, match=f"{parameter} of {name} is"):
        kind(name).declare(untouched, ("all",), {parameter: value})


@pytest.mark.parametrize("lease", [0, -5, 10**9])
def test_a_lease_that_no_timer_can_count_is_refused_before_anything_is_asked(lease: int) -> None:
    untouched: Any = SimpleNamespace()
    with pytest.raises(UsageError, match="lease is"):
        kind("partition").declare(untouched, ("all",), lease=lease)
