"""The shell that probes: the real script in a bash of this host, and answers that mean what they say."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from chaos.lab import guest_shell as session_module
from chaos.lab.guest_shell import REMOTE, Session
from chaos.lab.guest_shells import GuestShells
from machine.errors import DeadlineError, LabError
from machine.ssh import Shell

HERE = ["bash", "-c", shlex.join(REMOTE)]
"""As ssh would have it."""


@pytest.fixture(params=["bash", "sh"])
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """The shell here, begun by either login shell."""
    opened = Session.start([request.param, "-c", shlex.join(REMOTE)], "here")
    yield opened
    opened.close()


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port of 127.0.0.1 where nobody answers: a listener whose backlog is full drops further SYNs, as a cut would."""
    with socket.socket() as server, contextlib.ExitStack() as held:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


def test_an_open_port_and_a_refusing_one_are_both_told_at_once(session: Session, listener: int) -> None:
    begun = time.monotonic()
    found = session.tcp(["127.0.0.1", "127.0.0.2"], listener, 9)
    assert found["127.0.0.1"].opened
    assert found["127.0.0.1"].seconds is not None
    assert found["127.0.0.1"].seconds < 1
    assert found["127.0.0.2"].said == "Connection refused"
    assert time.monotonic() - begun < 5


def test_an_attempt_that_nobody_answers_is_over_after_its_time_and_the_shell_goes_on(
    session: Session, deaf_port: int
) -> None:
    begun = time.monotonic()
    found = session.tcp(["127.0.0.1", "127.0.0.2"], deaf_port, 0.5)
    assert 0.5 <= time.monotonic() - begun < 3
    assert found["127.0.0.1"].tried
    assert not found["127.0.0.1"].opened
    assert found["127.0.0.1"].said is None
    assert found["127.0.0.2"].said == "Connection refused"
    assert session.clock(1).uncertainty < 1


def test_a_datagram_is_heard_with_its_sender_once_and_only_with_its_mark(session: Session) -> None:
    refused = "255.255.255.255"  # not without SO_BROADCAST (ip(7)), so nothing leaves this host
    with session.hearing("one") as ears:
        here = ("127.0.0.1", ears.port)
        assert session.send("another", [here]) == {here}
        assert ears.senders({"127.0.0.1"}, 0.3, whole=False) == set()
        assert session.send("one", [here, (refused, 9)]) == {here}
        begun = time.monotonic()
        assert ears.senders({"127.0.0.1"}, 9, whole=False) == {"127.0.0.1"}
        assert time.monotonic() - begun < 5
    with session.hearing("two") as ears:
        assert session.send("two", [here]) == {here}  # the port is the same
        begun = time.monotonic()
        assert ears.senders((), 0.5, whole=True) == {"127.0.0.1"}
        assert time.monotonic() - begun >= 0.5


def test_datagrams_are_heard_beside_an_attempt_that_nobody_answers_and_a_script(
    session: Session, deaf_port: int
) -> None:
    done: list[object] = []
    others = [
        threading.Thread(target=lambda: done.append(session.tcp(["127.0.0.1"], deaf_port, 3))),
        threading.Thread(target=lambda: done.append(session.run("echo run", 9).stdout)),
    ]
    for thread in others:
        thread.start()
    with session.hearing("beside") as ears:
        session.send("beside", [("127.0.0.1", ears.port)])
        assert ears.senders({"127.0.0.1"}, 9, whole=False)
        assert len(done) < 2
    for thread in others:
        thread.join(20)
    assert "run\n" in done
    assert len(done) == 2


def test_what_hears_datagrams_ends_with_its_shell() -> None:
    opened = Session.start(HERE, "here")
    with opened.hearing("mark") as ears:
        opened.close()
        with pytest.raises(LabError, match="here"):
            ears.senders({"127.0.0.1"}, 9, whole=False)
    ended = time.monotonic() + 10
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        while True:
            try:
                ours.bind(("0.0.0.0", ears.port))  # noqa: S104 - as the listener did, which nobody sends to
                break
            except OSError:
                assert time.monotonic() < ended
                time.sleep(0.05)


def test_the_clock_of_this_host_is_right_within_its_uncertainty(session: Session) -> None:
    reading = session.clock()
    assert abs(reading.offset) <= reading.uncertainty + 1e-4
    assert reading.uncertainty < 0.5
    assert abs(reading.at_ns - time.monotonic_ns()) < 10e9


def test_a_shell_that_ended_is_an_error_and_known_as_dead(session: Session) -> None:
    session.close()
    assert not session.alive
    with pytest.raises(LabError, match="here"):
        session.tcp(["127.0.0.1"], 1, 0.1)


def test_a_shell_that_can_be_told_nothing_is_dead_before_its_last_word_was_read() -> None:
    deaf = Session.start(["bash", "-c", "read -r _ tag _; exec <&-; echo $tag sent; exec sleep 20"], "deaf")
    try:
        assert deaf.send("mark", ()) == set()
        with pytest.raises(LabError, match="deaf"):
            deaf.clock(1)
        assert not deaf.alive
    finally:
        deaf.close()


def test_a_program_that_never_answers_leaves_every_attempt_untried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "ANSWER_SECONDS", 0.4)
    deaf = Session.start(["sleep", "20"], "deaf")
    try:
        assert not deaf.tcp(["127.0.0.1"], 1, 0.2)["127.0.0.1"].tried
        with pytest.raises(LabError, match="deaf"):
            deaf.clock(1)
    finally:
        deaf.close()


def test_a_script_runs_to_its_end_with_its_status_and_both_outputs(session: Session) -> None:
    done = session.run("echo one; echo 'two  \\n' >&2\nfalse || exit 7", 5)
    assert done.status == 7
    assert (done.stdout, done.stderr) == ("one\n", "two  \\n\n")
    again = session.run("set -e; cd /; pwd", 5)
    assert (again.stdout, again.stderr) == ("/\n", "")
    assert session.run(":", 5).ok


def test_a_script_that_does_not_end_is_given_up_and_the_shell_with_it(session: Session) -> None:
    with pytest.raises(DeadlineError, match="sleep"):
        session.run("echo begun; sleep 30", 0.3)
    assert not session.alive


def test_a_shell_that_is_at_anothers_script_is_left_to_it(session: Session) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(session.run, "sleep 1; echo first", 10)
        time.sleep(0.3)
        with pytest.raises(DeadlineError, match="another script"):
            session.run("echo second", 0.2)
        assert first.result().stdout == "first\n"
    assert session.run("echo third", 5).stdout == "third\n"


def test_only_attempts_of_the_last_request_can_be_ended(session: Session, listener: int) -> None:
    """The numbers of earlier ones, which have ended, may be those of other processes by then."""
    for _ in range(3):
        session.tcp(["127.0.0.1", "127.0.0.2"], listener, 9)
    assert session.run("echo ${#tried[@]}", 5).stdout == "2\n"


def test_a_shell_that_opens_while_all_are_closed_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = GuestShells()
    processes: list[int] = []

    class Slow:
        name = "slow"

        def exec_argv(self, command: list[str], tty: bool) -> list[str]:  # noqa: ARG002 - as Shell's
            inside.close()
            return ["bash", "-c", shlex.join(command)]

    real = Session.start

    def start(argv: list[str], name: str) -> Session:
        opened = real(argv, name)
        processes.append(opened._shell.process.pid)
        return opened

    monkeypatch.setattr(Session, "start", start)
    with pytest.raises(LabError, match="slow"):
        inside.session(cast("Shell", Slow()))
    with pytest.raises(ProcessLookupError):
        os.kill(processes[0], 0)
