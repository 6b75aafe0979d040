"""Reading the engine's file backend: resources, half-done operations, locks, processes left behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import engine_state as state
from machine.errors import LabError
from machine.paths import CHECKOUT
from machine.waiting import Pending, wait_until

# Taken from a real state of Pulumi 3.250 whose engine was killed while it made a resource; shortened.
KILLED = {
    "version": 3,
    "checkpoint": {
        "stack": "organization/etcd-lab/lab",
        "latest": {
            "manifest": {"version": "3.250.0"},
            "resources": [
                {
                    "urn": "urn:pulumi:lab::etcd-lab::pulumi:pulumi:Stack::etcd-lab-lab",
                    "custom": False,
                    "type": "pulumi:pulumi:Stack",
                },
                {
                    "urn": "urn:pulumi:lab::etcd-lab::pulumi:providers:libvirt::default",
                    "custom": True,
                    "id": "85f19fe1-d889-4b63-8814-85539f498acd",
                    "type": "pulumi:providers:libvirt",
                },
                {
                    "urn": "urn:pulumi:lab::etcd-lab::libvirt:index/pool:Pool::pool",
                    "custom": True,
                    "id": "4f6f1bd2-0000-4000-8000-000000000001",
                    "type": "libvirt:index/pool:Pool",
                },
            ],
            "pending_operations": [
                {
                    "resource": {
                        "urn": "urn:pulumi:lab::etcd-lab::pulumi-python:dynamic:Resource::one",
                        "custom": True,
                        "type": "pulumi-python:dynamic:Resource",
                    },
                    "type": "creating",
                }
            ],
        },
    },
}

PROVIDER = "chaos.stack.provider_main"


def write_state(backend: Path, text: str) -> None:
    path = state.stack_file(backend, "lab")
    path.parent.mkdir(parents=True)
    path.write_text(text)


def write_lock(backend: Path, text: str) -> Path:
    path = backend / ".pulumi/locks/organization/etcd-lab/lab/2f869f55-053d-40bf-82a3-8a357809f83b.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def lock_text(pid: int, host: str | None = None) -> str:
    return json.dumps({"pid": pid, "username": "root", "hostname": host or socket.gethostname()})


@pytest.fixture
def stand_in() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose command line names pulumi, as an engine's does, marked as ours."""
    code = "import sys; sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, "pulumi"], stdin=subprocess.PIPE, env={**os.environ, "ETCD_LAB_UPDATE": "test-1"}
    )
    yield child
    child.kill()
    child.wait()


def test_a_killed_update_is_read_from_the_state_file(tmp_path: Path) -> None:
    write_state(tmp_path, json.dumps(KILLED))
    found = state.read(tmp_path, "lab")
    assert found is not None
    assert [resource.name for resource in found.pending] == ["one"]
    assert [resource.name for resource in found.built] == ["pool"]
    assert found.ids("Pool") == {"4f6f1bd2-0000-4000-8000-000000000001"}
    assert state.stacks(tmp_path, "etcd-lab") == ["lab"]


def test_no_file_is_no_stack_and_an_empty_stack_has_no_resources(tmp_path: Path) -> None:
    assert state.read(tmp_path, "lab") is None
    write_state(tmp_path, json.dumps({"version": 3, "checkpoint": {"stack": "lab", "latest": None}}))
    assert state.read(tmp_path, "lab") == state.Deployment()


def test_a_damaged_state_names_file_and_way_out(tmp_path: Path) -> None:
    write_state(tmp_path, '{"version": 3, "check')
    with pytest.raises(LabError, match=r"lab\.json\.bak"):
        state.read(tmp_path, "lab")


def test_an_export_reads_like_the_file() -> None:
    exported = json.dumps({"version": 3, "deployment": KILLED["checkpoint"]["latest"]})  # type: ignore[index]
    assert [resource.label for resource in state.parse_export(exported).pending] == ["Resource one"]
    with pytest.raises(LabError):
        state.parse_export("error: no")


def test_a_lock_lives_as_long_as_its_engine(tmp_path: Path, stand_in: subprocess.Popen[bytes]) -> None:
    write_lock(tmp_path, lock_text(stand_in.pid))
    [lock] = state.locks(tmp_path, "lab")

    def started() -> None:  # between fork and exec the child still shows our own command line
        if not lock.alive:
            raise Pending("not yet")

    wait_until(started, "the stand-in starts", seconds=5)
    assert not lock.orphaned
    stand_in.kill()
    stand_in.wait()
    assert not lock.alive


def test_a_process_number_that_was_given_to_another_program_is_no_engine(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        write_lock(tmp_path, lock_text(other.pid))
        [lock] = state.locks(tmp_path, "lab")
        alive = lock.alive
        other.kill()
    assert not alive


def test_a_lock_of_another_host_is_never_taken_for_dead(tmp_path: Path) -> None:
    write_lock(tmp_path, lock_text(1, host="elsewhere.example"))
    [lock] = state.locks(tmp_path, "lab")
    assert lock.alive


def test_a_lock_that_was_half_written_is_dead(tmp_path: Path) -> None:
    write_lock(tmp_path, '{"pid": 12')
    [lock] = state.locks(tmp_path, "lab")
    assert not lock.alive


def test_processes_left_behind_are_known_by_mark_and_program(stand_in: subprocess.Popen[bytes]) -> None:
    def started() -> None:
        if state.leftover_processes("ETCD_LAB_UPDATE=test-1") != [stand_in.pid]:
            raise Pending("not yet")

    wait_until(started, "the stand-in starts", seconds=5)
    assert state.leftover_processes("ETCD_LAB_UPDATE=test-2") == []
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "ETCD_LAB_UPDATE": "test-1"}) as machine:
        found = state.leftover_processes("ETCD_LAB_UPDATE=test-1")
        machine.kill()
    assert found == [stand_in.pid], "a machine carries the mark too, and is not the engine's"


def test_a_provider_that_serves_this_process_is_not_left_behind() -> None:
    mark = f"test-{os.getpid()}"

    def marked(owner: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "ETCD_LAB_UPDATE": mark, state.OWNER: str(owner)}
        return subprocess.Popen([sys.executable, "-c", "input()", "pulumi"], stdin=subprocess.PIPE, env=environment)

    with marked(os.getpid()) as ours, marked(1) as anothers:

        def started() -> None:
            if anothers.pid not in state.leftover_processes(f"ETCD_LAB_UPDATE={mark}"):
                raise Pending("not yet")

        wait_until(lambda: running(ours.pid), "ours starts", seconds=5)
        wait_until(started, "the other starts", seconds=5)
        found = state.leftover_processes(f"ETCD_LAB_UPDATE={mark}")
        for one in (ours, anothers):
            one.kill()
    assert found == [anothers.pid]


def running(pid: int) -> None:
    """It has become the program that it was started for."""
    if b"input()" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        raise Pending("not yet")


@pytest.mark.parametrize("half", ["", '{"user.content_ty', '{"user.content_type": "application/json"}'])
def test_what_a_killed_write_left_goes_and_nothing_else(tmp_path: Path, half: str) -> None:
    write_state(tmp_path, json.dumps(KILLED))
    file = state.stack_file(tmp_path, "lab")
    whole = '{"user.content_type": "application/json"}'
    lock = write_lock(tmp_path, lock_text(os.getpid()))
    torn = [file.with_name("lab.json.attrs"), lock.with_name(lock.name + ".attrs")]
    kept = [file, lock, file.with_name("lab.json.bak.attrs"), file.with_name("lab2.json.attrs")]
    for path in torn:
        path.write_text(half)
    kept[2].write_text(whole)
    kept[3].write_text("")  # another stack's, which may be at work
    aside = file.with_name("lab.json.18ea7d62cefbd6e3.tmp")
    aside.write_text("{")
    rubbish = {aside} if half == whole else {aside, *torn}
    assert set(state.mend(tmp_path, "lab")) == rubbish
    assert all(path.exists() for path in kept)
    assert {path for path in (aside, *torn) if not path.exists()} == rubbish
    assert state.mend(tmp_path, "lab") == []


def test_the_provider_of_faults_is_known_by_the_name_of_its_module() -> None:
    """The module may move; who looks for a provider that was left must move with it."""
    assert any(one in PROVIDER for one in state.WORKERS)
    assert (CHECKOUT / PROVIDER.replace(".", "/")).with_suffix(".py").exists()
    assert f'"{PROVIDER}"' in (CHECKOUT / "chaos" / "stack" / "provider.py").read_text()
