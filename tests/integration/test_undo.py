"""Faults made by hand, and faults whose maker was killed: `./lab heal` leaves a healthy cluster and nothing of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chaos.faults import records
from chaos.faults.bridge import Bridge
from chaos.lab import Lab, alone
from machine.paths import CHECKOUT
from machine.waiting import Pending, wait_until

if TYPE_CHECKING:
    from tests.integration.conftest import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def assert_mended(lab: Stack, opened: Lab) -> None:
    assert lab.lab("health").status == 0
    assert not Bridge.of(opened.manifest).present()
    assert records.load_all(opened.paths) == ([], [])
    assert set(opened.domain_states().values()) == {"running"}


def killed_in(lab: Stack, opened: Lab, scenario: str, log: Path) -> None:
    """Play a scenario, and SIGKILL pytest as soon as its undo record is there: in the middle of the injection."""
    with log.open("w") as out:
        argv = [sys.executable, "-m", "pytest", "chaos/", "-m", scenario]
        child = subprocess.Popen(argv, cwd=CHECKOUT, env=dict(lab.env), stdout=out, stderr=out)
    try:

        def recorded() -> None:
            if child.poll() is not None:
                pytest.fail(f"ended too soon:\n{log.read_text()}")
            if not records.load_all(opened.paths)[0]:
                raise Pending("no record yet")

        wait_until(recorded, "an undo record", seconds=120, every=0.02)
    finally:
        child.kill()
        child.wait()


def test_a_partition_by_hand_is_proved_and_healed(lab: Stack, opened: Lab) -> None:
    done = lab.ok("fault", "inject", "partition", "--target", "etcd2")
    assert "Proved." in done.stdout
    assert "tcp etcd1 > etcd2" in done.stdout
    assert "degraded" in lab.lab("health", "--from", "etcd1").stdout
    healed = lab.ok("heal", seconds=200)
    assert "partition on etcd2" in healed.stderr
    assert_mended(lab, opened)
    assert "0 found" in lab.ok("heal", seconds=200).stdout


def test_a_machine_without_power_is_found_and_healed(lab: Stack, opened: Lab) -> None:
    done = lab.ok("fault", "inject", "power-off", "--target", "follower", seconds=120)
    assert "Proved." in done.stdout
    assert "shutoff" in opened.domain_states().values()
    lab.ok("heal", seconds=500)
    assert_mended(lab, opened)


@pytest.mark.parametrize("scenario", ["S6", "S4"])
def test_heal_mends_what_a_killed_run_left(lab: Stack, opened: Lab, scenario: str, tmp_path: Path) -> None:
    killed_in(lab, opened, scenario, tmp_path / "pytest.log")
    lab.ok("heal", seconds=500)
    assert_mended(lab, opened)


def test_the_next_run_heals_what_a_killed_one_left_and_says_so(lab: Stack, opened: Lab, tmp_path: Path) -> None:
    killed_in(lab, opened, "S6", tmp_path / "pytest.log")
    done = lab.shell(f"{sys.executable} -m pytest chaos/ -m S3 -s", seconds=300)
    assert done.ok
    assert "healing first" in done.stderr
    assert_mended(lab, opened)


def test_two_runs_at_once_the_second_refuses_clearly(lab: Stack, opened: Lab) -> None:
    with alone(opened.paths, "hold the lock"):
        inject = lab.lab("fault", "inject", "partition", "--target", "etcd2")
        run = lab.shell(f"{sys.executable} -m pytest chaos/ -m S3", seconds=60)
    assert inject.status == run.status == 2
    assert "Another run plays on the lab" in inject.stderr
    assert "Another run plays on the lab" in run.stdout
    assert_mended(lab, opened)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["meteorite", "--target", "etcd1"], "There is no fault 'meteorite'"),
        (["partition", "--target", "etcd9"], "'etcd9' is no target"),
        (["partition", "--target", "etcd1,etcd2", "--target", "etcd2"], "overlap"),
        (["partition", "--target", "all"], "overlap, or one is empty"),
        (["power-off"], "No target"),
    ],
)
def test_bad_words_are_refused_before_anything_is_touched(lab: Stack, opened: Lab, words: list[str], says: str) -> None:
    done = lab.lab("fault", "inject", *words)
    assert done.status == 2
    assert says in done.stderr
    assert_mended(lab, opened)
