"""`./lab up` and a run that plays on the lab: the one keeps its hands off while the other goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chaos.heal import heal
from chaos.lab.lock import alone
from cli.app import main
from cli.revive import revive
from machine.errors import SettingsError, UsageError
from machine.paths import StackPaths


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
    monkeypatch.setattr("cli.up._revive", lambda _engine: None)
    return made


def engine_that(update: Callable[[], None], touched: list[str]) -> Callable[[StackPaths], Any]:
    def recover() -> bool:
        touched.append("recovered")
        return False

    return lambda paths: SimpleNamespace(
        paths=paths, select=lambda: touched.append("selected"), recover=recover, update=lambda _command: update()
    )


def test_a_lab_that_a_run_plays_on_is_not_touched_by_up(
    paths: StackPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    touched: list[str] = []
    monkeypatch.setattr("cli.engine.Engine", engine_that(lambda: touched.append("updated"), touched))
    with alone(paths, "play scenarios"):
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
        with pytest.raises(UsageError) as error, alone(paths, "play scenarios"):
            pass
        refused.append(error.value.what)

    monkeypatch.setattr("cli.engine.Engine", engine_that(play, []))
    assert main(["up"]) == 0
    assert len(refused) == 1
    with alone(paths, "play scenarios"):
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
    with alone(paths, "build it"):
        revive(lab, deployed=True, say=lambda _text: None)
    assert healed == ["all"]
