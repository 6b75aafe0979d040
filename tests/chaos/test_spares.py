"""Shells opened ahead and handed over: real ones of this host, taken through a real socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from chaos import spares
from chaos.inside import Inside
from chaos.session import REMOTE, Session
from chaos.spares import Offer, taken
from machine.errors import DeadlineError, LabError
from machine.ssh import Shell
from machine.waiting import Pending, wait_until


class Here:
    """A guest that is this host."""

    def __init__(self, name: str, error: LabError | None = None) -> None:
        self.name = name
        self.opened = 0
        self._error = error

    def exec_argv(self, command: list[str], tty: bool) -> list[str]:  # noqa: ARG002 - as Shell's
        if self._error:
            raise self._error
        self.opened += 1
        return list(command)


def shell(here: Here) -> Shell:
    return cast("Shell", here)


def ended(pid: int) -> None:
    """The process is gone, or a zombie that its owner has not waited for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return
    if state != "Z":
        raise Pending(f"{pid} is in state {state}")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process asks."""
    monkeypatch.setenv(spares.VARIABLE, str(tmp_path / "spares"))
    return tmp_path / "spares"


def test_a_shell_is_taken_once_answers_and_ends_with_its_taker(path: Path) -> None:
    with Offer(path, [(shell(Here("a")), "run")], REMOTE):
        assert path.stat().st_mode & 0o777 == 0o600
        pipes = taken("a", "run")
        assert pipes is not None
        assert taken("a", "run") is None, "there was one"
        session = Session("a", pipes)
        pid = int(session.run("echo $$", 5).stdout)
        session.close()
        wait_until(lambda: ended(pid), "the shell's end", seconds=5)
    assert not path.exists()


def test_nothing_is_taken_where_nothing_is_offered(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken("a", "run") is None, "no socket"
    with Offer(path, [(shell(Here("a")), "run")], REMOTE):
        assert taken("b", "run") is None
        assert taken("a", "probe") is None
    assert taken("a", "run") is None, "the offer is over"
    monkeypatch.delenv(spares.VARIABLE)
    assert taken("a", "run") is None


def test_a_guest_that_is_not_reached_leaves_it_to_the_taker(path: Path) -> None:
    with Offer(path, [(shell(Here("a", LabError("no way there"))), "run")], REMOTE):
        assert taken("a", "run") is None


def test_the_offer_ends_what_nobody_took_and_what_its_taker_keeps(path: Path) -> None:
    offer = Offer(path, [(shell(Here("a")), "run"), (shell(Here("b")), "run")], REMOTE)
    pipes = taken("a", "run")
    assert pipes is not None
    session = Session("a", pipes)
    pid = int(session.run("echo $$", 5).stdout)
    offer.close()
    wait_until(lambda: ended(pid), "the shell's end", seconds=5)
    with pytest.raises(LabError, match="Lost the shell in a"):
        session.run(":", 5)
    session.close()
    assert [one.process.returncode is not None for one in offer._started] == [True, True]


def test_what_probes_takes_what_is_offered_and_opens_the_rest_itself(path: Path) -> None:
    guests = {name: Here(name) for name in "ab"}
    inside = Inside()
    with Offer(path, [(shell(guests["a"]), "run")], REMOTE):
        for here in guests.values():
            assert inside.run(shell(here), "echo hello", 5).stdout == "hello\n"
        assert inside.run(shell(guests["a"]), "echo again", 5).stdout == "again\n"
        inside.close()
    assert [here.opened for here in guests.values()] == [1, 1]


def test_a_shell_that_was_taken_and_given_up_at_work_is_followed_by_another(path: Path) -> None:
    """Its process is not the taker's to kill, so it works on, and answers nobody."""
    here, inside = Here("a"), Inside()
    with Offer(path, [(shell(here), "run")], REMOTE):
        with pytest.raises(DeadlineError, match="sleep"):
            inside.run(shell(here), "sleep 10", 0.3)
        assert inside.run(shell(here), "echo hello", 5).stdout == "hello\n"
        inside.close()
    assert here.opened == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from chaos.session import REMOTE
from chaos.spares import Offer
guests = [SimpleNamespace(name=name, exec_argv=lambda words, tty: list(words)) for name in "ab"]
offer = Offer(Path(sys.argv[1]), [(guest, "run") for guest in guests], REMOTE)
while len(offer._started) < 2: pass
print(*(one.process.pid for one in offer._started), flush=True)
signal.pause()
"""


def test_when_the_offering_process_is_killed_the_taken_shell_lives_on_and_the_other_ends(path: Path) -> None:
    lender: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert lender.stdout
        pids = {int(pid) for pid in lender.stdout.readline().split()}
        pipes = taken("a", "run")
        assert pipes is not None
        session = Session("a", pipes)
        mine = int(session.run("echo $$", 5).stdout)
        os.kill(lender.pid, signal.SIGKILL)
        lender.wait()
        (other,) = pids - {mine}
        wait_until(lambda: ended(other), "the end of what nobody took", seconds=5)
        assert session.run("echo here", 5).stdout == "here\n"
        session.close()
        wait_until(lambda: ended(mine), "the shell's end", seconds=5)
        assert path.exists(), "what is left of it does not hinder the next"
        assert taken("b", "run") is None
        with Offer(path, [(shell(Here("b")), "run")], REMOTE):
            again = taken("b", "run")
            assert again is not None
            Session("b", again).close()
    finally:
        lender.kill()
        lender.wait()
        if lender.stdout:
            lender.stdout.close()
