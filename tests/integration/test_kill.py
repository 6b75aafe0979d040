"""./lab up killed outright at five points, ./lab destroy killed half-way: the next command recovers.

One node, and one lab that is killed again and again, so that the machine boots once. Another lab is
up at the same time in the full run, so this shows too that two stacks do not touch each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from machine import engine_state as state
from machine.libvirt_api import connect
from machine.paths import CHECKOUT

if TYPE_CHECKING:
    from tests.integration.conftest import Stack

BACKEND = CHECKOUT / ".lab" / "state"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def one(make_stack: Callable[[str], Stack]) -> Iterator[Stack]:
    """The stack `ikill` with one node; nothing is built yet."""
    stack = make_stack("ikill")
    stack.destroy()
    stack.configure(nodes=1, subnet="192.168.95.0/24")
    yield stack
    stack.destroy()


def hypervisor_made(stack: Stack) -> bool:
    return stack.hypervisor().state() == "running"


def volumes_being_made(stack: Stack) -> bool:
    return any(resource.type.endswith(":Volume") for resource in stack.deployment().pending)


def domain_defined(stack: Stack) -> bool:
    if stack.hypervisor().state() != "running":
        return False
    with connect(stack.hypervisor().uri) as connection:
        return bool(connection.listAllDomains())


def waiting_for_the_machine(stack: Stack) -> bool:
    return any(resource.type.endswith(":Readiness") for resource in stack.deployment().pending)


def deploying(stack: Stack) -> bool:
    return any(resource.type.endswith(":EtcdCluster") for resource in stack.deployment().pending)


POINTS = (hypervisor_made, volumes_being_made, domain_defined, waiting_for_the_machine, deploying)


def kill_when(stack: Stack, verb: str, reached: Callable[[Stack], bool], log: Path) -> None:
    child = stack.start(verb, log)
    stack.reach(child, lambda: reached(stack), log, seconds=600)
    stack.kill(child)


def test_up_recovers_from_sigkill_at_five_points(one: Stack, tmp_path: Path) -> None:
    for number, point in enumerate(POINTS):
        kill_when(one, "up", point, tmp_path / f"{number}.log")
    done = one.ok("up", seconds=900)
    assert "clearing its lock" in done.stderr
    assert one.lab("health").status == 0
    assert one.ok("ctl", "etcd1", "put", "alive", "yes").stdout == "OK\n"
    again = one.ok("up", seconds=120)
    assert " unchanged" in again.stdout
    assert " created" not in again.stdout.partition("Resources:")[2]
    with connect(one.hypervisor().uri) as connection:
        assert len(connection.listAllDomains()) == 1, "no machine of a killed update is left"


def test_destroy_recovers_from_sigkill_and_leaves_nothing(one: Stack, tmp_path: Path) -> None:
    """Runs after the one above, or on nothing at all: destroy is the same to both."""
    if total := len(one.deployment().built):
        one.ok("fault", "inject", "stop-process", "--target", "etcd1")  # its stack has to go first
        kill_when(one, "destroy", lambda stack: len(stack.deployment().built) < total, tmp_path / "destroy.log")
    one.ok("destroy", seconds=300)
    assert one.remains() == []
    assert one.deployment().resources == ()
    assert state.read(BACKEND, one.name, state.CHAOS_PROJECT) is None
    again = one.ok("destroy")
    assert "nothing to destroy" in again.stderr


def test_sweep_finds_nothing_after_all_that(one: Stack) -> None:
    done = one.ok("sweep")
    assert one.name not in done.stdout
