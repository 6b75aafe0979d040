"""The ways out of half states, with a stand-in for the Pulumi CLI that notes what it was asked."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli import foreground
from cli.engine import Engine
from machine import engine as machine_engine
from machine import engine_state as state
from machine import environment
from machine.errors import DeadlineError, LabError
from machine.paths import StackPaths
from machine.waiting import Pending, wait_until

# Does what the engine would do to the files: cancel drops the locks, import drops half-done operations.
STAND_IN = """#!{python}
import json, os, sys
from pathlib import Path
words = sys.argv[1:]
backend = Path(os.environ["PULUMI_BACKEND_URL"].removeprefix("file://"))
with open(backend / "asked", "a") as asked:
    asked.write(" ".join(words) + "\\n")
file = backend / ".pulumi/stacks/etcd-lab/lab.json"
if words[0] == "cancel":
    for lock in backend.rglob("locks/**/*.json"):
        lock.unlink()
elif words[:2] == ["stack", "export"]:
    Path(words[-1]).write_text(json.dumps({{"deployment": json.loads(file.read_text())["checkpoint"]["latest"]}}))
elif words[:2] == ["stack", "import"]:
    latest = json.loads(Path(words[-1]).read_text())["deployment"]
    latest.pop("pending_operations", None)
    file.write_text(json.dumps({{"checkpoint": {{"latest": latest}}}}))
elif words[0] in ("up", "destroy"):
    sys.exit(int(os.environ.get("STAND_IN_STATUS", "0")))
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    backend, bin_dir = tmp_path / ".lab" / "state", tmp_path / "bin"
    backend.mkdir(parents=True)
    bin_dir.mkdir()
    (bin_dir / "pulumi").write_text(STAND_IN.format(python=sys.executable))
    (bin_dir / "pulumi").chmod(0o755)
    path = f"{bin_dir}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(
        environment, "pulumi_env", lambda _stack: {"PULUMI_BACKEND_URL": f"file://{backend}", "PATH": path}
    )
    return Engine(StackPaths(tmp_path, "lab"), say=lambda _line: None)


def asked(engine: Engine) -> list[str]:
    """What the engine was asked to do, in order."""
    notes = engine.paths.checkout / ".lab" / "state" / "asked"
    return [line.split(" --")[0] for line in notes.read_text().splitlines()] if notes.exists() else []


def lock(engine: Engine, pid: int) -> None:
    path = engine.paths.checkout / ".lab/state/.pulumi/locks/organization/etcd-lab/lab/one.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"pid": pid, "username": "root", "hostname": socket.gethostname()}))


def write(engine: Engine, **latest: object) -> None:
    path = state.stack_file(engine.paths.checkout / ".lab" / "state", "lab")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"checkpoint": {"latest": {"resources": [], **latest}}}))


def dead_pid() -> int:
    with subprocess.Popen(["true"]) as child:
        pass
    return child.pid


def test_nothing_to_recover_asks_the_engine_nothing(engine: Engine) -> None:
    write(engine)
    assert engine.recover() is False
    assert asked(engine) == []


def test_the_lock_of_a_dead_update_is_cleared(engine: Engine) -> None:
    write(engine)
    lock(engine, dead_pid())
    assert engine.recover() is True
    assert asked(engine) == ["cancel"]
    assert engine.recover() is False


def test_half_done_operations_leave_the_state(engine: Engine) -> None:
    write(engine, pending_operations=[{"resource": {"urn": "a::b::c::d", "type": "x:Domain"}, "type": "creating"}])
    assert engine.recover() is True
    deployment = engine.deployment()
    assert deployment is not None
    assert deployment.pending == ()
    assert not list((engine.paths.checkout / ".lab").glob("tmp*")), "the export held the whole state"


def test_an_update_that_runs_is_let_be(engine: Engine) -> None:
    write(engine)
    with subprocess.Popen([sys.executable, "-c", "input()", "pulumi"], stdin=subprocess.PIPE) as other:
        lock(engine, other.pid)
        [held] = state.locks(engine.paths.checkout / ".lab" / "state", "lab")

        def started() -> None:
            if not held.alive:
                raise Pending("not yet")

        wait_until(started, "the stand-in starts", seconds=5)
        with pytest.raises(LabError, match=f"process {other.pid}"):
            engine.recover()
        with pytest.raises(LabError, match="Another update"):
            engine.update("up")
        other.kill()
    assert asked(engine) == []


def test_processes_that_a_dead_update_left_are_ended(engine: Engine) -> None:
    write(engine)
    mark = {machine_engine.MARK: engine.paths.hypervisor_id}
    with subprocess.Popen(
        [sys.executable, "-c", "input()", "pulumi"], stdin=subprocess.PIPE, env={**os.environ, **mark}
    ) as left:
        words = f"{machine_engine.MARK}={engine.paths.hypervisor_id}"

        def started() -> None:
            if state.leftover_processes(words) != [left.pid]:
                raise Pending("not yet")

        wait_until(started, "the stand-in starts", seconds=5)
        engine.recover()
        assert left.wait(timeout=5) == -9


def test_the_stack_is_made_once(engine: Engine) -> None:
    engine.select()
    assert asked(engine) == ["stack select"]
    write(engine)
    engine.select()
    assert asked(engine) == ["stack select"]


def test_a_failed_update_is_an_error_with_a_next_step(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    write(engine)
    engine.update("up")
    monkeypatch.setitem(engine._env, "STAND_IN_STATUS", "255")
    with pytest.raises(LabError, match=r"pulumi up .* failed"):
        engine.update("up")


FAULT = {"urn": "a::b::c::cut", "type": "pulumi-python:dynamic/chaos:Fault", "id": "cut"}
STACK = {"urn": "a::b::c::s", "type": "pulumi:pulumi:Stack", "outputs": {"lab": "aa", "faults": ["cut"]}}


def test_a_stack_is_emptied_of_resources_and_half_done_operations_and_says_so(engine: Engine) -> None:
    write(engine, resources=[STACK, FAULT], pending_operations=[{"resource": {**FAULT, "urn": "a::b::c::two"}}])
    assert engine.empty({"lab": "aa", "faults": "none"}) == ["Fault cut", "Fault two"]
    deployment = engine.deployment()
    assert deployment is not None
    assert (deployment.built, deployment.pending) == ((), ())
    assert deployment.outputs == {"lab": "aa", "faults": "none"}
    assert not list((engine.paths.checkout / ".lab").glob("tmp*"))


def test_a_stack_with_nothing_in_it_is_let_be(engine: Engine) -> None:
    assert engine.empty({}) == []
    write(engine, resources=[STACK])
    assert engine.empty({}) == []
    assert asked(engine) == []


def test_an_update_without_an_owner_is_killed_and_its_lock_cleared(engine: Engine) -> None:
    write(engine)
    assert engine.end_orphans() is False
    mark = {machine_engine.MARK: engine.paths.hypervisor_id}
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()", "pulumi"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **mark},
    ) as left:
        assert left.stdout is not None
        left.stdout.readline()
        lock(engine, left.pid)
        assert engine.end_orphans() is True
        assert left.wait(timeout=5) == -9
    assert asked(engine) == ["cancel"]


def test_processes_of_the_lab_and_of_its_verification_stack_are_told_apart(engine: Engine) -> None:
    chaos = Engine(engine.paths, project=state.CHAOS_PROJECT, say=lambda _line: None)
    marks = {one.environment[machine_engine.MARK] for one in (engine, chaos)}
    assert len(marks) == 2
    assert chaos.name == "organization/etcd-lab-chaos/lab"


def test_a_hung_update_is_ended_and_told_by_what_it_was_working_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def hang(argv: list[str], *, seconds: float, **_: object) -> int:
        done.append(argv[1])
        raise DeadlineError("pulumi did not end", seconds=seconds)

    pending = state.Deployment((), (state.Resource("libvirt:index/volume:Volume", "etcd1-system", ""),))
    monkeypatch.setattr(foreground, "run", hang)
    monkeypatch.setattr(engine, "deployment", lambda: pending)
    monkeypatch.setattr(engine, "end_orphans", lambda: done.append("ended"))
    with pytest.raises(DeadlineError) as told:
        engine.update("up")
    assert done == ["up", "ended"]
    assert "Volume etcd1-system" in str(told.value)
    assert "./lab up goes on" in str(told.value)
