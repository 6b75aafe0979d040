"""The quick part of the catalogue on real machines: every family breaks something, and the cluster keeps its word."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chaos.harness.sequences import OVERLAPPING
from machine.paths import CHECKOUT

if TYPE_CHECKING:
    from tests.integration.conftest import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

SELECTED = "quick and not seed"  # the seed's were played by the main job

FAMILIES = {"process", "network", "clock", "disk", "etcd"}
"""Beside power, which the seed shows; names need a name service, and damaged data takes longer than quick."""

SEED = 232
"""Of three sequences that have sixteen kinds of five families between them, and five faults at once."""


def latest() -> dict[str, Any]:
    """The report of the last run."""
    found: dict[str, Any] = json.loads(Path(CHECKOUT / ".lab/reports/latest/report.json").read_text())
    return found


@pytest.fixture(scope="module")
def report(lab: Stack) -> dict[str, Any]:
    done = lab.lab("verify", "--scenarios", SELECTED, seconds=1500)
    found = latest()
    assert done.status == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return found


def test_every_quick_scenario_passes_with_its_faults_proved_and_healed(report: dict[str, Any]) -> None:
    played = [one for one in report["scenarios"] if one["id"] not in ("S1", "S2")]
    assert {one["verdict"] for one in played} == {"pass"}, [one["id"] for one in played if one["verdict"] != "pass"]
    for one in played:
        for fault in one["faults"]:
            assert 0 < fault["injected_ns"] <= fault["proved_ns"] <= fault["healed_ns"], (one["id"], fault)
            assert fault["proof"]


def test_every_family_has_a_quick_scenario(report: dict[str, Any]) -> None:
    from chaos.faults.registry import KINDS  # noqa: PLC0415 - collected without a lab too

    names = {fault["name"] for one in report["scenarios"] for fault in one["faults"]}
    assert {KINDS[name].family for name in names} >= FAMILIES


def test_three_random_sequences_of_overlapping_faults_end_healthy(lab: Stack) -> None:
    played = lab.shell(f"{sys.executable} -m pytest chaos/ -m random --sequences 3 --seed {SEED}", seconds=1500)
    assert played.ok, played.stdout[-4000:]
    scenarios = latest()["scenarios"]
    assert [one["verdict"] for one in scenarios] == ["pass"] * 3
    assert max(one["metrics"]["most at once"] for one in scenarios) == OVERLAPPING
