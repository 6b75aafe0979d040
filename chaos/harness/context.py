"""One run of a scenario: its lab, the steps and figures of its report, what is measured, the clients at work.

What judges a scenario (judging, end_checks) needs no more than this; injecting and healing is `scenario_run`'s.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest

from chaos.evidence.sources import Missing
from chaos.harness.lab_run import LabRun
from chaos.lab.lab import Lab
from chaos.measure.measures import Measures
from chaos.oracle.delays import Machine
from chaos.report import ScenarioRecorder, Step, StepRun
from chaos.workload.client import Client, Writer
from chaos.workload.workload import WorkloadSession
from machine.errors import InconclusiveError, LabError


class ScenarioContext:
    """What a scenario under way is known by."""

    def __init__(self, run: LabRun, recorder: ScenarioRecorder) -> None:
        self.run = run
        self.lab = run.lab
        self.recorder = recorder
        self.machine = Machine()
        """What calibration measured; until then nothing."""
        self.missing: Sequence[Missing] = ()
        """Sources of evidence that this lab lacks, known before the run."""
        self.measures: Measures | None = None
        """Samples and events of this scenario, while it is measured."""
        self.workload: WorkloadSession | None = None
        """The clients at work; None with `--workload none`."""

    @contextmanager
    def step(self, title: str, expected: str) -> Iterator[StepRun]:
        """A step of the scenario; see chaos.report.ScenarioRecorder.step."""
        with self.recorder.step(title, expected) as run:
            yield run

    @contextmanager
    def precondition(self, title: str, expected: str) -> Iterator[StepRun]:
        """A step that must hold for the scenario to mean anything: when it fails, nothing is proved."""
        with self.recorder.step(title, expected) as run:
            try:
                yield run
            except LabError as error:
                raise InconclusiveError(f"A precondition does not hold: {error.what}", where=error.where) from error

    def metric(self, name: str, value: object) -> None:
        """Keep a figure in the report."""
        self.recorder.metric(name, value)

    def taken_hold(self) -> tuple[int, float]:
        """When the latest fault took hold, as ns of CLOCK_MONOTONIC, and how exactly that is known, in seconds."""
        entry = self.recorder.scenario.faults[-1]
        begun = entry.started_ns or entry.injected_ns
        return (begun + entry.injected_ns) // 2, (entry.injected_ns - begun) / 2e9

    def client(self, node: str) -> Client:
        """The recording client of `node`."""
        return self.run.clients.of(node)

    def writer(self, node: str, prefix: str = "availability/") -> AbstractContextManager[Writer]:
        """A recording client that writes to `node` all through the block."""
        return self.run.clients.writer(node, prefix)

    def need_nodes(self, count: int) -> tuple[str, ...]:
        """Names of the nodes; skips the scenario where there are fewer than `count`."""
        names = self.lab.manifest.node_names
        if len(names) < count:
            reason = f"needs {count} nodes, the lab has {len(names)}"
            self.recorder.scenario.steps.append(
                Step(title="enough nodes", expected=f"{count} nodes", observed=reason, verdict="skipped")
            )
            pytest.skip(reason)
        return names


def election_seconds(lab: Lab) -> float:
    """Election timeout of the lab's members, in seconds: T of the bounds in the scenarios."""
    return lab.manifest.timeouts.election_ms / 1000


def since(started_ns: int) -> float:
    """Seconds from a monotonic time until now."""
    return (time.monotonic_ns() - started_ns) / 1e9
