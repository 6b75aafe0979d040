"""Running a program in the foreground: its status, and signals passed on once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli import foreground
from machine import guard
from machine.errors import DeadlineError, ToolError
from machine.waiting import Pending, wait_until

DRIVER = """
import os, sys
from pathlib import Path
from cli import foreground
try:
    sys.exit(foreground.run(sys.argv[1:], env=os.environ, cwd=Path.cwd(), gently=float(os.environ.get("GENTLY", "0"))))
except KeyboardInterrupt:
    sys.exit(130)
"""

# Says that it is ready, notes each SIGINT, ends in good order after the first.
PATIENT = """
import signal, sys, time
from pathlib import Path
notes = Path(sys.argv[1])
def handle(number, frame):
    notes.write_text(notes.read_text() + "interrupted\\n")
    sys.exit(0)
notes.write_text("")
signal.signal(signal.SIGINT, handle)
notes.write_text("ready\\n")
while True:
    time.sleep(60)
"""


def wait_for(path: Path, text: str) -> None:
    def probe() -> None:
        if not path.exists() or text not in path.read_text():
            raise Pending(path.read_text() if path.exists() else "no file")

    wait_until(probe, f"{text} in {path}", seconds=20, every=0.02)


@pytest.mark.parametrize(("code", "status"), [("0", 0), ("3", 3)])
def test_the_status_is_the_programs_own(tmp_path: Path, code: str, status: int) -> None:
    assert foreground.run(["sh", "-c", f"exit {code}"], env=os.environ, cwd=tmp_path) == status


def test_death_by_signal_is_128_and_its_number(tmp_path: Path) -> None:
    assert foreground.run(["sh", "-c", "kill -KILL $$"], env=os.environ, cwd=tmp_path) == 128 + signal.SIGKILL


def test_a_missing_program_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"\./lab setup"):
        foreground.run(["no-such-program-here"], env=os.environ, cwd=tmp_path)


def test_a_program_whose_time_is_up_is_asked_to_end(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with pytest.raises(DeadlineError, match="not within 4 s"):
        foreground.run([sys.executable, "-c", PATIENT, str(notes)], env=os.environ, cwd=tmp_path, seconds=4)
    assert notes.read_text() == "ready\ninterrupted\n"


def test_a_program_that_hangs_through_every_request_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(foreground, "GRACE_SECONDS", 0.2)
    deaf = "trap '' INT TERM; echo $$ >pid; while :; do sleep 1; done"
    with pytest.raises(DeadlineError):
        foreground.run(["sh", "-c", deaf], env=os.environ, cwd=tmp_path, seconds=1)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_for_us_reaches_the_program_as_one_interrupt(tmp_path: Path, number: signal.Signals) -> None:
    notes = tmp_path / "notes"
    words = [sys.executable, "-c", DRIVER, sys.executable, "-c", PATIENT, str(notes)]
    with subprocess.Popen(words, start_new_session=True) as driver:
        wait_for(notes, "ready")
        driver.send_signal(number)
        assert driver.wait(timeout=20) == 130
    assert notes.read_text() == "ready\ninterrupted\n"


def test_when_we_are_killed_the_program_may_be_interrupted_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    monkeypatch.setenv("GENTLY", "10")
    words = [sys.executable, "-c", DRIVER, sys.executable, "-c", PATIENT, str(notes)]
    with subprocess.Popen(words, start_new_session=True) as driver:
        wait_for(notes, "ready")
        driver.kill()
    wait_for(notes, "interrupted")


def test_when_we_are_killed_the_program_and_what_it_started_are_killed(tmp_path: Path) -> None:
    deaf = "trap '' INT TERM HUP; setsid sleep 300 & echo $! >below; echo $$ >pid; wait"
    with subprocess.Popen([sys.executable, "-c", DRIVER, "bash", "-c", deaf], cwd=tmp_path) as driver:
        wait_for(tmp_path / "pid", "\n")
        driver.kill()
    pids = [int((tmp_path / name).read_text()) for name in ("pid", "below")]

    def probe() -> None:
        if left := [pid for pid in pids if guard.stat(pid)]:
            raise Pending(f"{left} live")

    wait_until(probe, "their end", seconds=10, every=0.02)


def test_a_program_in_a_background_that_ignores_interrupts_is_interrupted_all_the_same(tmp_path: Path) -> None:
    """`./lab verify &` in a script: the shell has it ignore SIGINT, which Python then never handles."""
    notes = tmp_path / "notes"
    words = [
        sys.executable,
        "-c",
        DRIVER,
        sys.executable,
        "-c",
        PATIENT.replace("signal.signal(", "0 and ("),
        str(notes),
    ]
    words = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *words]
    with subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL) as driver:
        wait_for(notes, "ready")
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(timeout=20) == 130


def test_a_run_under_nohup_goes_on_when_the_terminal_is_closed(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    words = [sys.executable, "-c", DRIVER, sys.executable, "-c", PATIENT, str(notes)]
    with subprocess.Popen(["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *words], start_new_session=True) as driver:
        wait_for(notes, "ready")
        driver.send_signal(signal.SIGHUP)
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(timeout=20) == 130
    assert notes.read_text() == "ready\ninterrupted\n", "one interrupt, by SIGTERM"
