"""`./lab up` and a run that plays on the lab: the one keeps its hands off while the other goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chaos.heal import heal
from chaos.lab.lock import exclusive_use
from cli.app import main
from cli.revive import revive, settle
from infra.cluster import MemberHealth
from machine.errors import DeadlineError, LabError, SettingsError, UsageError
from machine.paths import StackPaths
from tests.manifests import manifest

MANIFEST = manifest(heartbeat_ms=10)


def nothing(*_: object, **__: object) -> Any:
    return SimpleNamespace(etcd_version="", etcd_extra={}, image="", image_sha256="")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackPaths:
    """Where the lab is; nothing is got, and configuration and machine are as they should be."""
    made = StackPaths(tmp_path, "lab")
    monkeypatch.setattr("machine.paths.stack_paths", lambda _stack: made)
    for name in ("cli.preflight.check", "cli.setup.prepare", "machine.etcd_binaries.ensure", "deploy.trial.check"):
        monkeypatch.setattr(name, nothing)
    monkeypatch.setattr("machine.image.ensure_image", nothing)
    monkeypatch.setattr("cli.up._clear_leftovers", lambda *_, **__: None)
    monkeypatch.setattr("cli.up._revive", lambda _engine: False)
    monkeypatch.setattr("cli.lab.open_lab", lambda _stack: SimpleNamespace(paths=made, manifest=MANIFEST))
    monkeypatch.setattr("cli.revive.settle", lambda _lab, _seconds: None)
    return made


def engine_that(update: Callable[[], None], touched: list[str]) -> Callable[[StackPaths], Any]:
    def recover() -> bool:
        touched.append("recovered")
        return False

    return lambda paths: SimpleNamespace(
        paths=paths, select=lambda: touched.append("selected"), recover=recover, update=lambda *_words: update()
    )


def test_a_lab_that_a_run_plays_on_is_not_touched_by_up(
    paths: StackPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    touched: list[str] = []
    monkeypatch.setattr("cli.engine.Engine", engine_that(lambda: touched.append("updated"), touched))
    with exclusive_use(paths, "play scenarios"):
        assert main(["up"]) == 2
    assert "Another run plays on the lab 'lab'" in capsys.readouterr().err
    assert touched == []
    assert main(["up"]) == 0
    assert touched == ["selected", "recovered", "updated"]


def test_settings_that_etcd_refuses_end_up_before_the_lab_is_touched(
    paths: StackPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, where: str) -> None:
        raise SettingsError("etcd-lab:etcd-extra: etcd refuses it", where=where)

    touched: list[str] = []
    monkeypatch.setattr("cli.engine.Engine", engine_that(lambda: touched.append("updated"), touched))
    monkeypatch.setattr("deploy.trial.check", refuse)
    assert main(["up"]) == 2
    assert "etcd refuses it (Pulumi.lab.yaml)" in capsys.readouterr().err
    assert touched == []


def test_no_run_begins_while_up_is_at_work_and_one_may_afterwards(
    paths: StackPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def play() -> None:
        with pytest.raises(UsageError) as error, exclusive_use(paths, "play scenarios"):
            pass
        refused.append(error.value.what)

    monkeypatch.setattr("cli.engine.Engine", engine_that(play, []))
    assert main(["up"]) == 0
    assert len(refused) == 1
    with exclusive_use(paths, "play scenarios"):
        pass


def test_faults_that_a_run_left_are_healed_under_the_lock_that_up_holds(
    paths: StackPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    healed: list[str] = []
    monkeypatch.setattr(heal, "leftovers", lambda _paths: ["stop on a"])
    monkeypatch.setattr(heal, "heal_lab", lambda *_: healed.append("all"))
    monkeypatch.setattr("chaos.lab.lab.Lab.__init__", lambda *_: None)
    monkeypatch.setattr("chaos.lab.lab.Lab.close", lambda _: None)
    lab: Any = SimpleNamespace(manifest=None, paths=paths)
    with exclusive_use(paths, "build it"):
        revive(lab, deployed=True, say=lambda _text: None)
    assert healed == ["all"]


@dataclass
class Members:
    """A cluster whose members answer as told; each update may heal some."""

    ill: dict[str, str]
    repaired_by: str = ""
    asked: int = 0
    updates: list[str] = field(default_factory=list)

    def health(self) -> list[MemberHealth]:
        self.asked += 1
        return [MemberHealth(name, name not in self.ill, self.ill.get(name, ""), 0.0) for name in MANIFEST.node_names]

    def update(self, *words: str) -> None:
        self.updates.append(" ".join(words))
        if self.updates[-1] == self.repaired_by:
            self.ill.clear()


@pytest.fixture
def engine(paths: StackPaths, monkeypatch: pytest.MonkeyPatch) -> Callable[[Members], None]:
    """Puts members behind `./lab up`."""

    def behind(members: Members) -> None:
        lab = SimpleNamespace(paths=paths, manifest=MANIFEST, cluster=lambda: members)
        monkeypatch.setattr("cli.lab.open_lab", lambda _stack: lab)
        monkeypatch.setattr("cli.revive.settle", settle)
        monkeypatch.setattr("cli.up.SETTLE_SECONDS", 0.1)
        made = SimpleNamespace(paths=paths, select=lambda: None, recover=lambda: False, update=members.update)
        monkeypatch.setattr("cli.engine.Engine", lambda _paths: made)

    return behind


def test_up_asks_every_member_before_it_says_that_the_lab_is_up(
    engine: Callable[[Members], None], capsys: pytest.CaptureFixture[str]
) -> None:
    members = Members(ill={})
    engine(members)
    assert main(["up"]) == 0
    assert (members.updates, members.asked) == (["up"], 1)
    assert "is up" in capsys.readouterr().err


def test_a_member_that_stopped_since_is_repaired_though_the_engine_finds_nothing_to_do(
    engine: Callable[[Members], None], capsys: pytest.CaptureFixture[str]
) -> None:
    members = Members(ill={"etcd2": "connection refused"}, repaired_by="up --refresh")
    engine(members)
    assert main(["up"]) == 0
    assert members.updates == ["up", "up --refresh"]
    said = capsys.readouterr().err
    assert "etcd2: connection refused" in said
    assert "is up" in said


def test_up_names_every_member_that_is_not_healthy_and_fails(
    engine: Callable[[Members], None], capsys: pytest.CaptureFixture[str]
) -> None:
    engine(Members(ill={"etcd2": "connection refused", "etcd3": "RAFT NO LEADER"}))
    assert main(["up"]) == 1
    said = capsys.readouterr().err
    assert "etcd2: connection refused; etcd3: RAFT NO LEADER" in said.rpartition("Error:")[2]
    assert "is up" not in said


def test_a_member_that_answers_late_is_waited_for(engine: Callable[[Members], None]) -> None:
    """As after a leader was lost; its election may take twice the timeout."""
    members = Members(ill={"etcd1": "RAFT NO LEADER"})
    real = members.health

    def soon() -> list[MemberHealth]:
        found = real()
        members.ill.clear()
        return found

    members.health = soon  # type: ignore[method-assign]
    engine(members)
    assert main(["up"]) == 0
    assert (members.updates, members.asked) == (["up"], 2)


def test_machines_that_are_off_are_waited_for_and_not_the_members_that_an_update_may_have_to_repair(
    monkeypatch: pytest.MonkeyPatch, paths: StackPaths
) -> None:
    """A roll that stopped leaves a member that comes up with the update alone, and the update logs in."""
    monkeypatch.setattr(heal, "leftovers", lambda _paths: [])
    monkeypatch.setattr("cli.revive.power_on", lambda _lab: ["etcd2"])
    opened: list[str] = []
    refused = {"etcd3": 2}

    def open_(node: str) -> None:
        opened.append(node)
        if refused.get(node, 0) > 0:
            refused[node] -= 1
            raise LabError(f"no ssh on {node}")

    lab: Any = SimpleNamespace(paths=paths, manifest=MANIFEST)
    lab.shell = lambda node: SimpleNamespace(open=lambda: open_(node))
    monkeypatch.setattr("machine.waiting.time.sleep", lambda _seconds: None)
    assert revive(lab, deployed=True, say=lambda _text: None) is True
    assert opened.count("etcd3") == 3
    opened.clear()
    assert revive(lab, deployed=False, say=lambda _text: None) is True
    assert opened == [], "a lab whose first update did not get as far is waited for by that update"


def test_waiting_names_all_that_are_ill(monkeypatch: pytest.MonkeyPatch) -> None:
    members = Members(ill={"etcd1": "x", "etcd3": "y"})
    lab: Any = SimpleNamespace(cluster=lambda: members)
    with pytest.raises(DeadlineError) as error:
        settle(lab, 0.0)
    assert error.value.last == "etcd1: x; etcd3: y"
