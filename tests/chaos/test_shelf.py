"""Shells that are kept: real ones of this host, taken, given back, and looked after."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from chaos.lab import shell_pool as shelf_module
from chaos.lab.guest_shell import REMOTE, Session
from chaos.lab.guest_shells import GuestShells
from chaos.lab.shell_pool import ShellPool
from machine.errors import DeadlineError, LabError
from machine.ssh import Shell
from machine.waiting import Pending, wait_until

HERE = ["bash", "-c", shlex.join(REMOTE)]
"""As ssh would have it."""


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
        return ["bash", "-c", shlex.join(command)]


def shell(here: Here) -> Shell:
    return cast("Shell", here)


def ended(pid: int) -> None:
    if Path(f"/proc/{pid}").exists():
        raise Pending(f"{pid} is there")


def pid_of(session: Session) -> int:
    return int(session.run("echo $$", 5).stdout)


@pytest.fixture
def here() -> Here:
    return Here("a")


def test_a_shell_is_taken_once_and_again_after_it_was_given_back(here: Here) -> None:
    shelf = ShellPool()
    shelf.prepare([(shell(here), "run")])
    session = shelf.take("a", "run")
    assert session is not None
    assert shelf.take("a", "run") is None, "there was one"
    assert shelf.take("a", "probe") is None
    shelf.give_back("a", "run", session)
    shelf.prepare([(shell(here), "run")])
    assert shelf.take("a", "run") is session
    assert here.opened == 1
    pid = pid_of(session)
    shelf.give_back("a", "run", session)
    shelf.close()
    wait_until(lambda: ended(pid), "the shell's end", seconds=5)
    assert shelf.take("a", "run") is None


def test_what_is_given_back_after_the_end_or_twice_or_lost_is_closed(here: Here) -> None:
    shelf = ShellPool()
    one, two, lost, late = (Session.start(HERE, "a") for _ in range(4))
    lost.close()
    shelf.give_back("a", "run", lost)
    assert shelf.take("a", "run") is None
    shelf.give_back("a", "run", one)
    shelf.give_back("a", "run", two)
    assert (one.alive, two.alive) == (True, False)
    shelf.close()
    shelf.give_back("a", "run", late)
    assert not late.alive
    assert not one.alive


def test_a_kept_shell_that_answers_no_more_is_followed_by_another_where_it_is_wanted(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine may have been paused, or lost its power, with nothing to tell so."""
    monkeypatch.setattr(shelf_module, "ALIVE_SECONDS", 0.3)
    shelf = ShellPool()
    kept = {use: Session.start(HERE, "a") for use in ("run", "probe")}
    pids = {use: pid_of(session) for use, session in kept.items()}
    for use, session in kept.items():
        shelf.give_back("a", use, session)
        os.kill(pids[use], signal.SIGSTOP)
    shelf.prepare([(shell(here), "run")])
    taken = shelf.take("a", "run")
    assert taken is not None
    assert taken is not kept["run"]
    assert shelf.take("a", "probe") is None
    assert not kept["probe"].alive
    taken.close()
    wait_until(partial(ended, pids["run"]), "the end of a shell that was given up", seconds=5)
    wait_until(partial(ended, pids["probe"]), "the end of the other", seconds=5)


def test_a_guest_that_is_not_reached_leaves_it_to_the_taker() -> None:
    shelf = ShellPool()
    shelf.prepare([(shell(Here("a", LabError("no way there"))), "run")])
    assert shelf.take("a", "run") is None


def test_what_probes_takes_what_is_kept_opens_the_rest_and_gives_all_back() -> None:
    guests = {name: Here(name) for name in "ab"}
    shelf = ShellPool()
    shelf.prepare([(shell(guests["a"]), "run")])
    for _ in range(2):
        inside = GuestShells(shelf)
        for here in guests.values():
            assert inside.run(shell(here), "echo hello", 5).stdout == "hello\n"
        inside.close()
    assert [here.opened for here in guests.values()] == [1, 1]
    shelf.close()


def test_a_shell_that_was_given_up_at_work_is_not_kept(here: Here) -> None:
    shelf = ShellPool()
    inside = GuestShells(shelf)
    with pytest.raises(DeadlineError, match="sleep"):
        inside.run(shell(here), "sleep 10", 0.3)
    inside.close()
    assert shelf.take("a", "run") is None


def test_two_who_ask_at_the_same_time_do_not_get_the_same_shell(here: Here) -> None:
    shelf = ShellPool()
    shelf.prepare([(shell(here), "run")])
    found: list[Session | None] = []
    askers = [threading.Thread(target=lambda: found.append(shelf.take("a", "run"))) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    [session] = [one for one in found if one]
    session.close()


def test_a_shell_that_opens_when_its_taker_has_given_up_is_ended(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf_module, "CONNECT_SECONDS", 0.2)
    late = threading.Event()
    opened = Here("a")
    real = opened.exec_argv

    def slow(command: list[str], tty: bool) -> list[str]:
        late.wait(10)
        return real(command, tty)

    monkeypatch.setattr(opened, "exec_argv", slow)
    sessions: list[Session] = []
    start = Session.start

    def noted(argv: list[str], name: str) -> Session:
        sessions.append(start(argv, name))
        return sessions[-1]

    monkeypatch.setattr(Session, "start", noted)
    shelf = ShellPool()
    shelf.prepare([(shell(opened), "probe")])
    assert shelf.take("a", "probe") is None
    late.set()

    def closed() -> None:
        if not sessions or sessions[0].alive:
            raise Pending("it is open")

    wait_until(closed, "its end", seconds=10)
    shelf.close()
