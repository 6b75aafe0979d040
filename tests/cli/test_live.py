"""The live lines: what they say, and that they share a terminal with pytest and Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from chaos.report import Report, Scenario, Step
from cli.live import FRESH_NS, Seen, Watch, drawn, from_samples, step_line
from machine.paths import CHECKOUT

NODES = ("etcd1", "etcd2", "etcd3")
NOW = 100_000_000_000


def sample(node: str, at_ns: int = NOW, **more: object) -> str:
    base = {"at_ns": at_ns, "node": node, "ok": True, "error": "", "leader": False, "leader_id": 7, "term": 3}
    return json.dumps(base | more) + "\n"


def test_each_members_newest_sample_counts(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(
        sample("etcd1", leader=True, term=2)
        + sample("etcd2")
        + sample("etcd1", leader_id=0, errors=["etcdserver: no leader"])
        + sample("etcd3", ok=False, error="timed out")
        + '{"at_ns": 1, "no'
    )
    assert from_samples(path, NODES, NOW) == [
        Seen("etcd1", "no leader", 3, "etcdserver: no leader"),
        Seen("etcd2", "follower", 3, ""),
        Seen("etcd3", "silent", 3, "timed out"),
    ]


def test_old_samples_and_none_are_not_taken_for_the_present(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    assert from_samples(path, NODES, NOW) is None
    path.write_text(sample("etcd1"))
    assert from_samples(path, NODES, NOW + FRESH_NS) is not None
    assert from_samples(path, NODES, NOW + FRESH_NS + 1) is None


def test_the_step_line_counts_and_names_the_step_under_way() -> None:
    done = Scenario(id="S3", title="t", verdict="fail", started_ns=1, ended_ns=2)
    now = Scenario(id="S4", title="t", started_ns=1, steps=[Step(title="inject", expected="", started_ns=NOW)])
    report = Report(started="", scenarios=[done, now])
    assert step_line(report, 5, NOW + 12 * 10**9) == "1 done of 5, 1 not passed · S4 step 1 12 s: inject"
    now.ended_ns = NOW
    assert step_line(report, 5, NOW) == "2 done of 5, 2 not passed · between scenarios"
    assert "first scenario" in step_line(None, 0, NOW)


def test_every_line_says_role_term_and_health_in_words() -> None:
    lines = [line.plain for line in drawn([Seen("etcd1", "leader", 3, ""), Seen("etcd2", "silent", 0, "gone")], "step")]
    assert lines == ["etcd1  leader     term 3    healthy", "etcd2  silent     gone", "step"]


def test_scenarios_that_were_there_before_count_among_all(tmp_path: Path) -> None:
    watch = Watch(tmp_path, "lab")
    watch.expect(3)
    assert watch.total == 3
    before = Report(started="", scenarios=[Scenario(id="S1", title="t"), Scenario(id="S2", title="t")])
    (tmp_path / "report.json").write_text(before.model_dump_json(by_alias=True))
    watch.expect(3)
    assert watch.total == 5


SCENARIO = """
import json
import time
from chaos.report import Recorder, Scenario, ScenarioRecorder
from bench.runs import manifest

def test_paper():
    recorder = Recorder.begin()
    recorder.set_lab(manifest())
    scenario = ScenarioRecorder(recorder, Scenario(id="S3", title="paper"))
    scenario.evidence_dir.mkdir(parents=True)
    samples = scenario.evidence_dir / "samples.jsonl"
    with scenario.step("look", "fine"):
        for _ in range(ROUNDS):
            now = time.monotonic_ns()
            sample = {"at_ns": now, "node": "etcd1", "ok": True, "leader": True, "leader_id": 1, "term": 9}
            samples.write_text(json.dumps(sample) + "\\n")
            print("noise of a test")
            time.sleep(0.1)
    scenario.finish(1.0)
"""


def on_a_terminal(directory: Path, rounds: int, *, interrupt: bool) -> tuple[int, str]:
    """pytest with the plugin on a terminal of its own; its status, and all that the terminal got."""
    (directory / "test_paper.py").write_text(SCENARIO.replace("ROUNDS", str(rounds)))
    run = directory / "run"
    run.mkdir()
    words = [
        "-c",
        str(CHECKOUT / "pyproject.toml"),
        f"--rootdir={directory}",
        "-p",
        "cli.live",
        "-p",
        "no:cacheprovider",
    ]
    argv = [sys.executable, "-m", "pytest", *words, "test_paper.py"]
    env = {**os.environ, "ETCD_LAB_RUN": str(run), "PYTHONPATH": str(CHECKOUT), "TERM": "xterm", "COLUMNS": "60"}
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 60))
    child = subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=directory, start_new_session=True
    )
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # EIO: nobody holds the other end any more
                break
        if interrupt and b"look" in seen:
            interrupt = False
            child.send_signal(signal.SIGINT)
    os.close(ours)
    return child.wait(timeout=10), seen.decode(errors="replace")


SHOW_CURSOR = "\x1b[?25h"
HIDE_CURSOR = "\x1b[?25l"


@pytest.mark.timeout(90)
def test_pytests_lines_and_ours_share_a_terminal(tmp_path: Path) -> None:
    status, seen = on_a_terminal(tmp_path, 30, interrupt=False)
    assert status == 0, seen
    assert "etcd1  leader     term 9" in seen
    assert "S3 step 1" in seen
    assert "test_paper.py" in seen
    assert "1 passed" in seen
    assert "noise of a test" not in seen
    assert seen.index(HIDE_CURSOR) < seen.rindex("S3 step 1") < seen.rindex(SHOW_CURSOR) < seen.index("1 passed")


@pytest.mark.timeout(90)
def test_an_interrupt_ends_the_run_and_gives_the_terminal_back(tmp_path: Path) -> None:
    status, seen = on_a_terminal(tmp_path, 600, interrupt=True)
    assert status == 2, seen  # pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in seen
    assert seen.rindex(HIDE_CURSOR) < seen.rindex(SHOW_CURSOR) < seen.index("KeyboardInterrupt")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["scenarios"][0]["steps"][0]["verdict"] == "inconclusive"


def test_a_pipe_gets_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "test_paper.py").write_text("def test_paper():\n    pass\n")
    words = [
        "-c",
        str(CHECKOUT / "pyproject.toml"),
        f"--rootdir={tmp_path}",
        "-p",
        "cli.live",
        "-p",
        "no:cacheprovider",
    ]
    env = {**os.environ, "ETCD_LAB_RUN": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}
    argv = [sys.executable, "-m", "pytest", *words, "test_paper.py"]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, cwd=tmp_path, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "\x1b[?25l" not in done.stdout
    assert "scenario" not in done.stdout
