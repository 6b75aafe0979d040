"""One run at a time on a lab: the other is named, and what a killed one left is waited for."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.lab import lock
from chaos.lab.lock import exclusive_use
from machine.errors import DeadlineError, UsageError
from machine.holder import Holder
from machine.paths import StackPaths


@pytest.fixture
def paths(tmp_path: Path) -> StackPaths:
    return StackPaths(tmp_path, "lab")


def test_a_run_that_lives_is_named_with_its_command_its_process_its_age_and_its_end(
    paths: StackPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getppid", lambda: 1)  # not by ./lab test, whose name it would be
    with exclusive_use(paths, "play"), pytest.raises(UsageError) as error, exclusive_use(paths, "mend it"):
        pass
    said = str(error.value)
    assert said.startswith("Another run plays on the lab 'lab' now, so this one may not mend it: ")
    assert re.search(rf"pytest .*\(process {os.getpid()}, started \d+ .* ago\)", said)
    assert f"kill -INT {os.getpid()}" in said


def test_who_comes_after_finds_it_free(paths: StackPaths) -> None:
    for _ in range(2):
        with exclusive_use(paths, "play"):
            assert Holder.read(paths.faults / "run.lock") == Holder.of_this_process()


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "a"); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); time.sleep(float(sys.argv[2]))
"""


def held_by_what_is_left(paths: StackPaths, seconds: float) -> subprocess.Popen[bytes]:
    """A process that holds the lock, of a ./lab that is gone."""
    path = paths.faults / "run.lock"
    path.parent.mkdir(parents=True)
    words = [sys.executable, "-c", HOLD, str(path), str(seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    Holder(2**22 - 1, 1, "./lab verify").write(path)
    return process


def test_what_a_killed_run_left_is_waited_for_while_it_ends(paths: StackPaths) -> None:
    with held_by_what_is_left(paths, 1), exclusive_use(paths, "mend it"):
        pass


def test_what_does_not_end_is_reported_with_what_it_is(paths: StackPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "ENDING_SECONDS", 0.3)
    with held_by_what_is_left(paths, 60) as process:
        with (
            pytest.raises(DeadlineError, match=r"what ./lab verify left is there.*fuser"),
            exclusive_use(paths, "mend it"),
        ):
            pass
        process.kill()


def test_a_lock_of_an_unknown_holder_is_refused_too(paths: StackPaths) -> None:
    path = paths.faults / "run.lock"
    path.parent.mkdir(parents=True)
    with path.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="may not mend it"), exclusive_use(paths, "mend it"):
            pass
