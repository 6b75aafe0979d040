"""A lab that is not what its manifest says, on real machines: each state is named, repaired where that is safe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from infra.manifest import load
from machine.waiting import Pending, wait_until

if TYPE_CHECKING:
    from tests.integration.conftest import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

PLAY = 'eval "$(./lab env)"; pytest chaos/ -q --workload none -m {mark}'


@pytest.fixture
def mended(lab: Stack) -> Iterator[Stack]:
    """The lab, whole again afterwards."""
    yield lab
    lab.ok("heal", seconds=300)
    assert lab.lab("status").status == 0


def test_a_foreign_member_is_named_makes_scenarios_inconclusive_and_is_healed(mended: Stack) -> None:
    lab = mended
    url = f"https://{load(lab.paths).subnet.network_address + 99}:2380"

    def added() -> None:
        done = lab.lab("ctl", "etcd1", "member", "add", "extra", f"--peer-urls={url}")
        if not done.ok and "already exists" not in done.stderr:  # a try that timed out and happened all the same
            raise Pending(done.stderr)

    wait_until(added, "member add", seconds=60, every=2)
    for command in ("status", "health"):
        done = lab.lab(command)
        assert done.status == 1
        assert f"({url}) is not a node of this lab; it has never started and votes" in done.stdout
        assert "./lab ctl etcd1 member remove" in done.stdout
    assert "cluster is degraded" in done.stdout
    played = lab.shell(PLAY.format(mark="S4"), seconds=200)
    assert played.status == 3, played.stdout
    assert "is not a node of this lab" in played.stdout
    healed = lab.ok("heal", seconds=120)
    assert "removed" in healed.stderr
    assert lab.ok("status").stdout.count("!") == 0
    assert "cluster is healthy" in lab.ok("health").stdout


def test_a_program_that_cannot_be_executed_is_said_and_not_waited_for(mended: Stack) -> None:
    lab = mended
    program = "/usr/local/bin/etcd"
    try:
        lab.ok(
            "ssh", "etcd3", f"chmod -x {program}; systemctl stop etcd.service; systemctl is-active etcd.service || :"
        )
        started = time.monotonic()
        done = lab.lab("heal", seconds=200)
        took = time.monotonic() - started
        assert done.status == 1
        assert f"etcd on etcd3 does not start: {program}: Permission denied" in done.stderr
        assert f"./lab ssh etcd3 chmod 755 {program}" in done.stderr
        assert "asked to start" in done.stderr
        assert "etcd inactive (etcd3): mended" not in done.stderr
        assert took < 90, "a heal of a whole lab takes some 10 s of these under emulation"
    finally:
        lab.ok("ssh", "etcd3", "chmod", "755", program)


def test_with_authentication_on_the_lab_goes_on(mended: Stack) -> None:
    lab = mended
    for words in (("user", "add", "root:secret"), ("user", "grant-role", "root", "root"), ("auth", "enable")):
        lab.ok("ctl", "etcd1", *words)
    try:
        assert "authentication is on" in lab.ok("status").stdout
        assert "cluster is healthy" in lab.ok("health").stdout
        assert "cluster is healthy" in lab.ok("health", "--from", "etcd2").stdout
        played = lab.shell(PLAY.replace("none", "default").format(mark="S4"), seconds=300)
        assert played.status in {0, 3}, played.stdout[-3000:]
        lab.ok("heal", seconds=200)
    finally:
        lab.ok("ctl", "etcd1", "auth", "disable")
        lab.ok("ctl", "etcd1", "user", "delete", "root")
    assert "authentication" not in lab.ok("status").stdout
