"""Destroying: what is not there is no error, what a run plays on stays, verification stacks are found first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.lab.lock import exclusive_use
from cli.app import main
from cli.destroy import _chaos_stacks, _destroy_chaos, never_built
from cli.engine import Engine
from machine import environment
from machine.engine_state import CHAOS_PROJECT, PROJECT, Deployment, stack_file
from machine.errors import ToolError
from machine.paths import StackPaths


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PULUMI_BACKEND_URL", "PULUMI_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))


def test_a_fresh_checkout_has_no_lab(tmp_path: Path) -> None:
    assert never_built(StackPaths(tmp_path, "lab"))


@pytest.mark.parametrize("what", ["dir", "faults", "state"])
def test_any_trace_of_a_lab_is_looked_into(tmp_path: Path, what: str) -> None:
    paths = StackPaths(tmp_path, "lab")
    trace = {"dir": paths.dir, "faults": paths.faults, "state": stack_file(tmp_path / ".lab" / "state", "lab")}[what]
    trace.mkdir(parents=True)
    assert not never_built(paths)
    assert never_built(StackPaths(tmp_path, "other"))


class StandIn:
    """An engine on the user's own login, whose states no file tells."""

    backend = None
    found: Deployment | Exception | None = None

    def __init__(self, paths: StackPaths, *, project: str = PROJECT) -> None:
        self.paths = paths
        self.project = project

    def recover(self) -> bool:
        return False

    def deployment(self) -> Deployment | None:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.mark.parametrize("command", ["destroy", "stop", "start"])
def test_a_lab_that_a_run_plays_on_is_neither_destroyed_nor_stopped_nor_started(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = StackPaths(tmp_path, "lab")
    touched: list[str] = []
    monkeypatch.setattr("machine.paths.stack_paths", lambda _stack: paths)
    monkeypatch.setattr("cli.engine.Engine", StandIn)
    monkeypatch.setattr("cli.destroy._chaos_stacks", lambda _engine: [])
    monkeypatch.setattr("cli.destroy._clear", lambda *_: touched.append("files"))
    monkeypatch.setattr("cli.lab.open_lab", lambda _stack, **_: SimpleNamespace(paths=paths))
    monkeypatch.setattr("cli.stop.shut_down", lambda _lab: touched.append("machines"))

    def power_on(_lab: object) -> list[str]:
        touched.append("power")
        return []

    monkeypatch.setattr("cli.revive.power_on", power_on)
    monkeypatch.setattr("cli.revive.wait_healthy", lambda _lab: touched.append("members"))
    with exclusive_use(paths, "play scenarios"):
        assert main([command]) == 2
    assert "Another run plays on the lab 'lab'" in capsys.readouterr().err
    assert touched == []
    assert main([command]) == 0
    assert touched


@pytest.mark.parametrize(("found", "count"), [(None, 0), (Deployment(), 1), (ToolError("no such project"), 0)])
def test_a_verification_stack_on_the_users_own_login_is_found(
    found: Deployment | Exception | None, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandIn, "found", found)
    monkeypatch.setattr("cli.engine.Engine", StandIn)
    stacks: list[Any] = _chaos_stacks(cast(Engine, StandIn(StackPaths(tmp_path, "lab"))))
    assert [(one.paths.stack, one.project) for one in stacks] == [("lab", CHAOS_PROJECT)] * count


@pytest.mark.parametrize("text", ['{"version": 3, "check', "[]", ""])
def test_a_verification_stack_whose_state_is_damaged_is_discarded_with_a_note(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = tmp_path / ".lab" / "state"
    monkeypatch.setattr(environment, "pulumi_env", lambda _stack: {"PULUMI_BACKEND_URL": f"file://{backend}"})
    engine = Engine(StackPaths(tmp_path, "lab"), project=CHAOS_PROJECT)
    assert engine.backend == backend
    file = stack_file(backend, "lab", CHAOS_PROJECT)
    other = stack_file(backend, "lab2", CHAOS_PROJECT)
    file.parent.mkdir(parents=True)
    for path in (file, other, file.with_name("lab.json.bak")):
        path.write_text(text)
    _destroy_chaos(engine)
    said = capsys.readouterr()
    assert "damaged" in said.out + said.err
    assert list(file.parent.iterdir()) == [other]
