"""Faults made by hand, and faults whose maker was killed: `./lab heal` leaves a healthy cluster and nothing of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from chaos.faults import records
from chaos.faults.network.nft import Bridge
from chaos.heal.inspection import inspect
from chaos.lab.lab import Lab
from chaos.lab.lock import exclusive_use
from machine import engine_state as state
from machine.engine import MARK
from machine.paths import CHECKOUT
from machine.waiting import Pending, wait_until

if TYPE_CHECKING:
    from tests.integration.conftest import Stack

BACKEND = CHECKOUT / ".lab" / "state"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


DRIVER = """
import sys
from chaos.faults.registry import kind
from chaos.lab.lab import Lab
from chaos.lab.lock import exclusive_use
from chaos.stack.verification import Verification
from infra.manifest import load
from machine.paths import stack_paths

paths = stack_paths(sys.argv[1])
with exclusive_use(paths, "test"), Lab(load(paths), paths) as lab:
    stack = Verification(lab)
    cut = kind("partition").declare(lab, ("etcd2",))
    stopped = kind("stop-process").declare(lab, ("etcd3",), others=[cut])
    assert all(result.proved for result in stack.set([cut, stopped]))
    print("in force", flush=True)
    input()
    stack.set([])
"""
"""Two faults, at the bridge and in a guest, made at once, held, and healed at once."""


def assert_mended(lab: Stack, opened: Lab) -> None:
    assert inspect(opened) == []
    assert lab.lab("health").status == 0


def pending(lab: Stack) -> bool:
    deployment = state.read(BACKEND, lab.name, state.CHAOS_PROJECT)
    return deployment is not None and bool(deployment.pending)


def engine_of(lab: Stack) -> int:
    return next((lock.pid for lock in state.locks(BACKEND, lab.name, state.CHAOS_PROJECT)), 0)


def plugin_of(lab: Stack) -> int:
    mark = f"{MARK}={lab.paths.hypervisor_id}/{state.CHAOS_PROJECT}"
    words = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in state.leftover_processes(mark)}
    return next((pid for pid, line in words.items() if b"chaos.stack.provider_main" in line), 0)


Who = Literal["runner", "engine", "plugin"]
When = Literal["injecting", "in force", "healing"]


def kill(lab: Stack, opened: Lab, who: Who, when: When) -> None:
    """Run the driver, and SIGKILL one of its processes at a point; it is over when this returns."""
    child = subprocess.Popen(
        [sys.executable, "-c", DRIVER, lab.name],
        cwd=CHECKOUT,
        env=dict(lab.env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None

    def victim() -> int:
        if child.poll() is not None:
            pytest.fail(f"ended with {child.returncode} before it was to be killed")
        reached = records.load_all(opened.paths)[0] if when == "injecting" else pending(lab) or when == "in force"
        pid = {"runner": lambda: child.pid, "engine": lambda: engine_of(lab), "plugin": lambda: plugin_of(lab)}[who]()
        if not reached or not pid:
            raise Pending(f"{when}: {reached}, process {pid}")
        return pid

    try:
        if when != "injecting":
            line = child.stdout.readline()
            assert line == "in force\n", line + child.stdout.read()
        if when == "healing":
            child.stdin.write("\n")
            child.stdin.flush()
        os.kill(wait_until(victim, f"{who} while {when}", seconds=60, every=0.02), signal.SIGKILL)
        if who != "runner":
            child.wait(60)
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("who", "when"),
    [
        ("runner", "injecting"),
        ("engine", "injecting"),
        ("plugin", "injecting"),
        ("runner", "in force"),
        ("runner", "healing"),
        ("engine", "healing"),
        ("plugin", "healing"),
    ],
)
def test_heal_mends_what_a_killed_process_left(lab: Stack, opened: Lab, who: Who, when: When) -> None:
    kill(lab, opened, who, when)
    assert inspect(opened) != [], "something was left to be mended"
    lab.ok("heal", seconds=200)
    assert_mended(lab, opened)


def test_a_cut_node_that_loses_its_power_too_is_healed(lab: Stack, opened: Lab) -> None:
    lab.ok("fault", "inject", "partition", "--target", "etcd2")
    lab.ok("fault", "inject", "power-off", "--target", "etcd2")
    told = lab.shell(
        f'eval "$(./lab env)"; pulumi stack output -s organization/{state.CHAOS_PROJECT}/{lab.name}'
    ).stdout
    assert "partition on etcd2" in told
    assert "power-off on etcd2" in told
    lab.ok("heal", seconds=500)
    assert_mended(lab, opened)


@pytest.mark.parametrize(
    "faults",
    [
        (("partition", "etcd2"), ("stop-process", "etcd3")),  # by the kernel at the bridge, by a guest
        (("disk-error", "etcd2"), ("partition", "etcd3", "--set", "where=guest")),  # by guests
    ],
)
def test_faults_end_by_themselves_when_their_owner_is_silent(
    lab: Stack, opened: Lab, faults: tuple[tuple[str, ...], ...]
) -> None:
    """The lease runs from the making, so the proof of the first may not take as long as both leases."""
    for name, target, *settings in faults:
        lab.ok("fault", "inject", name, "--target", target, *settings, "--lease", "25")
    opened.cluster.wait_healthy(120)
    at_bridge = [name for name, _, *settings in faults if name == "partition" and not settings]
    cuts = Bridge.of(opened.manifest).cuts().values()
    assert [cut.pairs for cut in cuts] == [frozenset()] * len(at_bridge), "the kernel has lifted them"
    told = lab.lab("fault", "status")
    assert told.status == 3
    assert told.stdout.count("does not hold") == 2, told.stdout
    lab.ok("heal", seconds=200)
    assert_mended(lab, opened)


def test_a_cut_inside_the_guests_that_a_reboot_lifts_is_seen_not_to_hold(lab: Stack, opened: Lab) -> None:
    lab.ok("fault", "inject", "partition", "--target", "etcd2", "--set", "where=guest")
    lab.ok("fault", "inject", "reset", "--target", "etcd2", seconds=200)
    told = lab.lab("fault", "status")
    assert told.status == 3
    assert "partition: does not hold" in told.stdout
    lab.ok("heal", seconds=200)
    assert_mended(lab, opened)


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


def test_the_next_run_heals_what_a_killed_one_left_and_says_so(lab: Stack, opened: Lab, tmp_path: Path) -> None:
    killed_in(lab, opened, "S6", tmp_path / "pytest.log")
    done = lab.shell(f"{sys.executable} -m pytest chaos/ -m S3 -s", seconds=300)
    assert done.ok
    assert "healing first" in done.stderr
    assert_mended(lab, opened)


def test_two_runs_at_once_the_second_refuses_clearly(lab: Stack, opened: Lab) -> None:
    with exclusive_use(opened.paths, "hold the lock"):
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
