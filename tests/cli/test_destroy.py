"""Destroying what is not there: says so, with status 0, also where nothing was ever set up."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.destroy import never_built
from machine.engine_state import stack_file
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
