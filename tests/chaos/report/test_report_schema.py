"""The schema of report.json, held against a recorded one: fields are only ever added."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from chaos.evidence.sources import ALL, Missing
from chaos.faults.base import Proof, Result
from chaos.harness.scenario_run import entry_of
from chaos.report import RUN_VARIABLE, Recorder, Scenario, ScenarioRecorder, load
from tests.manifests import manifest

GOLDEN: Final = Path(__file__).parent / "report-schema-1.json"
"""Every field of a report and the JSON type of its value, as schema 1 was when this was last added to."""

CONTRACT: Final = {
    "": {"schema", "verdict", "started", "lab", "scenarios"},
    "scenarios[].": {"id", "title", "verdict", "seconds", "steps", "faults", "metrics"},
    "scenarios[].steps[].": {"title", "expected", "observed", "verdict"},
    "scenarios[].faults[].": {"name", "target", "place", "injected_ns", "proved_ns", "healed_ns", "proof"},
}
"""What the first readers of schema 1 were promised."""


def shape(value: object, name: str = "") -> dict[str, str]:
    """Dotted name -> JSON type of every field, lists by their first entry; figures of a scenario are free."""
    if isinstance(value, dict):
        found = {name: "object"} if name else {}
        if name.endswith("metrics"):
            return found
        for key, inner in value.items():
            found |= shape(inner, f"{name}.{key}" if name else key)
        return found
    if isinstance(value, list):
        return {name: "array"} | (shape(value[0], f"{name}[]") if value else {})
    names = {bool: "boolean", int: "number", float: "number", str: "string", type(None): "null"}
    return {name: names[type(value)]}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with everything in it, as the recorder writes it."""
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    recorder = Recorder.begin(tmp_path)
    recorder.set_lab(manifest(etcd_extra={"log-level": "warn"}))
    recorder.report.evidence = [Missing("log", ALL, "log-level is warn").as_json()]
    recorder.report.calibration = {}
    recorder.report.workload = {}
    scenario = ScenarioRecorder(recorder, Scenario(id="S1", title="t"))
    with scenario.step("do", "done") as step:
        step.observed("seen")
    proof = (Proof("p", "here", "yes", "yes", True),)
    for action in ("inject", "heal"):
        result = Result("f1", "pause", action, (("etcd1",),), "host", 1, 2, 3, proof)
        if action == "inject":
            entry = scenario.fault_injected(entry_of(result))
        else:
            scenario.fault_healed(entry, lifted_ns=result.applied_ns, proved_ns=result.ended_ns, proof=result.proof)
    scenario.metric("finding", "found")
    scenario.finish(1.0)
    recorder.finish()
    recorder.close()
    return recorder.dir


def test_a_report_has_the_fields_of_the_golden_one(written: Path) -> None:
    """One that is missing here, or has another type, breaks readers; a new one belongs into the golden file too."""
    found = shape(json.loads((written / "report.json").read_text()))
    golden: dict[str, str] = json.loads(GOLDEN.read_text())
    gone = {name: kind for name, kind in golden.items() if found.get(name) != kind}
    assert not gone, "schema 1 only ever grows: these are gone, or of another type"
    new = {name for name in found.keys() - golden.keys() if not name.startswith("lab.")}  # the manifest's own affair
    assert not new, f"new fields: add them to {GOLDEN.name} and docs/report.md"


def test_the_golden_schema_holds_what_schema_1_promised() -> None:
    golden: dict[str, str] = json.loads(GOLDEN.read_text())
    for place, names in CONTRACT.items():
        for name in names:
            assert f"{place}{name}" in golden
    assert (golden["schema"], golden["scenarios"], golden["scenarios[].seconds"]) == ("number", "array", "number")


def test_a_report_of_before_a_field_was_added_is_read_still(written: Path) -> None:
    data: dict[str, Any] = json.loads((written / "report.json").read_text())
    old = {key: data[key] for key in CONTRACT[""]}
    (written / "report.json").write_text(json.dumps(old))
    report = load(written)
    assert (report.verdict, report.evidence, len(report.scenarios)) == ("pass", None, 1)
