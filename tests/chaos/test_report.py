"""The report: verdicts, and a file that is right after every step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaos.faults.base import Proof, Result
from chaos.harness.scenario_run import entry_of
from chaos.report import RUN_VARIABLE, Recorder, Scenario, ScenarioRecorder, Step, exit_code, find, load
from machine.errors import InconclusiveError, NotBuiltError


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    return Recorder.begin(tmp_path)


def play(recorder: Recorder, scenario_id: str, *errors: BaseException | None) -> ScenarioRecorder:
    """A scenario with one step per entry, which passes or raises."""
    scenario = ScenarioRecorder(recorder, Scenario(id=scenario_id, title="t"))
    for error in errors:
        try:
            with scenario.step("do", "done") as step:
                step.observed("seen")
                if error is not None:
                    raise error
        except BaseException as raised:
            if raised is not error:
                raise
    scenario.finish(1.0)
    return scenario


def on_disk(recorder: Recorder) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((recorder.dir / "report.json").read_text())
    return data


FAIL = AssertionError("no")
DOUBT = InconclusiveError("not shown")


@pytest.mark.parametrize(
    ("scenarios", "verdict", "code"),
    [
        ([(None,)], "pass", 0),
        ([(None,), (None, FAIL)], "fail", 1),
        ([(None,), (None, DOUBT)], "inconclusive", 3),
        ([(DOUBT,), (FAIL,)], "fail", 1),
        ([], "inconclusive", 3),
        ([()], "inconclusive", 3),
    ],
    ids=["all pass", "one fails", "one in doubt", "fail outweighs doubt", "nothing ran", "no step"],
)
def test_the_run_is_as_good_as_its_worst_scenario(
    recorder: Recorder, scenarios: list[tuple[BaseException | None, ...]], verdict: str, code: int
) -> None:
    for number, errors in enumerate(scenarios):
        play(recorder, f"S{number}", *errors)
    found = load(recorder.dir)
    assert found.verdict == verdict == on_disk(recorder)["verdict"]
    assert exit_code(found.verdict) == code


def test_a_run_that_is_killed_in_a_step_leaves_an_inconclusive_report(recorder: Recorder) -> None:
    play(recorder, "S1", None)
    scenario = ScenarioRecorder(recorder, Scenario(id="S2", title="t"))
    with scenario.step("do", "done"):
        seen = on_disk(recorder)
    assert seen["verdict"] == "inconclusive"
    assert [(one["id"], one["verdict"]) for one in seen["scenarios"]] == [("S1", "pass"), ("S2", "inconclusive")]
    (step,) = seen["scenarios"][1]["steps"]
    assert step.pop("started_ns") > 0
    assert step == {"title": "do", "expected": "done", "observed": "", "verdict": "inconclusive", "ended_ns": 0}


def test_a_failed_step_says_what_was_seen_and_why(recorder: Recorder) -> None:
    scenario = play(recorder, "S1", AssertionError("value is 2"))
    assert scenario.scenario.steps[0].observed == "seen; value is 2"


def test_a_test_that_fails_outside_its_steps_fails_the_scenario(recorder: Recorder) -> None:
    scenario = ScenarioRecorder(recorder, Scenario(id="S1", title="t"))
    with scenario.step("do", "done"):
        pass
    assert scenario.finish(1.0, failed=True) == "fail"


def result(*, holds: bool) -> Result:
    proof = (Proof("tcp a > b", "a", "no answer", "no answer" if holds else "answered", holds, at_ns=3),)
    return Result("partition-1", "partition", "inject", (("a",), ("b",)), "bridge x", 1, 2, 4, proof)


@pytest.mark.parametrize("holds", [True, False])
def test_a_fault_that_was_not_proved_makes_the_scenario_inconclusive(recorder: Recorder, holds: bool) -> None:
    scenario = ScenarioRecorder(recorder, Scenario(id="S6", title="t"))
    with scenario.step("do", "done"):
        entry = scenario.fault_injected(entry_of(result(holds=holds)))
    healed = result(holds=True)
    scenario.fault_healed(entry, lifted_ns=healed.applied_ns, proved_ns=healed.ended_ns, proof=healed.proof)
    assert scenario.finish(1.0) == ("pass" if holds else "inconclusive")
    fault = on_disk(recorder)["scenarios"][0]["faults"][0]
    assert (fault["target"], fault["place"], fault["injected_ns"]) == ("a | b", "bridge x", 2)
    assert (fault["proved_ns"], fault["healed_ns"]) == (4 if holds else 0, 4)
    assert len(fault["proof"]) == 2


def test_the_report_has_the_keys_of_schema_1(recorder: Recorder) -> None:
    play(recorder, "S3", None)
    report = on_disk(recorder)
    added = {"finished", "machine", "calibration", "workload", "evidence"}
    assert report.keys() == {"schema", "verdict", "started", "lab", "scenarios"} | added
    assert report["schema"] == 1
    base = {"id", "title", "verdict", "seconds", "steps", "faults", "metrics"}
    assert report["scenarios"][0].keys() == base | {"started_ns", "ended_ns"}


def test_verify_begins_a_run_and_pytest_goes_on_with_it(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.add_scenario(Scenario(id="S1", title="set-up", verdict="pass"))
    monkeypatch.setenv(RUN_VARIABLE, str(recorder.dir))
    again = Recorder.begin(tmp_path)
    play(again, "S3", None)
    assert [one.id for one in load(recorder.dir).scenarios] == ["S1", "S3"]


def test_latest_names_the_newest_run_and_runs_in_one_second_do_not_collide(tmp_path: Path, recorder: Recorder) -> None:
    newer = Recorder.begin(tmp_path)
    assert newer.dir != recorder.dir
    assert find(None, tmp_path) == newer.dir.resolve()
    assert find(recorder.dir.name, tmp_path) == recorder.dir.resolve()


def test_an_unknown_run_is_refused_and_the_known_ones_named(tmp_path: Path, recorder: Recorder) -> None:
    with pytest.raises(NotBuiltError, match=recorder.dir.name):
        find("1999", tmp_path)
    with pytest.raises(NotBuiltError, match="no report yet"):
        find(None, tmp_path / "elsewhere")


def test_a_scenario_that_the_lab_is_too_small_for_is_skipped_and_does_not_spoil_the_run(recorder: Recorder) -> None:
    play(recorder, "S3", None)
    skipped = ScenarioRecorder(recorder, Scenario(id="S4", title="t"))
    skipped.scenario.steps += [
        Step(title="steady", expected="healthy", observed="yes", verdict="pass"),
        Step(title="nodes", expected="3", observed="1", verdict="skipped"),
    ]
    assert skipped.finish(1.0) == "skipped"
    assert load(recorder.dir).verdict == "pass"
