"""An update that fails, or is killed, half-way: the next one sees it, and converges, with the old settings or new ones.

And the table of all settings: each one changed on a living lab is a plan, or a refusal in one paragraph.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from infra.manifest import load
from machine import etcd_binaries
from machine.image import ensure_image
from machine.libvirt_api import connect
from machine.paths import CHECKOUT

if TYPE_CHECKING:
    from machine.process import Completed
    from tests.integration.conftest import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]

FILES = "/etc/etcd/etcd.yaml /etc/etcd/generation /usr/local/bin/etcd /usr/local/bin/etcdctl"
"""On a node: what a deployment replaces."""

ROLL = {"heartbeat_ms": 350, "election_ms": 3500}
"""Settings that make every member restart."""


@contextlib.contextmanager
def configured(stack: Stack, **values: object) -> Iterator[None]:
    """The stack's settings with these in their place; as they were afterwards."""
    before = stack.config.read_text()
    document = yaml.safe_load(before) or {}
    document["config"] = (document.get("config") or {}) | {
        f"etcd-lab:{key.replace('_', '-')}": value for key, value in values.items()
    }
    stack.config.write_text(yaml.safe_dump(document))
    try:
        yield
    finally:
        stack.config.write_text(before)


def pulumi(stack: Stack, words: str, seconds: float = 600) -> Completed:
    """Plain pulumi, as after `eval "$(./lab env)"`."""
    return stack.shell(f'eval "$(./lab env)" && pulumi {words}', seconds=seconds)


def installed(stack: Stack) -> dict[str, str]:
    """Digests of what a deployment replaces, by node."""
    names = load(stack.paths).node_names
    return {name: stack.ok("ssh", name, "--", "sha256sum", *FILES.split()).stdout for name in names}


def as_before(stack: Stack, before: dict[str, str], key: str) -> None:
    """Every member is healthy and has what it had, what was written is there, and nothing is left to do."""
    assert stack.lab("health").status == 0
    assert installed(stack) == before
    assert stack.ok("ctl", "etcd1", "get", "--print-value-only", key).stdout == f"{key} is kept\n"
    again = pulumi(stack, "preview --expect-no-changes")
    assert again.ok, again.stdout[-3000:]


@pytest.fixture
def key(lab: Stack, request: pytest.FixtureRequest) -> str:
    """Something that was written before, by name."""
    name = str(request.node.name)
    lab.ok("ctl", "etcd1", "put", name, f"{name} is kept")
    return name


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of etcd's programs, of which etcd runs everywhere but on a node."""
    directory = tmp_path_factory.mktemp("refused")
    real = etcd_binaries.locate()
    assert real is not None
    (directory / "etcd").write_text(
        f'#!/bin/sh\n[ ! -e /etc/etcd/generation ] || {{ echo not today >&2; exit 1; }}\nexec {real.etcd} "$@"\n'
    )
    (directory / "etcd").chmod(0o755)
    for name in ("etcdctl", "etcdutl"):
        shutil.copy2(real.programs()[name], directory / name)
    return directory


def test_a_program_that_nodes_refuse_stops_at_the_first_and_put_back_plain_pulumi_repairs_it(
    lab: Stack, key: str, refused: Path
) -> None:
    before = installed(lab)
    with configured(lab, etcd_version=str(refused)):
        failed = lab.lab("up", seconds=600)
    assert failed.status == 1
    assert " is up" not in failed.stderr
    after = installed(lab)
    assert [after[name] != before[name] for name in before].count(True) == 1, "the others are as they were"
    down = lab.lab("health")
    assert (down.status, down.stdout.count("unhealthy")) == (1, 1)
    preview = pulumi(lab, "preview --expect-no-changes")
    assert not preview.ok, "the setting is put back, and there is something to do"
    assert "did not finish" in preview.stdout + preview.stderr
    assert pulumi(lab, "up --yes --skip-preview").ok
    as_before(lab, before, key)


def kill_in_turn(stack: Stack, turn: int, log: Path) -> None:
    """SIGKILL to `./lab up` and its engine after so many turns are over."""
    child = stack.start("up", log)
    stack.reach(child, lambda: f"restart, turn {turn}," in log.read_text(), log, seconds=600)
    stack.kill(child)


def test_killed_in_the_second_turn_and_put_back_up_repairs_it(lab: Stack, key: str, tmp_path: Path) -> None:
    before = installed(lab)
    with configured(lab, **ROLL):
        kill_in_turn(lab, 1, tmp_path / "log")
    done = lab.ok("up", seconds=600)
    assert " is up" in done.stderr
    as_before(lab, before, key)


@pytest.mark.soak
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_killed_at_any_point_of_a_roll_it_converges_forward_and_back(  # noqa: PLR0917 - fixtures
    lab: Stack, key: str, tmp_path: Path, turn: int, forward: bool, plain: bool
) -> None:
    before = installed(lab)
    log = tmp_path / "log"
    with configured(lab, **ROLL):
        child = lab.start("up", log)
        said = "all members healthy" if turn == 3 else f"restart, turn {turn}," if turn else "etcd: connected"
        lab.reach(child, lambda: said in log.read_text(), log, seconds=600)
        lab.kill(child)
        if forward:
            repair(lab, plain=plain)
            assert lab.lab("health").status == 0
            assert pulumi(lab, "preview --expect-no-changes").ok
            assert all(installed(lab)[name] != before[name] for name in before)
    repair(lab, plain=plain)
    as_before(lab, before, key)


def repair(stack: Stack, *, plain: bool) -> None:
    """One update, by either command; the engine's own way past the lock of one that was killed is `cancel`."""
    if plain:
        done = pulumi(stack, "cancel --yes && pulumi up --yes --skip-preview")
        assert done.ok, done.stdout[-3000:]
    else:
        stack.ok("up", seconds=600)


@pytest.mark.soak
def test_a_machine_that_goes_off_in_the_roll_is_named_and_the_next_up_converges(
    lab: Stack, key: str, tmp_path: Path
) -> None:
    before = installed(lab)
    manifest = load(lab.paths)
    log = tmp_path / "log"
    with configured(lab, **ROLL):
        child = lab.start("up", log)
        lab.reach(child, lambda: "etcd: connected" in log.read_text(), log, seconds=600)
        with connect(manifest.hypervisor.uri) as connection:
            connection.lookupByName(manifest.node("etcd2").domain).destroy()
        assert child.wait(timeout=600) == 1
    assert "etcd2" in log.read_text().rpartition("Diagnostics")[2]
    done = lab.ok("up", seconds=900)
    assert "Switched on: etcd2" in done.stderr
    as_before(lab, before, key)


def test_a_service_that_was_stopped_is_repaired_by_up_though_the_engine_finds_nothing_to_do(
    lab: Stack, key: str
) -> None:
    before = installed(lab)
    last = load(lab.paths).node_names[-1]
    lab.ok("ssh", last, "systemctl", "stop", "etcd")
    done = lab.ok("up", seconds=600)
    assert f"Not healthy: {last}" in done.stderr
    as_before(lab, before, key)


# -- every setting ------------------------------------------------------------------------------------------------

FIXED = "while a lab lives"


def table(own: Path) -> dict[str, tuple[object, str]]:
    """Each key of Pulumi.yaml with another value than the lab has, and what a preview says: "" for a plan."""
    image = ensure_image("build", None, lambda _line: None)
    return {
        "nodes": (5, FIXED),
        "names": (["a", "b", "c"], FIXED),
        "memory": (640, ""),
        "vcpus": (2, ""),
        "subnet": ("10.77.0.0/24", FIXED),
        "etcd-version": (str(own), ""),
        "heartbeat-ms": ("auto", ""),
        "election-ms": ("4500", ""),
        "peers": ("hosts", FIXED),
        "etcd-extra": ({"quota-backend-bytes": 1 << 30}, ""),
        "image": (str(image.path), ""),
        "image-sha256": ("0" * 64, ""),
        "hypervisor": ("qemu:///system", FIXED),
    }


@pytest.fixture(scope="module")
def own_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """etcd's programs, the same, in a directory of the user's."""
    directory = tmp_path_factory.mktemp("own")
    real = etcd_binaries.locate()
    assert real is not None
    for name, path in real.programs().items():
        shutil.copy2(path, directory / name)
    return directory


def test_a_preview_of_every_setting_is_a_plan_or_a_paragraph(lab: Stack, tmp_path: Path, own_programs: Path) -> None:
    changed = table(own_programs)
    assert set(changed) == set(yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())["config"])

    def preview(key: str) -> Completed:
        document = yaml.safe_load(lab.config.read_text())
        document["config"] = (document.get("config") or {}) | {f"etcd-lab:{key}": changed[key][0]}
        config = tmp_path / f"{key}.yaml"
        config.write_text(yaml.safe_dump(document))
        return pulumi(lab, f"preview --config-file {config}")

    with ThreadPoolExecutor(2) as pool:
        seen = dict(zip(changed, pool.map(preview, changed), strict=True))
    for key, (_, refusal) in changed.items():
        said = seen[key].stdout + seen[key].stderr
        assert "Traceback" not in said, key
        assert seen[key].ok == (not refusal), key
        if refusal:
            assert refusal in said, key
            assert f"etcd-lab:{key}" in said, key
    as_nothing_happened = pulumi(lab, "preview --expect-no-changes")
    assert as_nothing_happened.ok


def test_settings_that_members_read_are_applied_and_then_nothing_is_left_to_do(
    lab: Stack, key: str, own_programs: Path
) -> None:
    before = installed(lab)
    wanted: dict[str, Any] = {
        "heartbeat_ms": "450", "election_ms": "4500", "etcd_extra": {"quota-backend-bytes": 1 << 30},
        "etcd_version": str(own_programs),
    }  # fmt: skip
    with configured(lab, **wanted):
        assert pulumi(lab, "up --yes --skip-preview").ok
        assert lab.lab("health").status == 0
        assert pulumi(lab, "preview --expect-no-changes").ok
        assert "quota-backend-bytes: 1073741824" in lab.ok("ssh", "etcd2", "cat", "/etc/etcd/etcd.yaml").stdout
    lab.ok("up", seconds=600)
    as_before(lab, before, key)


@pytest.mark.soak
@pytest.mark.parametrize("setting", ["memory", "vcpus", "image"])
@pytest.mark.parametrize("plain", [False, True])
def test_machines_that_are_replaced_come_back_as_members_with_their_data(
    lab: Stack, key: str, own_programs: Path, setting: str, plain: bool
) -> None:
    command: Callable[[], object] = lambda: (  # noqa: E731
        pulumi(lab, "up --yes --skip-preview", seconds=1500) if plain else lab.ok("up", seconds=1500)
    )
    before = installed(lab)
    with configured(lab, **{setting: table(own_programs)[setting][0]}):
        command()
        as_before(lab, before, key)
    command()
    as_before(lab, before, key)
