"""The CLI as the Automation API calls it, with a stand-in for the program: what it says, how it fails, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pulumi import automation

from chaos.stack import updates
from chaos.stack.updates import Cli

SAYS = """#!/bin/sh
echo "$@"
echo "$PULUMI_AUTOMATION_API $MORE"
echo two >&2
exit ${STATUS:-0}
"""


def program(directory: Path, text: str) -> str:
    path = directory / "program"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_what_it_says_is_given_back_and_told_line_by_line(tmp_path: Path) -> None:
    out: list[str] = []
    err: list[str] = []
    cli = Cli(program(tmp_path, SAYS))
    result = cli.run(["up", "--yes"], str(tmp_path), {"MORE": "more"}, out.append, err.append)
    assert (result.stdout, result.stderr, result.code) == ("--non-interactive up --yes\ntrue more", "two", 0)
    assert (out, err) == (["--non-interactive up --yes", "true more"], ["two"])


def test_a_failure_is_the_sdk_s_own_error(tmp_path: Path) -> None:
    with pytest.raises(automation.CommandError, match="two"):
        Cli(program(tmp_path, SAYS)).run(["up"], str(tmp_path), {"STATUS": "3"})


WORKS_ON = """#!/bin/sh
trap 'echo asked to end' INT
echo started >started
for _ in $(seq 20); do echo working; sleep 0.05; done
echo ended >ended
"""

CALLER = """
import sys
from chaos.stack.updates import Cli
try:
    Cli(sys.argv[1]).run(["up"], sys.argv[2], {})
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("kill", [os.kill, os.killpg])
def test_at_ctrl_c_the_program_ends_in_order_and_nothing_else_is_said(
    tmp_path: Path, kill: Callable[[int, int], None]
) -> None:
    argv = [sys.executable, "-c", CALLER, program(tmp_path, WORKS_ON), str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as caller:
        while not (tmp_path / "started").exists():
            assert caller.poll() is None
        kill(caller.pid, signal.SIGINT)
        out, err = caller.communicate(timeout=20)
    assert (tmp_path / "ended").exists(), "it was waited for"
    assert (out, err) == ("interrupted\n", "")


class Limit(BaseException):
    """As pytest-timeout's, which no handler of Exception sees."""


DEAF = """#!/bin/sh
trap '' INT
echo $$ >started
for _ in $(seq 200); do sleep 0.1; done
echo ended >ended
"""


@pytest.mark.parametrize(("text", "in_order"), [(WORKS_ON, True), (DEAF, False)])
def test_at_the_limit_of_a_test_the_program_is_interrupted_and_killed_when_it_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, in_order: bool
) -> None:
    monkeypatch.setattr(updates, "END_SECONDS", 10.0 if in_order else 0.3)

    def reached(*_: object) -> None:
        raise Limit

    before = signal.signal(signal.SIGALRM, reached)
    cli = Cli(program(tmp_path, text))
    started = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(Limit):
            cli.run(["up"], str(tmp_path), {})
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "started").exists()
    assert (tmp_path / "ended").exists() is in_order
    assert time.monotonic() - started < 15
