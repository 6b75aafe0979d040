"""Healing: what is found in records, at the bridge and on the machines, and what is done about it."""

# ruff: noqa: ARG002, ARG005 - stand-ins have the signatures of what they stand for

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.faults import records
from chaos.faults.base import Fault
from chaos.faults.etcd.process import Stop
from chaos.faults.host.power import PowerOff
from chaos.faults.network import dns
from chaos.faults.network.nft import CutState
from chaos.faults.network.partitions import Partition
from chaos.faults.storage.corruption import BitFlip
from chaos.heal import heal, inspection, recovery
from chaos.heal.inspection import Guest
from chaos.heal.recovery import Repair
from chaos.heal.residue import DAMAGED, GUEST, UNDO_SCRIPT, Found
from chaos.lab.lab import Lab
from chaos.member import replacement
from infra.findings import Observed
from machine import libvirt_api
from machine.errors import DeadlineError, InconclusiveError, ToolError
from machine.paths import StackPaths

LAB_ID = "12ab34cd"
UNDO, NOTE = (next(trace for trace in GUEST if trace.name == name) for name in (UNDO_SCRIPT, DAMAGED))


CLOCK = [0.0]
"""What stands for the monotonic clock while the cluster is waited for."""


class Paper:
    """A lab of paper: domains by state, a bridge table that is there or not, and a log of what was done."""

    def __init__(self, tmp_path: Path) -> None:
        self.states = {"etcd1": "running", "etcd2": "running", "etcd3": "running"}
        self.cuts: dict[str, CutState] = {}
        self.log: list[str] = []
        self.traces: dict[str, list[Found]] = {}
        self.declared: list[str] = []
        self.orphans = False
        self.healthy = True
        self.paths = StackPaths(tmp_path, "t")
        nodes = [SimpleNamespace(name=name, domain=name, address=name) for name in self.states]
        hypervisor = SimpleNamespace(bridge="elx", netns="x")
        self.manifest = SimpleNamespace(
            lab_id=LAB_ID,
            nodes=nodes,
            node_names=tuple(self.states),
            hypervisor=hypervisor,
            peers="address",
            node=lambda name: next(node for node in nodes if node.name == name),
        )
        self.cluster = SimpleNamespace(wait_healthy=self.wait_healthy, status=list)

    def wait_healthy(self, seconds: float, on_wait: object = None) -> list[object]:
        if not self.healthy:
            CLOCK[0] += seconds + 1
            raise DeadlineError("A healthy cluster", seconds=seconds)
        self.log.append("healthy")
        return []

    @contextlib.contextmanager
    def libvirt(self) -> Iterator[Paper]:
        yield self

    def connect_early(self, *uses: str) -> None:
        pass

    def forget(self, node: str) -> None:
        self.log.append(f"forget {node}")

    def shell(self, node: str) -> Any:
        return SimpleNamespace(open=lambda: None)

    def sweep_guests(self, lab: object, nodes: list[str]) -> list[Guest]:
        self.log.append(f"sweep {' '.join(nodes)}")
        return [Guest(node, tuple(self.traces.pop(node, ()))) for node in nodes]

    def end_orphans(self) -> bool:
        had, self.orphans = self.orphans, False
        return had

    def empty(self, outputs: object) -> list[str]:
        had, self.declared = self.declared, []
        return had


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paper:
    made = Paper(tmp_path)

    def switch(state: str) -> Any:
        def change(_connection: object, name: str) -> None:
            made.log.append(f"{name} {state}")
            made.states[name] = state

        return change

    monkeypatch.setattr(libvirt_api, "domain_state", lambda connection, name: made.states[name])
    monkeypatch.setattr(libvirt_api, "power_on", switch("running"))
    monkeypatch.setattr(libvirt_api, "power_off", switch("shutoff"))
    resume = lambda connection, name: SimpleNamespace(resume=lambda: switch("running")(connection, name))  # noqa: E731
    monkeypatch.setattr(libvirt_api, "domain", resume)
    bridge = SimpleNamespace(present=lambda: bool(made.cuts), cuts=lambda: made.cuts, drop_table=made.cuts.clear)
    monkeypatch.setattr(heal, "Bridge", SimpleNamespace(of=lambda manifest: bridge))
    monkeypatch.setattr(inspection, "links_down", lambda lab: [])
    monkeypatch.setattr(inspection, "sweep_guests", made.sweep_guests)
    monkeypatch.setattr(replacement, "needs_replacing", lambda lab, damaged: [])
    monkeypatch.setattr(recovery, "observe", lambda cluster: Observed((), None))
    engine = SimpleNamespace(
        name="chaos", end_orphans=made.end_orphans, deployment=lambda: SimpleNamespace(outputs={}), empty=made.empty
    )
    monkeypatch.setattr(heal, "Engine", lambda paths, project, say: engine)
    CLOCK[0] = 0.0
    monkeypatch.setattr(recovery, "time", SimpleNamespace(monotonic=lambda: CLOCK[0]))
    monkeypatch.setattr(heal, "answers", lambda lab, address, port: made.states[address] == "running")
    return made


def record(paper: Paper, fault: Fault, lab_id: str = LAB_ID) -> None:
    records.write(paper.paths, fault.record(lab_id, "hypervisor"))


def mend(paper: Paper) -> list[Repair]:
    return heal.heal_lab(cast(Lab, paper), paper.log.append)


def test_nothing_amiss_finds_nothing_and_still_looks_at_health(paper: Paper) -> None:
    assert mend(paper) == []
    assert paper.log == ["sweep etcd1 etcd2 etcd3", "healthy"]


def test_machines_that_are_off_paused_or_crashed_run_again_without_any_record(paper: Paper) -> None:
    paper.states = {"etcd1": "shutoff", "etcd2": "paused", "etcd3": "crashed"}
    found = mend(paper)
    assert [item.what for item in found] == ["etcd1 was shutoff", "etcd2 was paused", "etcd3 was crashed"]
    assert set(paper.states.values()) == {"running"}
    assert "etcd3 shutoff" in paper.log


def test_each_machine_is_asked_until_it_has_come_and_then_no_more(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that refuses the login is not there yet; one that is there is left alone, as a question costs it a fork."""
    misses = {"etcd1": 0, "etcd2": 2, "etcd3": 0}
    refusals = {"etcd1": 0, "etcd2": 0, "etcd3": 1}
    asked: list[str] = []

    def answers(_lab: object, address: str, _port: int) -> bool:
        asked.append(address)
        misses[address] -= 1
        return misses[address] < 0

    def open_shell(node: str) -> None:
        refusals[node] -= 1
        if refusals[node] >= 0:
            raise ToolError(f"Cannot log in to {node}")

    monkeypatch.setattr(heal, "answers", answers)
    monkeypatch.setattr(Paper, "shell", lambda self, node: SimpleNamespace(open=lambda: open_shell(node)))
    assert mend(paper) == []
    assert {node: asked.count(node) for node in paper.states} == {"etcd1": 1, "etcd2": 3, "etcd3": 2}


class Replaced:
    """Members that need it are replaced, after `refusals` attempts that fail."""

    def __init__(self, paper: Paper, monkeypatch: pytest.MonkeyPatch, refusals: int) -> None:
        self.paper, self.refusals, self.attempts = paper, refusals, 0
        self.noted: list[str] = []
        monkeypatch.setattr(replacement, "needs_replacing", self.needed)
        monkeypatch.setattr(replacement, "replace", self.replace)

    def needed(self, _lab: Any, damaged: Collection[str]) -> list[str]:
        return sorted({*self.noted, *damaged})

    def replace(self, _lab: object, node: str, _say: object, *, whole: bool) -> Any:
        self.attempts += 1
        CLOCK[0] += 60
        if self.attempts <= self.refusals:
            raise DeadlineError(f"Replacing {node}", seconds=60)
        self.noted = []
        return SimpleNamespace(id=0xABC)


@pytest.fixture
def damaged(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> Paper:
    def refuse(_self: object, _lab: object) -> None:
        raise ToolError("needs a quorum of the others")

    monkeypatch.setattr(BitFlip, "lift", refuse)
    record(paper, BitFlip((("etcd2",),)))
    return paper


def test_a_record_of_damaged_data_goes_when_the_member_is_replaced_once(
    damaged: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = Replaced(damaged, monkeypatch, refusals=1)
    found = [item for item in mend(damaged) if item.what == "the member of etcd2"]
    assert [item.ok for item in found] == [False, True]
    assert members.attempts == 2
    assert records.load_all(damaged.paths) == ([], [])


def test_a_member_whose_data_is_damaged_and_that_serves_is_not_forgotten_unreplaced(
    damaged: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    Replaced(damaged, monkeypatch, refusals=99)
    with pytest.raises(DeadlineError, match="to be replaced: etcd2"):
        mend(damaged)
    assert [one.name for one in records.load_all(damaged.paths)[0]] == ["bit-flip"]


def test_damage_that_no_record_speaks_of_is_known_by_the_note_beside_the_data(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = Replaced(paper, monkeypatch, refusals=0)
    members.noted = ["etcd3"]
    paper.traces = {"etcd3": [Found(NOTE, "there")]}
    (found,) = mend(paper)
    assert (found.what, found.ok) == ("the member of etcd3", True)
    assert members.attempts == 1
    assert paper.log.count("sweep etcd3") == 0, "to look once more would show the same"


def test_a_record_is_lifted_and_forgotten_only_when_the_cluster_is_healthy(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PowerOff, "lift", lambda self, lab: paper.log.append(f"lift {self.nodes}"))
    record(paper, PowerOff((("etcd3",),)))
    paper.healthy = False
    with pytest.raises(DeadlineError):
        mend(paper)
    assert len(records.load_all(paper.paths)[0]) == 1
    paper.healthy = True
    (found,) = mend(paper)
    assert found.what == "power-off on etcd3"
    assert records.load_all(paper.paths) == ([], [])


def test_one_fault_that_cannot_be_lifted_does_not_keep_the_others_from_it(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: object, _lab: object) -> None:
        raise ToolError("nft ended with status 1")

    monkeypatch.setattr(PowerOff, "lift", refuse)
    monkeypatch.setattr(Partition, "lift", lambda self, lab: paper.log.append("lift partition"))
    record(paper, PowerOff((("etcd3",),)))
    record(paper, Partition((("etcd1",), ("etcd2",))))
    assert [item.ok for item in mend(paper)] == [False, True]
    assert "lift partition" in paper.log


def test_a_record_of_a_kind_that_this_version_does_not_know_is_told(paper: Paper) -> None:
    known = PowerOff((("etcd3",),)).record(LAB_ID, "hypervisor")
    records.write(paper.paths, replace(known, name="meteorite"))
    (found,) = mend(paper)
    assert not found.ok
    assert "no fault 'meteorite'" in found.done


def test_a_record_of_a_lab_that_is_gone_is_forgotten_untouched(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PowerOff, "lift", lambda self, lab: paper.log.append("lifted"))
    record(paper, PowerOff((("etcd3",),)), lab_id="00000000")
    (found,) = mend(paper)
    assert "00000000" in found.done
    assert "lifted" not in paper.log
    assert records.load_all(paper.paths) == ([], [])


def test_a_cut_at_the_bridge_that_no_record_speaks_of_is_removed(paper: Paper) -> None:
    paper.cuts["partition_1"] = CutState(frozenset({("etcd1", "etcd2"), ("etcd2", "etcd1")}), {})
    (found,) = mend(paper)
    assert "2 pairs" in found.what
    assert not paper.cuts


def test_a_record_that_cannot_be_read_is_removed_and_told(paper: Paper) -> None:
    paper.paths.faults.mkdir(parents=True)
    (paper.paths.faults / "cut-off.json").write_text('{"schema": 1, "gro')
    (found,) = mend(paper)
    assert found.where == "cut-off.json"
    assert not (paper.paths.faults / "cut-off.json").exists()


def test_what_a_guest_has_of_ours_is_told_and_looked_for_again(paper: Paper) -> None:
    paper.traces["etcd2"] = [Found(GUEST[0], "cut-1"), Found(GUEST[1], "etcdlab-x.service", mended=False)]
    first, second = mend(paper)
    assert (first.ok, second.ok) == (True, False)
    assert "cut-1" in first.what
    assert first.where == "etcd2"
    assert [line for line in paper.log if line.startswith("sweep")] == ["sweep etcd1 etcd2 etcd3", "sweep etcd2"]


def test_an_update_without_an_owner_is_ended_before_anything_is_lifted(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper.orphans, paper.declared = True, ["Fault power-off-1"]
    monkeypatch.setattr(PowerOff, "lift", lambda self, lab: paper.log.append(f"lift, orphans {paper.orphans}"))
    record(paper, PowerOff((("etcd3",),)))
    assert len(mend(paper)) == 3
    assert "lift, orphans False" in paper.log
    assert paper.declared == []


def test_a_fault_inside_a_machine_without_power_is_lifted_when_it_runs(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stop, "lift", lambda self, lab: paper.log.append(f"lift, etcd3 {paper.states['etcd3']}"))
    paper.states["etcd3"] = "shutoff"
    record(paper, Stop((("etcd3",),)))
    assert all(item.ok for item in mend(paper))
    assert "lift, etcd3 running" in paper.log


@pytest.mark.parametrize(("place", "when"), [("guest", "running"), ("bridge elx", "paused")])
def test_a_cut_inside_guests_is_lifted_when_all_run_and_one_at_the_bridge_at_once(
    place: str, when: str, paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Partition, "lift", lambda self, lab: paper.log.append(f"lift, etcd3 {paper.states['etcd3']}"))
    paper.states["etcd3"] = "paused"
    records.write(paper.paths, Partition((("etcd1",), ("etcd2", "etcd3"))).record(LAB_ID, place))
    assert all(item.ok for item in mend(paper))
    assert f"lift, etcd3 {when}" in paper.log


def test_a_name_that_leads_elsewhere_is_put_right_without_any_record(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    led = {"etcd2": "10.0.0.254"}
    monkeypatch.setattr(dns, "wrong_names", lambda lab: dict(led))
    monkeypatch.setattr(dns, "point", lambda connection, lab, node, address: paper.log.append(f"{node} {address}"))
    (found,) = mend(paper)
    assert found.what == "the name etcd2 led to 10.0.0.254"
    assert "etcd2 etcd2" in paper.log


def refused(_self: object, _lab: object) -> None:
    raise InconclusiveError("The undo of stop-1 went wrong on etcd3")


def test_an_undo_that_goes_well_when_the_cluster_answers_is_no_failure_in_the_end(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Stop((("etcd3",),))
    monkeypatch.setattr(Stop, "lift", refused)
    records.write(paper.paths, fault.record(LAB_ID, "guest"))
    paper.traces["etcd3"] = [Found(UNDO, fault.id, mended=False)]
    found = mend(paper)
    assert [(item.ok, item.done) for item in found] == [(True, "undone at a later attempt")] * 2
    assert any("could not be lifted" in line for line in paper.log), "it is told when it happens"
    assert records.load_all(paper.paths) == ([], [])
    # once more when the cluster is healthy, and then it must still be
    assert [line for line in paper.log if not line.startswith(" ")][-2:] == ["sweep etcd1 etcd2 etcd3", "healthy"]


def test_the_record_of_a_fault_that_a_guest_cannot_undo_stays_and_others_go(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = Stop((("etcd3",),)), Stop((("etcd1",),))
    monkeypatch.setattr(Stop, "lift", lambda self, lab: None)
    for fault in (stuck, other):
        records.write(paper.paths, fault.record(LAB_ID, "guest"))

    def sweep_guests(lab: object, nodes: list[str]) -> list[Guest]:
        left = {"etcd3": (Found(UNDO, f"{stuck.id} old-1", mended=False),)}
        return [Guest(node, left.get(node, ())) for node in nodes]

    monkeypatch.setattr(inspection, "sweep_guests", sweep_guests)
    found = mend(paper)
    assert not all(item.ok for item in found)
    assert [record.id for record in records.load_all(paper.paths)[0]] == [stuck.id]
