"""Writing report.json: whole, after every step, so that a run that is killed leaves what it had seen."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from chaos.report import runs
from chaos.report.model import FaultEntry, Machine, Report, Scenario, Step, Verdict
from infra.manifest import Manifest
from machine.errors import InconclusiveError
from machine.log import say
from machine.paths import CHECKOUT, reports_dir
from machine.process import write_private

RUN_VARIABLE = "ETCD_LAB_RUN"
"""Environment variable with the directory of a run that ./lab verify has begun."""


class Recorder:
    """Writes one run's report, whole, after every change."""

    def __init__(self, directory: Path, report: Report) -> None:
        self.dir = directory
        self.report = report
        self.goes_on = False
        """Whether another program began the run, and ends it."""
        self._held = runs.hold(directory)

    @classmethod
    def begin(cls, checkout: Path = CHECKOUT) -> Recorder:
        """A new run, or the one that RUN_VARIABLE names (begun by ./lab verify, gone on with by pytest)."""
        if named := os.environ.get(RUN_VARIABLE):
            directory = Path(named)
            if (directory / "report.json").exists():
                recorder = cls(directory, runs.load(directory))
                recorder.goes_on = True
                return recorder
            directory.mkdir(parents=True, exist_ok=True)
        else:
            directory = runs.new_run(reports_dir(checkout))
        recorder = cls(directory, Report(started=_now(), machine=Machine.this()))
        recorder.write()
        runs.link_latest(directory)
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

    def finish(self, *, early: bool = False) -> Path | None:
        """Draw the run at its end; gives the page, None when it could not be drawn.

        `early`: it was interrupted, so that not all was played. A run that another program began is for that one to
        end. A page that cannot be drawn is told and never changes a run's outcome.
        """
        if not (early or self.goes_on):
            self.report.finished = _now()
        self.write()
        state: runs.State = "ended" if early else "running" if self.goes_on else "finished"
        try:
            from chaos.report.page import write_page  # noqa: PLC0415 - recording does not need its template engine

            return write_page(runs.Run(self.dir, self.report, state))
        except Exception as error:  # noqa: BLE001 - whatever it is, the figures in report.json stand
            say(f"report.html could not be drawn ({type(error).__name__}: {error}); ./lab report tries again.")
            return None

    def close(self) -> None:
        """Let go of the run: without `finish`, it counts as ended before its end."""
        with suppress(OSError):
            self._held.close()


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
        scenario.started_ns = scenario.started_ns or time.monotonic_ns()
        recorder.add_scenario(scenario)

    @property
    def artefacts_dir(self) -> Path:
        """Where logs and consoles of this scenario go."""
        return self._recorder.dir / "artefacts" / self.scenario.id

    @property
    def evidence_dir(self) -> Path:
        """Where its history, samples and events go."""
        return self._recorder.dir / "scenarios" / self.scenario.id

    @contextmanager
    def step(self, title: str, expected: str) -> Iterator[StepRun]:
        """A step: passes when the block does, fails with what the block raised, inconclusive by InconclusiveError."""
        step = Step(title=title, expected=expected, started_ns=time.monotonic_ns())
        self.scenario.steps.append(step)
        self._recorder.write()
        try:
            yield StepRun(step)
        except BaseException as error:
            step.ended_ns = time.monotonic_ns()
            step.verdict = "inconclusive" if isinstance(error, (InconclusiveError, KeyboardInterrupt)) else "fail"
            said = str(error).strip() or type(error).__name__
            step.observed = f"{step.observed}; {said}" if step.observed else said
            self._recorder.write()
            raise
        step.ended_ns = time.monotonic_ns()
        step.verdict = "pass"
        step.observed = step.observed or "as expected"
        self._recorder.write()

    def metric(self, name: str, value: object) -> None:
        """Keep a figure."""
        self.scenario.metrics[name] = value
        self._recorder.write()

    @property
    def faults(self) -> Sequence[FaultEntry]:
        """The faults of the scenario so far, in the order of their injection."""
        return self.scenario.faults

    def fault_injected(self, entry: FaultEntry) -> FaultEntry:
        """Add a fault, proved or not."""
        self.scenario.faults.append(entry)
        self._recorder.write()
        return entry

    def fault_healed(self, entry: FaultEntry, *, lifted_ns: int, proved_ns: int, proof: Iterable[object]) -> None:
        """Note when a fault was lifted, and when (0: never) and how that was proved."""
        entry.mended_ns = lifted_ns
        entry.healed_ns = proved_ns
        entry.proof += [f"healed: {one}" for one in proof]
        self._recorder.write()

    def finish(self, seconds: float, *, failed: bool = False) -> Verdict:
        """Judge the scenario and write it. `failed`: its test did not end well, whatever the steps say."""
        self.scenario.seconds = round(seconds, 2)
        self.scenario.ended_ns = time.monotonic_ns()
        verdict = self.scenario.judge()
        self.scenario.verdict = "fail" if failed and verdict == "pass" else verdict
        self._recorder.write()
        return self.scenario.verdict


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
