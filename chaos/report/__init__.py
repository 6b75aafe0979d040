"""The report of a run: written after every step as report.json, drawn as report.html, compared with another run's."""

from chaos.report.model import (
    EXIT_CODES,
    FaultEntry,
    Machine,
    Report,
    Scenario,
    Step,
    Verdict,
    exit_code,
)
from chaos.report.recorder import RUN_VARIABLE, Recorder, ScenarioRecorder, StepRun
from chaos.report.runs import find, load

__all__ = [
    "EXIT_CODES",
    "RUN_VARIABLE",
    "FaultEntry",
    "Machine",
    "Recorder",
    "Report",
    "Scenario",
    "ScenarioRecorder",
    "Step",
    "StepRun",
    "Verdict",
    "exit_code",
    "find",
    "load",
]
