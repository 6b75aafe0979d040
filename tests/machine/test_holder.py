"""Who holds a lock: named as the user typed it, with its age and its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from machine import guard
from machine.holder import Holder
from machine.paths import CHECKOUT
from machine.waiting import Pending, wait_until

SLEEPER = "import sys, time; print(flush=True); time.sleep(60)"


def test_this_process_is_named_alive_and_young(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getppid", lambda: 1)  # not by ./lab test, whose name it would be
    Holder.of_this_process().write(tmp_path / "lock")
    found = Holder.read(tmp_path / "lock")
    assert found is not None
    assert found.alive
    assert found.pid == os.getpid()
    assert "pytest" in str(found)
    assert f"process {os.getpid()}" in str(found)


def test_pytest_that_a_lab_started_is_named_as_that_command(tmp_path: Path) -> None:
    """Whoever wants to end the run ends ./lab verify, not the pytest below it."""
    place = tmp_path / "cli"
    place.mkdir()
    below = (
        "from machine.holder import Holder; from pathlib import Path;"
        f"Holder.of_this_process().write(Path({str(tmp_path / 'lock')!r}))"
    )
    (place / "__init__.py").touch()
    (place / "__main__.py").write_text(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {below!r}])\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{CHECKOUT}"}
    words = [sys.executable, "-m", "cli", "verify", "--scenarios", "seed and not slow"]
    subprocess.run(words, env=environment, cwd=tmp_path, check=True, timeout=60)
    found = Holder.read(tmp_path / "lock")
    assert found is not None
    assert found.command == "./lab verify --scenarios 'seed and not slow'"
    assert not found.alive


@pytest.mark.parametrize(("before", "how"), [("", "kill -INT {}"), ("trap '' INT;", "kill {}")])
def test_the_command_that_ends_it_is_one_that_it_heeds(before: str, how: str) -> None:
    with subprocess.Popen(
        ["sh", "-c", f'{before} exec "$@"', "sh", sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        other.stdout.readline()
        assert Holder(other.pid, 0, "x").how_to_end == how.format(other.pid)
        other.kill()


def test_a_process_number_that_was_given_again_is_not_the_holder() -> None:
    own = Holder.of_this_process()
    assert not Holder(own.pid, own.started - 1, own.command).alive


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}'])
def test_a_lock_file_that_says_nothing_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    assert Holder.read(tmp_path / "lock") is None


def test_age_is_counted_from_the_start() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        found = guard.stat(other.pid)
        assert found
        one = Holder(other.pid, found[1], "sleep 60")

        def probe() -> None:
            if one.seconds < 1:
                raise Pending(str(one.seconds))

        wait_until(probe, "a second", seconds=5, every=0.1)
        assert one.seconds < 30
        other.kill()
