"""What takes too long for every day: other moments of death, and other ways to die."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Stack

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.timeout(3600)]


@pytest.fixture
def one(make_stack: Callable[[str], Stack]) -> Iterator[Stack]:
    """The stack `isoak` with one node; nothing is built yet."""
    stack = make_stack("isoak")
    stack.destroy()
    stack.configure(nodes=1, subnet="192.168.96.0/24")
    yield stack
    stack.destroy()


def works(stack: Stack) -> None:
    """It can be built, used, and removed without a trace."""
    stack.ok("up", seconds=900)
    assert stack.ok("ctl", "etcd1", "put", "alive", "yes").stdout == "OK\n"
    stack.ok("destroy", seconds=300)
    assert stack.remains() == []


def machine_starting(stack: Stack) -> bool:
    return any(resource.type.endswith(":Readiness") for resource in stack.deployment().pending)


def test_up_recovers_from_death_at_any_moment(one: Stack, tmp_path: Path) -> None:
    chance = random.Random(2379)  # noqa: S311 - repeatable is what is wanted
    for number in range(8):
        log = tmp_path / f"{number}.log"
        child = one.start("up", log)
        end = time.monotonic() + chance.uniform(0.5, 60)
        while child.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        one.kill(child)
    works(one)


def test_destroy_recovers_from_death_at_any_moment(one: Stack, tmp_path: Path) -> None:
    chance = random.Random(2380)  # noqa: S311
    one.ok("up", seconds=900)
    for number in range(5):
        child = one.start("destroy", tmp_path / f"{number}.log")
        end = time.monotonic() + chance.uniform(0.5, 4)
        while child.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        one.kill(child)
    works(one)


def test_when_only_the_command_is_killed_its_engine_stops_and_the_next_goes_on(one: Stack, tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = one.start("up", log)
    one.reach(child, lambda: machine_starting(one), log, seconds=600)
    child.kill()
    child.wait()
    works(one)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_ends_in_order(one: Stack, tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    child = one.start("up", log)
    one.reach(child, lambda: machine_starting(one), log, seconds=600)
    os.kill(child.pid, number)
    assert child.wait(timeout=600) == 130
    assert "./lab up goes on" in log.read_text()
    works(one)


def test_two_labs_are_built_at_once(make_stack: Callable[[str], Stack], one: Stack, tmp_path: Path) -> None:
    other = make_stack("isoak-b")
    other.destroy()
    other.configure(nodes=1, subnet="192.168.96.0/24")  # the same network: each has a namespace of its own
    try:
        children = [stack.start("up", tmp_path / stack.name) for stack in (one, other)]
        assert [child.wait(timeout=900) for child in children] == [0, 0]
        one.ok("ctl", "etcd1", "put", "whose", "one's")
        other.ok("ctl", "etcd1", "put", "whose", "the other's")
        one.ok("destroy", seconds=300)
        assert other.ok("ctl", "etcd1", "get", "--print-value-only", "whose").stdout == "the other's\n"
    finally:
        other.destroy()


@pytest.fixture
def by_names(make_stack: Callable[[str], Stack]) -> Iterator[Stack]:
    """Three nodes that know each other by DNS, so that every fault of the catalogue can be made."""
    stack = make_stack("isoak-dns")
    stack.destroy()
    stack.configure(peers="dns", subnet="192.168.95.0/24")
    try:
        stack.ok("up", seconds=900)
        yield stack
    finally:
        stack.destroy()


@pytest.mark.timeout(7200)
def test_the_whole_catalogue_one_target_each(by_names: Stack) -> None:
    """Every fault made, proved and healed, within the hour that two cores under emulation are given (13 to 20 minutes);
    then the scenarios that need names or are about them."""
    started = time.monotonic()
    whole = by_names.shell(f"{sys.executable} -m bench.faults --stack {by_names.name} --no-baseline", seconds=4000)
    seconds = time.monotonic() - started
    assert whole.ok, whole.stdout[-4000:]
    assert seconds <= 3600
    named = by_names.shell(f"{sys.executable} -m pytest chaos/ -m 'names or O5 or O6 or O7'", seconds=2400)
    assert named.ok, named.stdout[-4000:]


@pytest.mark.timeout(7200)
def test_every_scenario_there_is(lab: Stack) -> None:
    whole = lab.shell(f"{sys.executable} -m pytest chaos/ -m 'not random'", seconds=7000)
    assert whole.ok, whole.stdout[-4000:]


@pytest.mark.timeout(5400)
def test_twenty_random_sequences_end_healthy(lab: Stack) -> None:
    played = lab.shell(f"{sys.executable} -m pytest chaos/ -m random --sequences 20", seconds=5300)
    assert played.ok, played.stdout[-4000:]
