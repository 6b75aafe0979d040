"""An update that hangs in a provider is ended, told with what it was working on, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import foreground
from cli.engine import Engine
from machine.engine_state import Deployment, Resource
from machine.errors import DeadlineError
from machine.paths import StackPaths


def test_a_hung_update_is_told_by_what_it_was_working_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[str] = []

    def hang(argv: list[str], *, seconds: float, **_: object) -> int:
        done.append(argv[1])
        raise DeadlineError("pulumi did not end", seconds=seconds)

    pending = Deployment((), (Resource("libvirt:index/volume:Volume", "etcd1-system", ""),))
    monkeypatch.setattr(foreground, "run", hang)
    monkeypatch.setattr(Engine, "_refuse_if_locked", lambda _: None)
    monkeypatch.setattr(Engine, "deployment", lambda _: pending)
    monkeypatch.setattr(Engine, "end_orphans", lambda _: done.append("ended"))
    with pytest.raises(DeadlineError) as told:
        Engine(StackPaths(tmp_path, "lab")).update("up")
    assert done == ["up", "ended"]
    assert "Volume etcd1-system" in str(told.value)
    assert "./lab up goes on" in str(told.value)
