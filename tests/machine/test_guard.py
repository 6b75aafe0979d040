"""What a process started ends with it, the whole tree of it; daemons stay."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import guard
from machine.waiting import Pending, wait_until

STARTER = """
import signal, subprocess, sys, threading, time
from machine.process import ends_with_us
number, seconds, in_thread = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "thread"
def start():
    child = subprocess.Popen(["bash", "-c", sys.argv[4]])
    ends_with_us(child.pid, number, seconds)
    open("guarded", "w").close()
if in_thread:
    thread = threading.Thread(target=start); thread.start(); thread.join()
else:
    start()
time.sleep(float(sys.argv[5]))
"""

TREE = """
trap 'echo int >>said' INT
echo $$ >>pids
bash -c 'trap "" INT TERM HUP; echo $$ >>pids; setsid sleep 300 & echo $! >>pids; echo up >>pids; wait' &
setsid bash -c '(sleep 300 & echo $! >daemon)' </dev/null >/dev/null 2>&1
while :; do wait; done
"""
"""A process that survives SIGINT, one below that is deaf, one below that in a session of its own, and a daemon."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(guard.__file__).parent.parent))
    yield tmp_path
    for name in ("pids", "daemon"):
        if (tmp_path / name).exists():
            for word in (tmp_path / name).read_text().split():
                if word.isdigit():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(word), signal.SIGKILL)


def start(
    number: int = signal.SIGKILL, seconds: float = 0, how: str = "main", life: float = 300
) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", STARTER, str(int(number)), str(seconds), how, TREE, str(life)]
    return subprocess.Popen(words, start_new_session=True)


def pids(place: Path) -> list[int]:
    def probe() -> list[int]:
        words = (place / "pids").read_text().split() if (place / "pids").exists() else []
        if (
            "up" not in words
            or not (place / "guarded").exists()
            or not (place / "daemon").exists()
            or not (place / "daemon").read_text().strip()
        ):
            raise Pending(str(words))
        return [int(word) for word in words if word.isdigit()]

    return wait_until(probe, "the tree", seconds=20, every=0.02)


def all_gone(found: list[int], seconds: float = 10) -> None:
    def probe() -> None:
        if left := [pid for pid in found if guard.stat(pid)]:
            raise Pending(f"{left} live")

    wait_until(probe, "the end of the tree", seconds=seconds, every=0.02)


@pytest.mark.parametrize("how", ["main", "thread"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_tree_ends_with_its_starter_however_that_ends(place: Path, how: str, number: int) -> None:
    """A thread that started it may have ended long before."""
    with start(how=how) as starter:
        tree = pids(place)
        assert len(tree) == 3
        starter.send_signal(number)
    all_gone(tree)


def test_a_tree_whose_starter_lives_is_left_alone_and_ends_with_a_good_end_too(place: Path) -> None:
    with start(how="thread", life=2) as starter:
        tree = pids(place)
        assert all(guard.stat(pid) for pid in tree)
        assert starter.wait(20) == 0
    all_gone(tree)


def test_a_daemon_stays(place: Path) -> None:
    with start() as starter:
        tree = pids(place)
        daemon = int((place / "daemon").read_text())
        starter.kill()
    all_gone(tree)
    assert guard.stat(daemon)


def test_a_gentle_end_begins_with_the_signal_and_kills_what_is_left_when_its_time_is_up(place: Path) -> None:
    with start(signal.SIGINT, 1) as starter:
        tree = pids(place)
        starter.kill()
    all_gone(tree)
    assert (place / "said").read_text() == "int\n", "once, and to the child alone"


def test_a_process_that_has_the_number_of_one_that_ended_is_not_touched() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        found = guard.stat(other.pid)
        assert found
        line = f"{other.pid} {found[1] - 1} 9 0\n"
        subprocess.run([sys.executable, "-I", "-S", guard.__file__], input=line.encode(), check=True, timeout=20)
        assert other.poll() is None
        other.kill()
