"""The main job on real machines: its exit status, its report, and the lab that it leaves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from machine.process import Completed

if TYPE_CHECKING:
    from tests.integration.conftest import Host, Stack, Verified

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]

SEED = [f"S{number}" for number in range(1, 12)]  # ../shared/seed.md: S1 to S11


def test_verify_passes_and_says_where_the_report_is(verified: Verified) -> None:
    assert verified.done.status == 0, verified.done.stdout + verified.done.stderr
    assert str(verified.report / "report.json") in verified.done.stdout
    assert "verdict: pass" in verified.done.stdout
    assert f"page: {verified.report / 'report.html'}" in verified.done.stdout
    assert "all 11 scenarios passed" in (verified.report / "report.html").read_text()
    assert len(verified.done.stdout.rpartition("\nID ")[2].splitlines()) < 40


def test_the_report_holds_every_row_of_the_article_with_what_was_expected_and_seen(verified: Verified) -> None:
    report = json.loads((verified.report / "report.json").read_text())
    assert report["schema"] == 1
    assert report["verdict"] == "pass"
    found = {scenario["id"]: scenario for scenario in report["scenarios"]}
    assert sorted(found, key=lambda name: int(name[1:])) == SEED
    for scenario in found.values():
        assert scenario["verdict"] == "pass", scenario
        assert scenario["steps"]
        for step in scenario["steps"]:
            assert step["expected"]
            assert step["observed"]
    for name in ("S4", "S6", "S10"):
        assert found[name]["faults"], f"{name} breaks something"
        for fault in found[name]["faults"]:
            assert 0 < fault["injected_ns"] <= fault["proved_ns"] <= fault["healed_ns"]
            assert fault["proof"]


def test_the_lab_is_left_up_and_healthy(lab: Stack) -> None:
    assert lab.lab("health").status == 0


def test_nothing_listens_on_the_hosts_own_network_because_of_the_lab(lab: Stack, host: Host) -> None:
    assert host.new_listeners() == frozenset()


def test_using_the_lab_leaves_tracked_files_unchanged(lab: Stack, host: Host) -> None:
    assert host.tracked_now() == host.tracked


def test_an_expression_that_selects_nothing_is_wrong_usage(lab: Stack) -> None:
    done: Completed = lab.lab("verify", "--scenarios", "no_such_mark", seconds=600)
    assert done.status == 2
    assert "no_such_mark" in done.stderr
