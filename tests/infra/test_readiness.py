"""The readiness gate: stages in order, one deadline, and words that help when one fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra import readiness
from infra.first_boot import BOOTED
from infra.readiness import Gate
from machine import libvirt_api, netns
from machine.errors import ToolError
from machine.process import Completed
from machine.ssh import Shell


class Machine:
    """A guest as far as the gate can see it."""

    def __init__(self) -> None:
        self.state = ["running"]
        self.banner = [b"SSH-2.0-OpenSSH_9.2\r\n"]
        self.logins = [Completed(("test",), 0, "", "")]
        self.commands: list[list[str]] = []
        self.powered_on = False


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()

    @contextmanager
    def connect(_uri: str) -> Iterator[None]:
        yield None

    def power_on(_connection: object, _name: str) -> None:
        found.powered_on = True

    class Answer:
        def __enter__(self) -> Answer:
            return self

        def __exit__(self, *_: object) -> None: ...

        def recv(self, _size: int) -> bytes:
            if not found.banner[0]:
                raise TimeoutError
            return found.banner[0]

    def dial(*_: object) -> Answer:
        if len(found.banner) > 1:
            found.banner.pop(0)
            raise ConnectionRefusedError(111, "Connection refused")
        return Answer()

    def run(_self: Shell, command: list[str], **_: object) -> Completed:
        found.commands.append(command)
        return found.logins.pop(0) if len(found.logins) > 1 else found.logins[0]

    def domain_state(_connection: object, _name: str) -> str:
        return found.state.pop(0) if len(found.state) > 1 else found.state[0]

    monkeypatch.setattr(libvirt_api, "connect", connect)
    monkeypatch.setattr(libvirt_api, "domain_state", domain_state)
    monkeypatch.setattr(libvirt_api, "power_on", power_on)
    monkeypatch.setattr(netns, "connect", dial)
    monkeypatch.setattr(Shell, "run", run)
    monkeypatch.setattr("machine.waiting.time.sleep", lambda _seconds: None)
    return found


def gate(tmp_path: Path, seconds: float = 5.0) -> Gate:
    console = tmp_path / "etcd1.log"
    console.write_text("first line\nKernel panic - not syncing\n")
    shell = Shell("etcd1", "10.0.0.11", tmp_path / "key", tmp_path / "known_hosts", tmp_path, None)
    return Gate(uri="test:///", domain="etcdlab-0-etcd1", shell=shell, console=console, seconds=seconds)


def test_a_machine_that_comes_up_step_by_step_is_ready(machine: Machine, tmp_path: Path) -> None:
    machine.state = ["nostate", "running"]
    machine.banner = [b"", b"SSH-2.0-x\r\n"]
    machine.logins = [Completed((), 1, "", ""), Completed((), 0, "", "")]
    assert gate(tmp_path).wait() >= 0
    assert machine.commands == [["test", "-e", BOOTED]] * 2


@pytest.mark.parametrize(
    ("broken", "stage", "seen"),
    [
        ({"state": ["paused"]}, "the domain runs", "paused"),
        ({"banner": [b""]}, "sshd answers", "timed out"),
        ({"banner": [b"HTTP/1.1 400"]}, "sshd answers", "no ssh banner"),
        ({"logins": [Completed((), 1, "", "")]}, "first boot", "the first boot goes on"),
        ({"logins": [Completed((), 255, "", "Permission denied (publickey).")]}, "login", "Permission denied"),
    ],
)
def test_a_failure_names_node_stage_and_console(
    machine: Machine, tmp_path: Path, broken: dict[str, object], stage: str, seen: str
) -> None:
    for part, value in broken.items():
        setattr(machine, part, value)
    with pytest.raises(ToolError) as caught:
        gate(tmp_path, seconds=0.05).wait()
    said = str(caught.value)
    assert said.startswith("etcd1 is not ready")
    assert stage in said
    assert seen in said
    assert "Kernel panic - not syncing" in said
    assert str(tmp_path / "etcd1.log") in said


def test_a_machine_that_is_off_is_switched_on(machine: Machine, tmp_path: Path) -> None:
    machine.state = ["shutoff", "running"]
    gate(tmp_path).wait()
    assert machine.powered_on


def test_a_missing_console_log_does_not_hide_the_failure(tmp_path: Path) -> None:
    assert "no console log" in readiness.console_tail(tmp_path / "none.log")


def test_under_emulation_more_machines_get_more_time() -> None:
    assert readiness.deadline_seconds(9, "tcg") > readiness.deadline_seconds(3, "tcg") > 120
    assert readiness.deadline_seconds(9, "kvm") == readiness.deadline_seconds(1, "kvm")
