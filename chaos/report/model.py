"""report.json as data: schema 1, a contract with whoever reads it (only ever added to)."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from infra.manifest import Manifest

Verdict = Literal["pass", "fail", "inconclusive", "skipped"]

EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 3, "skipped": 0}
"""Exit status of ./lab by verdict."""


class Step(BaseModel):
    """One thing that was done or looked at; times are nanoseconds of CLOCK_MONOTONIC, 0 when not known."""

    title: str
    expected: str
    observed: str = ""
    verdict: Verdict = "inconclusive"
    started_ns: int = 0
    ended_ns: int = 0


class FaultEntry(BaseModel):
    """One fault and its proof; times are nanoseconds of CLOCK_MONOTONIC, 0 while it has not happened."""

    name: str
    target: str
    place: str
    injected_ns: int
    started_ns: int = 0
    """When making it began: somewhere from here to `injected_ns` it took hold."""
    proved_ns: int = 0
    mended_ns: int = 0
    """When it was lifted; `healed_ns` is when that was proved."""
    healed_ns: int = 0
    proof: list[str] = Field(default_factory=list)


class Scenario(BaseModel):
    """One scenario; `seconds` counts its set-up and its mending, and so does the time from start to end."""

    id: str
    title: str
    verdict: Verdict = "inconclusive"
    seconds: float = 0.0
    started_ns: int = 0
    ended_ns: int = 0
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


class Machine(BaseModel):
    """The machine that carried the run, as far as it explains the figures."""

    processors: int
    model: str
    memory_mib: int
    kernel: str

    @classmethod
    def this(cls) -> Machine:
        """The one we run on."""
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return cls(
            processors=os.cpu_count() or 1,
            model=_processor_model(),
            memory_mib=pages // 2**20,
            kernel=f"{platform.system()} {platform.release()}",
        )


class Report(BaseModel):
    """report.json, schema 1 (a contract: see the design)."""

    schema_: Literal[1] = Field(1, alias="schema")
    verdict: Verdict = "inconclusive"
    started: str
    finished: str = ""
    """When the run came to its end; empty while it goes on, and for ever when it was killed."""
    lab: Manifest | None = None
    machine: Machine | None = None
    calibration: dict[str, Any] | None = None
    """What was measured before faults, and what follows from it."""
    evidence: list[dict[str, str]] | None = None
    """Sources of evidence that the lab lacked before the first fault: source, node, why, and what rests on it."""
    workload: dict[str, Any] | None = None
    """How the recording clients were set."""
    scenarios: list[Scenario] = Field(default_factory=list)

    model_config = {"populate_by_name": True}

    def judge(self) -> Verdict:
        """The worst of the scenarios; without one that ran, nothing can be said."""
        verdicts = [scenario.verdict for scenario in self.scenarios]
        if "fail" in verdicts:
            return "fail"
        return "pass" if "pass" in verdicts and "inconclusive" not in verdicts else "inconclusive"


def exit_code(verdict: Verdict) -> int:
    """Exit status of ./lab that goes with a verdict: 0 pass, 1 fail, 3 inconclusive."""
    return EXIT_CODES[verdict]


def _processor_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
