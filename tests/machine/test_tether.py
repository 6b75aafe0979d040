"""A command in a guest as sshd runs it: a shell, three pipes; it ends when nobody reads from it any more."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from machine import guard, tether
from machine.tether import tethered
from machine.waiting import Pending, wait_until


def start(command: str, shell: str = "bash") -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [shell, "-c", tethered(command)], stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
    )


def run(command: str, given: bytes = b"", shell: str = "bash") -> tuple[int, bytes, bytes]:
    with start(command, shell) as process:
        out, err = process.communicate(given, timeout=20)
    return process.returncode, out, err


def hang_up(process: subprocess.Popen[bytes]) -> None:
    """What sshd does when a channel closes."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def pid_in(path: Path) -> int:
    def probe() -> int:
        if not path.exists() or not path.read_text().endswith("\n"):
            raise Pending("nothing")
        return int(path.read_text())

    return wait_until(probe, str(path), seconds=10, every=0.02)


def gone(pid: int, seconds: float = 10) -> float:
    started = time.monotonic()

    def probe() -> None:
        if guard.stat(pid):
            raise Pending("it lives")

    wait_until(probe, f"the end of {pid}", seconds=seconds, every=0.02)
    return time.monotonic() - started


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_status_input_and_both_outputs_are_the_commands_own(shell: str) -> None:
    every_byte = bytes(range(256)) * 4000
    assert run("cat; echo -n wrong >&2; exit 7", every_byte, shell) == (7, every_byte, b"wrong")


@pytest.mark.parametrize(("command", "status"), [("true", 0), ("kill -9 $BASHPID", 137), ("exec no-such-program", 127)])
def test_how_it_ends_is_passed_on(command: str, status: int) -> None:
    assert run(command)[:2] == (status, b"")
    if status == 137:
        assert run(command)[2] == b"", "nothing is said that the command did not say"


def test_it_takes_no_longer_than_the_command() -> None:
    started = time.monotonic()
    assert run("echo hello") == (0, b"hello\n", b"")
    assert time.monotonic() - started < 0.3, "the watch is not waited for"


def test_words_that_end_in_a_comment_or_open_a_block_are_whole() -> None:
    assert run("echo a # b") == (0, b"a\n", b"")
    assert run("cat <<X\n$((1 + 1))\nX") == (0, b"2\n", b"")


def test_a_command_that_neither_reads_nor_writes_ends_with_the_channel(tmp_path: Path) -> None:
    with start(f"echo $BASHPID >{tmp_path}/pid; exec sleep 300") as process:
        pid = pid_in(tmp_path / "pid")
        hang_up(process)
        assert gone(pid) < 2
    assert gone(process.pid) < 2, "and nothing of the watch stays"


def test_all_that_it_started_ends_with_it_and_may_end_in_order(tmp_path: Path) -> None:
    command = f"""trap 'echo asked >{tmp_path}/said; kill %1; exit' TERM
sh -c 'echo $$ >{tmp_path}/below; sleep 300; :' & echo $BASHPID >{tmp_path}/pid; wait"""
    with start(command) as process:
        pids = [pid_in(tmp_path / "pid"), pid_in(tmp_path / "below")]
        hang_up(process)
        for pid in pids:
            gone(pid)
    assert (tmp_path / "said").read_text() == "asked\n"


def test_what_is_deaf_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tether, "_SCRIPT", tether._SCRIPT.replace("tries < 50", "tries < 5"))
    with start(f"trap '' TERM HUP INT; echo $BASHPID >{tmp_path}/pid; while :; do sleep 1; done") as process:
        pid = pid_in(tmp_path / "pid")
        hang_up(process)
        gone(pid)


def test_a_command_that_is_stopped_has_not_ended(tmp_path: Path) -> None:
    with start(f"echo $BASHPID >{tmp_path}/pid; kill -STOP $BASHPID; echo on; exit 3") as process:
        pid = pid_in(tmp_path / "pid")
        time.sleep(0.3)
        assert process.poll() is None
        os.kill(pid, signal.SIGCONT)
        out, _ = process.communicate(timeout=10)
        assert (process.returncode, out) == (3, b"on\n")


def test_a_daemon_stays(tmp_path: Path) -> None:
    with start(
        f"setsid sh -c 'echo $$ >{tmp_path}/pid; exec sleep 300' >/dev/null 2>&1 </dev/null & sleep 300"
    ) as process:
        pid = pid_in(tmp_path / "pid")
        hang_up(process)
        gone(process.pid)
    assert guard.stat(pid)
    os.kill(pid, signal.SIGKILL)
