"""The report of a run: every step as expected and observed, written after each, so that a killed run leaves one.

`.lab/reports/RUN/report.json`, with JUnit and artefacts beside it; the link `latest` names the newest run.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from chaos.faults.base import Result, describe
from infra.manifest import Manifest
from machine.errors import InconclusiveError, NotBuiltError
from machine.paths import CHECKOUT, reports_dir
from machine.process import write_private

Verdict = Literal["pass", "fail", "inconclusive", "skipped"]

EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 3, "skipped": 0}
"""Exit status of ./lab by verdict."""

RUN_VARIABLE = "ETCD_LAB_RUN"
"""Environment variable with the directory of a run that ./lab verify has begun."""


class Step(BaseModel):
    """One thing that was done or looked at."""

    title: str
    expected: str
    observed: str = ""
    verdict: Verdict = "inconclusive"


class FaultEntry(BaseModel):
    """One fault and its proof; times are nanoseconds of CLOCK_MONOTONIC, 0 while it has not happened."""

    name: str
    target: str
    place: str
    injected_ns: int
    proved_ns: int = 0
    healed_ns: int = 0
    proof: list[str] = Field(default_factory=list)


class Scenario(BaseModel):
    """One scenario; `seconds` counts its set-up and its mending."""

    id: str
    title: str
    verdict: Verdict = "inconclusive"
    seconds: float = 0.0
    steps: list[Step] = Field(default_factory=list)
    faults: list[FaultEntry] = Field(default_factory=list)
    metrics: dict[str, Any] = Field(default_factory=dict)

    def judge(self) -> Verdict:
        """Fail when a step failed; inconclusive when a step, a fault, or everything is unproved; else pass."""
        verdicts = {step.verdict for step in self.steps}
        if "fail" in verdicts:
            return "fail"
        if not self.steps or "inconclusive" in verdicts or any(not fault.proved_ns for fault in self.faults):
            return "inconclusive"
        return "skipped" if "skipped" in verdicts else "pass"


class Report(BaseModel):
    """report.json, schema 1 (a contract: see the design)."""

    schema_: Literal[1] = Field(1, alias="schema")
    verdict: Verdict = "inconclusive"
    started: str
    lab: Manifest | None = None
    scenarios: list[Scenario] = Field(default_factory=list)

    model_config = {"populate_by_name": True}

    def judge(self) -> Verdict:
        """The worst of the scenarios; without one that ran, nothing can be said."""
        verdicts = [scenario.verdict for scenario in self.scenarios]
        if "fail" in verdicts:
            return "fail"
        return "pass" if "pass" in verdicts and "inconclusive" not in verdicts else "inconclusive"


class Recorder:
    """Writes one run's report, whole, after every change."""

    def __init__(self, directory: Path, report: Report) -> None:
        self.dir = directory
        self.report = report

    @classmethod
    def begin(cls, checkout: Path = CHECKOUT) -> Recorder:
        """A new run, or the one that RUN_VARIABLE names (begun by ./lab verify, gone on with by pytest)."""
        if named := os.environ.get(RUN_VARIABLE):
            directory = Path(named)
            if (directory / "report.json").exists():
                return cls(directory, load(directory))
            directory.mkdir(parents=True, exist_ok=True)
        else:
            directory = _new_run(reports_dir(checkout))
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        recorder = cls(directory, Report(started=now))
        recorder.write()
        _link_latest(directory)
        return recorder

    def set_lab(self, manifest: Manifest) -> None:
        """Say which lab it was."""
        self.report.lab = manifest
        self.write()

    def add_scenario(self, scenario: Scenario) -> None:
        """Put a scenario in (S1 and S2 are measured by ./lab verify); one of the same id is replaced."""
        self.report.scenarios = [other for other in self.report.scenarios if other.id != scenario.id]
        self.report.scenarios.append(scenario)
        self.write()

    def write(self) -> None:
        """Judge and write."""
        self.report.verdict = self.report.judge()
        text = json.dumps(self.report.model_dump(mode="json", by_alias=True), indent=1, default=str)
        write_private(self.dir / "report.json", text + "\n", mode=0o644)


class StepRun:
    """What a step of a scenario tells while it runs."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def observed(self, what: object) -> None:
        """Say what was seen."""
        self._step.observed = str(what)


class ScenarioRecorder:
    """Records one scenario into a run's report."""

    def __init__(self, recorder: Recorder, scenario: Scenario) -> None:
        self._recorder = recorder
        self.scenario = scenario
        recorder.add_scenario(scenario)

    @property
    def artefacts_dir(self) -> Path:
        """Where evidence of this scenario goes."""
        return self._recorder.dir / "artefacts" / self.scenario.id

    @contextmanager
    def step(self, title: str, expected: str) -> Iterator[StepRun]:
        """A step: passes when the block does, fails with what the block raised, inconclusive by InconclusiveError."""
        step = Step(title=title, expected=expected)
        self.scenario.steps.append(step)
        self._recorder.write()
        try:
            yield StepRun(step)
        except BaseException as error:
            step.verdict = "inconclusive" if isinstance(error, (InconclusiveError, KeyboardInterrupt)) else "fail"
            said = str(error).strip() or type(error).__name__
            step.observed = f"{step.observed}; {said}" if step.observed else said
            self._recorder.write()
            raise
        step.verdict = "pass"
        step.observed = step.observed or "as expected"
        self._recorder.write()

    def metric(self, name: str, value: object) -> None:
        """Keep a figure."""
        self.scenario.metrics[name] = value
        self._recorder.write()

    def fault_injected(self, result: Result) -> FaultEntry:
        """Put a fault in, proved or not."""
        entry = FaultEntry(
            name=result.name,
            target=describe(result.groups),
            place=result.place,
            injected_ns=result.applied_ns,
            proved_ns=result.ended_ns if result.proved else 0,
            proof=[str(proof) for proof in result.proof],
        )
        self.scenario.faults.append(entry)
        self._recorder.write()
        return entry

    def fault_healed(self, entry: FaultEntry, result: Result) -> None:
        """Say when and how a fault was seen to be gone."""
        entry.healed_ns = result.ended_ns if result.proved else 0
        entry.proof += [f"healed: {proof}" for proof in result.proof]
        self._recorder.write()

    def finish(self, seconds: float, *, failed: bool = False) -> Verdict:
        """Judge the scenario and write it. `failed`: its test did not end well, whatever the steps say."""
        self.scenario.seconds = round(seconds, 2)
        verdict = self.scenario.judge()
        self.scenario.verdict = "fail" if failed and verdict == "pass" else verdict
        self._recorder.write()
        return self.scenario.verdict


def load(directory: Path) -> Report:
    """The report in a run's directory; raises NotBuiltError when there is none that can be read."""
    try:
        return Report.model_validate_json((directory / "report.json").read_text())
    except (OSError, ValueError) as error:
        raise NotBuiltError(
            "There is no report", where=str(directory), next="./lab verify makes one; ./lab report lists none yet."
        ) from error


def find(run: str | None = None, checkout: Path = CHECKOUT) -> Path:
    """Directory of a run by name, or of the newest."""
    directory = reports_dir(checkout) / (run or "latest")
    if not (directory / "report.json").exists():
        known = sorted(path.parent.name for path in reports_dir(checkout).glob("2*/report.json"))
        raise NotBuiltError(
            f"There is no run {run!r}" if run else "There is no report yet",
            where=str(reports_dir(checkout)),
            next=f"There are {', '.join(known[-5:])}." if known else "./lab verify makes one.",
        )
    return directory.resolve()


def exit_code(verdict: Verdict) -> int:
    """Exit status of ./lab that goes with a verdict: 0 pass, 1 fail, 3 inconclusive."""
    return EXIT_CODES[verdict]


def _new_run(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    name = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in range(1000):
        directory = parent / (f"{name}-{number}" if number else name)
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        return directory
    raise FileExistsError(parent / name)


def _link_latest(directory: Path) -> None:
    fresh = directory.parent / f".latest.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(directory.name)
    fresh.replace(directory.parent / "latest")
