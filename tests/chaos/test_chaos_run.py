"""`pytest chaos/` as a whole: exit status and report, with a lab made of paper."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np  # noqa: F401 - pytester drops what a run imported, and numpy loads once in a process
import pytest

from chaos.report import RUN_VARIABLE
from chaos.report.wording import ENDED
from machine.paths import CHECKOUT

pytest_plugins = ["pytester"]

LAB = """
import pytest
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from chaos.harness.declare import scenario
from chaos.harness.scenario_run import ScenarioRun
from infra.cluster import EndpointStatus, Member
from infra.findings import Observed
from machine.errors import DeadlineError, InconclusiveError
from machine.paths import StackPaths

calls = []
STRANGERS = ()

@pytest.fixture(scope="session")
def lab():
    node = SimpleNamespace(name="etcd1", address="10.0.0.11")
    cluster = SimpleNamespace(wait_healthy=lambda seconds: calls.append("healthy") or [], status=lambda: [])
    manifest = SimpleNamespace(nodes=(node,), node_names=("etcd1",), peers="address")
    paths = StackPaths(Path(__file__).parent, "lab")
    yield SimpleNamespace(cluster=cluster, manifest=manifest, paths=paths, domain_states=dict)
    assert calls and len(calls) % 2 == 0

@pytest.fixture(scope="session")
def lab_run(lab):
    return SimpleNamespace(lab=lab, pages=None, clients=None, keeper=None)

@pytest.fixture(scope="session")
def verification():
    return SimpleNamespace()  # nothing is injected

@pytest.fixture(scope="session")
def calibration():
    return SimpleNamespace(machine=None)

@pytest.fixture(scope="session")
def missing():
    return []

@pytest.fixture(autouse=True)
def no_evidence(monkeypatch):
    ours = Member(1, "etcd1", ("https://10.0.0.11:2380",), (), learner=False)
    leads = EndpointStatus("etcd1", ok=True, member_id=1, cluster_id=7, leader_id=1)
    monkeypatch.setattr("chaos.conftest.observe", lambda cluster: Observed((leads,), (ours, *STRANGERS)))
    monkeypatch.setattr("chaos.conftest.Measures", lambda lab, pages, recorder, missing: nullcontext())
    monkeypatch.setattr("chaos.harness.artefacts.collect", lambda lab, directory: directory.mkdir(parents=True))

@scenario("S3", "good", "seed")
def test_good(scenario):
    with scenario.step("look", "fine") as step:
        step.observed("fine")
"""

BAD = """
@scenario("S4", "bad", "seed")
def test_bad(scenario):
    with scenario.step("look", "fine"):
        assert 1 == 2
"""

DOUBT = """
@scenario("S5", "in doubt", "seed")
def test_doubt(scenario):
    with scenario.precondition("leader", "there"):
        raise DeadlineError("No leader", seconds=1)
"""

STOPPED = """
@scenario("S7", "stopped by hand", "seed")
def test_stopped(scenario):
    with scenario.step("look", "fine"):
        raise KeyboardInterrupt
"""

FOREIGN = """
STRANGERS = (Member(9, "", ("https://10.0.0.99:2380",), (), learner=False),)
calls += ["never asked"] * 2
"""

SMALL = """
@scenario("S6", "too small", "seed")
def test_small(scenario):
    scenario.need_nodes(3)
"""


SWALLOWED = """
@scenario("S8", "a step that failed, and a test that went on", "seed")
def test_swallowed(scenario):
    try:
        with scenario.step("look", "fine"):
            assert 1 == 2
    except AssertionError:
        pass
"""


def run(pytester: pytest.Pytester, text: str, *words: str) -> tuple[int, dict[str, str], str]:
    """Exit status, verdict per scenario (and of the run, under ""), output."""
    pytester.makepyfile(test_paper=text)
    report = pytester.path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUN_VARIABLE, str(report))
        options = ["-c", str(CHECKOUT / "pyproject.toml"), "-p", "chaos.conftest", "-p", "no:cacheprovider"]
        done = pytester.runpytest_inprocess(*options, "test_paper.py", "--workload", "none", *words)
    found = json.loads((report / "report.json").read_text())
    verdicts = {one["id"]: one["verdict"] for one in found["scenarios"]} | {"": found["verdict"]}
    return int(done.ret), verdicts, done.stdout.str()


@pytest.mark.parametrize(
    ("text", "status", "verdicts"),
    [
        (LAB, 0, {"S3": "pass", "": "pass"}),
        (LAB + BAD, 1, {"S3": "pass", "S4": "fail", "": "fail"}),
        (LAB + DOUBT, 3, {"S3": "pass", "S5": "inconclusive", "": "inconclusive"}),
        (LAB + BAD + DOUBT, 1, {"S3": "pass", "S4": "fail", "S5": "inconclusive", "": "fail"}),
        (LAB + STOPPED, 130, {"S3": "pass", "S7": "inconclusive", "": "inconclusive"}),
        (LAB + FOREIGN, 3, {"S3": "inconclusive", "": "inconclusive"}),
        (LAB + SWALLOWED, 1, {"S3": "pass", "S8": "fail", "": "fail"}),
        (LAB + SMALL, 0, {"S3": "pass", "S6": "skipped", "": "pass"}),
    ],
    ids=["pass", "fail", "doubt", "fail and doubt", "stopped", "foreign member", "swallowed", "too small"],
)
def test_exit_status_and_report_agree(
    pytester: pytest.Pytester, text: str, status: int, verdicts: dict[str, str]
) -> None:
    code, found, output = run(pytester, text)
    assert found == verdicts, output
    assert code == status, output


def test_a_run_that_is_stopped_says_that_not_all_was_played(pytester: pytest.Pytester) -> None:
    run(pytester, LAB + STOPPED)
    assert ENDED in (pytester.path / "run" / "report.html").read_text()
    assert not json.loads((pytester.path / "run" / "report.json").read_text())["finished"]


def test_scenarios_are_chosen_by_id_as_a_mark_and_named_by_it(pytester: pytest.Pytester) -> None:
    code, found, output = run(pytester, LAB + BAD, "-m", "S3", "-v")
    assert (code, found) == (0, {"S3": "pass", "": "pass"}), output
    assert "test_good[S3]" in output


def test_without_a_lab_there_is_one_clear_message_status_2_and_no_report(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "chaos",
        "-m",
        "S3",
        "--stack",
        "no-such-lab",
        "-p",
        "no:cacheprovider",
    ]
    environment = {**os.environ, RUN_VARIABLE: str(tmp_path / "run")}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=CHECKOUT, env=environment)
    assert done.returncode == 2, done.stdout
    assert "There is no lab 'no-such-lab' here" in done.stdout
    assert "./lab up" in done.stdout
    assert not (tmp_path / "run").exists()
