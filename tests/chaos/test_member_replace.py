"""Replacing a member: from the whole state and from every half state, and never where the quorum would go."""

# ruff: noqa: ARG002 - stand-ins have the signatures of what they stand for

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.faults import records
from chaos.faults.host.power import PowerOff
from chaos.faults.registry import damage_records
from chaos.faults.storage.rollback import Rollback
from chaos.lab.lab import Lab
from chaos.member import join, replacement
from infra.cluster import EndpointStatus, Member, MemberHealth
from machine.errors import DeadlineError, ToolError, UsageError
from machine.paths import StackPaths
from machine.waiting import wait_until

CONFIG = """\
name: "etcd3"
initial-advertise-peer-urls: "https://10.0.0.13:2380"
advertise-client-urls: "https://10.0.0.13:2379"
initial-cluster: "etcd1=https://10.0.0.11:2380,etcd2=https://10.0.0.12:2380,etcd3=https://10.0.0.13:2380"
initial-cluster-token: "etcd-lab-x"
initial-cluster-state: "new"
heartbeat-interval: 300
"""


class Paper:
    """A cluster of paper behind the interface that replacing uses; etcd on a node runs as `member_of` says."""

    def __init__(self, tmp_path: Path, count: int = 3) -> None:
        names = [f"etcd{number}" for number in range(1, count + 1)]
        nodes = [SimpleNamespace(name=name, address=f"10.0.0.{11 + at}") for at, name in enumerate(names)]
        self.manifest: Any = SimpleNamespace(
            nodes=nodes,
            node_names=tuple(names),
            lab_id="x",
            node=lambda name: next(node for node in nodes if node.name == name),
        )
        self.paths = StackPaths(tmp_path, "t")
        self.cluster = self
        self.entries = {100 + at: entry(100 + at, node.name, node.address) for at, node in enumerate(nodes)}
        self.member_of: dict[str, int] = {node.name: 100 + at for at, node in enumerate(nodes)}
        self.sick: set[str] = set()
        self.log: list[str] = []
        self.joined_with = ""
        self.lag = 2
        self.leads = names[0]
        self.said = ""
        self.noted: dict[str, str] = {}
        self.waits_for_an_entry = False

    # -- cluster
    def members(self, seconds: float = 2, *, without: str = "") -> list[Member]:
        return list(self.entries.values())

    def status(self, seconds: float = 2) -> list[EndpointStatus]:
        return [
            EndpointStatus(name, ok=name in self.member_of and name not in self.sick and not self._mute(name),
                           member_id=self.member_of.get(name, 0), leader_id=self.member_of.get(self.leads, 0))
            for name in self.manifest.node_names
        ]  # fmt: skip

    def _mute(self, name: str) -> bool:
        return self.waits_for_an_entry and self.member_of[name] == 777

    def alarms(self, seconds: float = 2, *, without: str = "") -> list[object]:
        assert without == "etcd3"
        self.waits_for_an_entry = False
        return []

    def health(self, seconds: float = 2) -> list[MemberHealth]:
        return [MemberHealth(name, name in self.member_of and name not in self.sick, "", 0.0)
                for name in self.manifest.node_names]  # fmt: skip

    def remove_member(self, member_id: int, *, without: str) -> None:
        assert without not in self.member_of, "a member is stopped before it is removed"
        del self.entries[member_id]
        self.log.append("remove")

    def add_learner(self, url: str, *, without: str) -> Member:
        self.entries[777] = Member(777, "", (url,), (), learner=True)
        self.log.append("add")
        return self.entries[777]

    def promote_member(self, member_id: int, *, without: str) -> None:
        if self.lag:
            self.lag -= 1
            raise ToolError("No member answers", tail="can only promote a learner member which is in sync with leader")
        self.entries[member_id] = replace(self.entries[member_id], learner=False)
        self.log.append("promote")

    def move_leader(self, to: str) -> None:
        self.leads = to
        self.log.append("lead")

    def wait_healthy(self, seconds: float) -> None:
        assert not any(one.learner for one in self.entries.values())
        self.log.append("healthy")

    # -- machines
    def running(self) -> list[str]:
        return list(self.manifest.node_names)

    def shell(self, node: str) -> Any:
        def run(script: str, seconds: float, check: bool = True, stdin: str | None = None) -> Any:
            if script == join.WIPE:
                self.member_of.pop(node, None)
                self.log.append("wipe")
            elif script == join.JOIN:
                self.joined_with = stdin or ""
                self.member_of[node] = 777
                self.entries[777] = replace(self.entries[777], name=node)
                self.log.append("join")
            elif script == join.FORGET:
                self.log.append("forget")
            elif "journalctl" in script:
                ill = node not in self.member_of
                state = self.noted.get(node, "failed" if ill else "active")
                return SimpleNamespace(stdout=f"{state}\n{self.said if ill else ''}")
            return SimpleNamespace(stdout=CONFIG)

        return SimpleNamespace(run=run)


def entry(member_id: int, name: str, address: str) -> Member:
    return Member(member_id, name, (f"https://{address}:2380",), (f"https://{address}:2379",), learner=False)


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paper:
    real = wait_until

    def hurried(probe: Any, what: str, **options: Any) -> Any:
        return real(probe, what, **{**options, "seconds": 0.5, "every": 0.01})

    monkeypatch.setattr("chaos.member.replacement.wait_until", hurried)
    return Paper(tmp_path)


def mend(paper: Paper, node: str = "etcd3") -> Member:
    return replacement.replace(cast(Lab, paper), node)


WHOLE = ["wipe", "remove", "add", "join", "promote", "forget", "healthy"]


def test_a_member_becomes_another_one(paper: Paper) -> None:
    assert mend(paper).id == 777
    assert paper.log == WHOLE
    assert sorted(paper.entries) == [100, 101, 777]


def test_a_new_member_that_only_an_entry_of_the_log_wakes_gets_one(paper: Paper) -> None:
    paper.waits_for_an_entry = True
    assert mend(paper).id == 777
    assert paper.log == WHOLE


def test_the_new_member_is_told_the_members_there_are(paper: Paper) -> None:
    mend(paper)
    assert 'initial-cluster-state: "existing"' in paper.joined_with
    (line,) = (line for line in paper.joined_with.splitlines() if line.startswith("initial-cluster:"))
    urls = dict(part.split("=") for part in line.split('"')[1].split(","))
    assert urls["etcd3"] == "https://10.0.0.13:2380"
    assert set(urls) == {"etcd1", "etcd2", "etcd3"}
    changed = set(paper.joined_with.splitlines()) ^ set(CONFIG.splitlines())
    assert {line.split(":")[0] for line in changed} <= {"initial-cluster", "initial-cluster-state"}


def test_the_leader_hands_over_before_it_is_stopped(paper: Paper) -> None:
    paper.leads = "etcd3"
    mend(paper)
    assert paper.log == ["lead", *WHOLE]


def half(paper: Paper, state: str) -> Sequence[str]:
    """Bring the paper into a half state; gives what is left to do."""
    if state == "removed, not added":
        del paper.entries[102], paper.member_of["etcd3"]
        return ["wipe", "add", "join", "promote", "forget", "healthy"]
    del paper.entries[102]
    paper.entries[777] = Member(777, "", ("https://10.0.0.13:2380",), (), learner=True)
    if state == "added, not started":
        del paper.member_of["etcd3"]
        return ["wipe", "join", "promote", "forget", "healthy"]
    if state == "still running under the id that was removed":
        return ["wipe", "join", "promote", "forget", "healthy"]
    paper.entries[777] = replace(paper.entries[777], name="etcd3")
    paper.member_of["etcd3"] = 777
    return ["promote", "forget", "healthy"]


@pytest.mark.parametrize(
    "state",
    ["removed, not added", "added, not started", "still running under the id that was removed", "not promoted"],
)
def test_a_half_state_is_completed(paper: Paper, state: str) -> None:
    left = half(paper, state)
    assert mend(paper).id == 777
    assert paper.log == list(left)
    assert sorted(paper.entries) == [100, 101, 777]


def test_a_started_learner_that_does_not_run_is_made_anew(paper: Paper) -> None:
    half(paper, "not promoted")
    paper.sick.add("etcd3")
    with pytest.raises(DeadlineError):  # it stays sick
        mend(paper)
    assert paper.log[:4] == ["wipe", "remove", "add", "join"]


def test_a_lone_member_is_never_removed(tmp_path: Path) -> None:
    alone = Paper(tmp_path, count=1)
    with pytest.raises(UsageError, match="only member"):
        mend(alone, "etcd1")
    assert not alone.log


def test_nothing_is_removed_while_the_others_are_no_quorum(paper: Paper) -> None:
    paper.sick.add("etcd2")
    with pytest.raises(DeadlineError, match="quorum"):
        mend(paper)
    assert not paper.log


def test_a_whole_cluster_needs_nothing(paper: Paper) -> None:
    assert replacement.needs_replacing(cast(Lab, paper)) == []


def test_who_has_to_be_replaced(paper: Paper) -> None:
    half(paper, "not promoted")
    assert replacement.needs_replacing(cast(Lab, paper)) == ["etcd3"]
    del paper.entries[101]
    assert replacement.needs_replacing(cast(Lab, paper)) == ["etcd3"], "it runs, and has not said that it was removed"
    paper.noted["etcd2"] = "failed-empty"
    assert replacement.needs_replacing(cast(Lab, paper)) == ["etcd2", "etcd3"], "it has no data to lose"


def test_a_record_of_damage_asks_for_a_new_member_and_one_of_a_power_cut_does_not(paper: Paper) -> None:
    for fault in (Rollback((("etcd2",),)), PowerOff((("etcd1",),))):
        records.write(paper.paths, fault.record("x", "guest"))
    damaged = [name for record in damage_records(paper.paths) for name in record.nodes]
    assert replacement.needs_replacing(cast(Lab, paper), damaged) == ["etcd2"]


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("walpb: crc mismatch: expected: 77edf3fe computed: 771cc1: in file 'x.wal' at position: 512", True),
        ("panic: tocommit(20) is out of range [lastIndex(17)]. Was the raft log corrupted, truncated, or lost?", True),
        ("the member has been permanently removed from the cluster", True),
        ("listen tcp 10.0.0.13:2380: bind: address already in use", False),
        ("write /var/lib/etcd/member/snap/db: no space left on device", False),
    ],
)
def test_a_member_that_ends_because_of_its_data_is_replaced(paper: Paper, said: str, asked: bool) -> None:
    del paper.member_of["etcd2"]
    paper.said = f'{{"level":"fatal","msg":"{said}"}}'
    assert replacement.needs_replacing(cast(Lab, paper)) == (["etcd2"] if asked else [])


def test_a_note_beside_the_data_asks_for_a_new_member_without_any_record(paper: Paper) -> None:
    paper.noted["etcd1"] = "damaged"
    assert replacement.needs_replacing(cast(Lab, paper)) == ["etcd1"]
