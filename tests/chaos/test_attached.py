"""The provider that a run keeps: the real process, asked as the engine asks it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped] # it ships no types
from pulumi.runtime.proto import ResourceProviderStub, plugin_pb2

from chaos.lab.shell_pool import ShellPool
from chaos.stack import provider_main
from chaos.stack.provider import ProviderProcess
from machine.engine import Engine
from machine.errors import LabError
from machine.paths import CHECKOUT, StackPaths
from machine.waiting import Pending, wait_until


def engine(tmp_path: Path) -> Engine:
    mark = {"ETCD_LAB_UPDATE": f"test-{os.getpid()}"}
    return cast(Engine, SimpleNamespace(paths=StackPaths(tmp_path, "t"), environment=mark))


@pytest.fixture
def attached(tmp_path: Path) -> Iterator[ProviderProcess]:
    started = ProviderProcess.start(engine(tmp_path))
    yield started
    started.close()


def pid_of(attached: ProviderProcess) -> int:
    return attached._child.pid


def gone(pid: int) -> None:
    if Path(f"/proc/{pid}").exists():
        raise Pending(f"process {pid} is there")


def asked(attached: ProviderProcess) -> Any:
    """A connection as the engine's."""
    name, _, port = attached.environment["PULUMI_DEBUG_PROVIDERS"].partition(":")
    assert name == "pulumi-python", "the package of dynamic resources"
    return ResourceProviderStub(grpc.insecure_channel(f"127.0.0.1:{port}"))


def test_the_engine_attaches_one_update_after_the_other(attached: ProviderProcess) -> None:
    for _ in range(2):
        engines = asked(attached)
        assert engines.Attach(plugin_pb2.PluginAttach(address="127.0.0.1:1"), timeout=20) == Empty()
        assert engines.GetPluginInfo(Empty(), timeout=20).version
    assert attached.alive


def test_it_is_told_of_shells_of_a_lab_that_is_not_there_and_goes_on(attached: ProviderProcess) -> None:
    attached.open([("etcd1", "probe")])
    assert asked(attached).GetPluginInfo(Empty(), timeout=20).version


def test_an_order_that_it_does_not_understand_does_not_end_what_it_is_at(attached: ProviderProcess) -> None:
    attached._child.say({"open": 3})
    attached._child.say({"close": []})
    assert asked(attached).GetPluginInfo(Empty(), timeout=20).version
    assert attached.alive


def test_the_order_to_end_is_obeyed_at_once_while_it_still_loads(attached: ProviderProcess) -> None:
    pid = pid_of(attached)
    attached.close()
    gone(pid)
    assert not attached.alive
    with pytest.raises(LabError, match="The provider of faults ended"):
        attached.open([])


OWNER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from chaos.stack.provider import ProviderProcess
from machine.paths import StackPaths
attached = ProviderProcess.start(SimpleNamespace(paths=StackPaths(Path(sys.argv[1]), "t"), environment={}))
attached.environment
print(attached._child.pid, flush=True)
input()
"""


def test_it_does_not_outlive_a_run_that_is_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", OWNER, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, cwd=CHECKOUT) as owner:
        assert owner.stdout
        pid = int(owner.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        os.kill(owner.pid, signal.SIGKILL)
        wait_until(lambda: gone(pid), "the provider's end", seconds=5)


def test_what_is_wanted_is_opened_in_the_lab_s_guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[list[tuple[object, str]]] = []
    monkeypatch.setattr(ShellPool, "prepare", lambda _self, wanted: begun.append(list(wanted)))
    monkeypatch.setattr(provider_main, "load", lambda _paths: "manifest")
    monkeypatch.setattr(provider_main, "shell_for", lambda *words: words)
    paths = StackPaths(tmp_path, "t")
    provider_main.prepare(paths, ShellPool(), [("etcd1", "run")])
    assert begun == [[(("manifest", paths, "etcd1"), "run")]]
