"""From what is seen to what is done: data cases for the fact, and the rules of restarting."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.plan import GENERATION_FILE, STAMP_DIR, NodePlan, PkiBundle, render
from deploy.steps import (
    ALTERED,
    LOCK_FILE,
    Observed,
    Steps,
    break_off_command,
    claim_command,
    look_command,
    parse_look,
    stamp_command,
    steps_for,
)
from infra.layout import BIN_DIR
from infra.manifest import Manifest

SHA256 = {"etcd": "a" * 64, "etcdctl": "b" * 64, "etcdutl": "c" * 64}

RUNNING_NODE = f"""\
{"1" * 64}  /etc/etcd/etcd.yaml
generation=deadbeef
stamp=etcd {"a" * 64} 131 27218082 1795346543.123456789
stamp=etcdctl {"b" * 64} 132 17830050 1795346544.123456789
stat=etcd 131 27218082 1795346543.123456789
stat=etcdctl 132 17830050 1795349999.000000001
stat=etcdutl 133 17879202 1795346545.123456789
Id=etcd-data.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no

Id=etcd.service
LoadState=loaded
ActiveState=activating
UnitFileState=disabled
NeedDaemonReload=yes
"""

FRESH_NODE = """\
ActiveState=inactive
LoadState=not-found
Id=etcd-data.service
UnitFileState=
NeedDaemonReload=no

ActiveState=inactive
LoadState=not-found
Id=etcd.service
UnitFileState=
NeedDaemonReload=no
"""


@pytest.mark.parametrize("swallow_empty_lines", [False, True])
def test_output_of_a_node_that_runs(swallow_empty_lines: bool) -> None:
    lines = [line for line in RUNNING_NODE.splitlines() if line or not swallow_empty_lines]
    seen = parse_look(lines)
    assert seen.digests == {
        "/etc/etcd/etcd.yaml": "1" * 64,
        "/usr/local/bin/etcd": "a" * 64,
        "/usr/local/bin/etcdctl": ALTERED,  # touched after it was checked
        "/usr/local/bin/etcdutl": ALTERED,  # never checked
    }
    assert seen.loaded == {"etcd-data.service", "etcd.service"}
    assert seen.active == {"etcd-data.service": "active", "etcd.service": "activating"}
    assert seen.enabled == {"etcd-data.service": "enabled", "etcd.service": "disabled"}
    assert seen.generation == "deadbeef"
    assert seen.reload


@pytest.mark.parametrize("swallow_empty_lines", [False, True])
def test_output_of_a_fresh_node(swallow_empty_lines: bool) -> None:
    lines = [line for line in FRESH_NODE.splitlines() if line or not swallow_empty_lines]
    seen = parse_look(lines)
    assert seen.digests == {}
    assert seen.active == {"etcd-data.service": "inactive", "etcd.service": "inactive"}
    assert seen.generation == ""
    assert not seen.loaded
    assert not seen.reload


def test_one_command_asks_for_all() -> None:
    command = look_command(["/a", "/b"], ["etcd"])
    for word in ("sha256sum /a /b", "/run/etcd.generation", "systemctl show", "etcd.service", "etcd-data.service"):
        assert word in command


def test_stamp_and_look_understand_each_other(tmp_path: Path) -> None:
    """Run by the shell for real, with the directories moved."""

    def shell(command: str) -> list[str]:
        moved = command.replace(STAMP_DIR, str(tmp_path)).replace(BIN_DIR, str(tmp_path))
        return subprocess.run(["sh", "-c", moved], capture_output=True, text=True, check=False).stdout.splitlines()

    program = tmp_path / "etcd"
    program.write_text("one")
    shell(f"cd {BIN_DIR}; {stamp_command('etcd', 'a' * 64)}")
    command = look_command([str(program)], ["etcd"])
    seen = parse_look(shell(command)).digests
    assert seen == {str(program): hashlib.sha256(b"one").hexdigest(), f"{BIN_DIR}/etcd": "a" * 64}
    program.write_text("two")
    assert parse_look(shell(command)).digests[f"{BIN_DIR}/etcd"] == ALTERED


@pytest.fixture
def plan(manifest: Manifest, pki: PkiBundle) -> NodePlan:
    return render(manifest, pki)["etcd1"]


@pytest.fixture
def settled(plan: NodePlan) -> Observed:
    """The node as the plan wants it."""
    units = ("etcd-data.service", "etcd.service")
    return Observed(
        digests={file.path: file.digest for file in plan.files}
        | {f"/usr/local/bin/{name}": digest for name, digest in SHA256.items()},
        active=dict.fromkeys(units, "active"),
        enabled=dict.fromkeys(units, "enabled"),
        loaded=frozenset(units),
        generation=plan.generation,
    )


def test_nothing_to_do_where_all_is_as_it_should_be(plan: NodePlan, settled: Observed) -> None:
    assert steps_for(plan, settled, SHA256) == Steps()
    assert settled.state(plan, SHA256) == plan.state


def test_a_fresh_node_gets_everything_and_no_turn_in_the_roll(plan: NodePlan) -> None:
    steps = steps_for(plan, Observed(), SHA256)
    assert {file.path for file in steps.files} == {file.path for file in plan.files}
    assert steps.binaries == ("etcd", "etcdctl", "etcdutl")
    assert set(steps.enable) == {"etcd.service", "etcd-data.service"}
    # systemd reads units that it does not know yet when they are started
    assert (steps.reload, bool(steps.start), steps.roll) == (False, True, False)


def edited(settled: Observed, path: str) -> Observed:
    return dataclasses.replace(settled, digests={**settled.digests, path: "0" * 64})


@pytest.mark.parametrize(
    ("path", "roll"),
    [
        ("/etc/etcd/etcd.yaml", True),
        ("/etc/etcd/pki/peer.key", True),
        ("/etc/systemd/system/etcd.service", True),
        ("/usr/local/bin/etcd", True),
        ("/usr/local/bin/etcdctl", False),
        ("/etc/etcd/pki/client.crt", False),
        ("/etc/hosts", False),
        ("/usr/local/lib/etcd-lab/etcd-data", False),
    ],
)
def test_only_what_etcd_reads_at_its_start_restarts_it(
    plan: NodePlan, settled: Observed, path: str, roll: bool
) -> None:
    steps = steps_for(plan, edited(settled, path), SHA256)
    assert steps.roll is roll
    assert steps.start == ""
    assert [file.path for file in steps.files] + [f"/usr/local/bin/{name}" for name in steps.binaries] == [path]
    assert edited(settled, path).state(plan, SHA256)[path] == "0" * 64


def test_a_change_that_was_taken_back_before_the_restart_restarts_nothing(plan: NodePlan, settled: Observed) -> None:
    """A bad setting stopped the first member; the others have its files and still run with the good one."""
    bad = edited(edited(settled, "/etc/etcd/etcd.yaml"), "/etc/etcd/generation")
    steps = steps_for(plan, bad, SHA256)
    assert {file.path for file in steps.files} == {"/etc/etcd/etcd.yaml", "/etc/etcd/generation"}
    assert (steps.roll, steps.forget, steps.start) == (False, False, "")


def test_an_edited_file_makes_the_note_of_what_runs_unbelievable(plan: NodePlan, settled: Observed) -> None:
    assert steps_for(plan, edited(settled, "/etc/etcd/etcd.yaml"), SHA256).forget
    assert not steps_for(plan, edited(settled, "/etc/hosts"), SHA256).forget


def test_died_between_new_files_and_restart(plan: NodePlan, settled: Observed) -> None:
    steps = steps_for(plan, dataclasses.replace(settled, generation=""), SHA256)
    assert steps == Steps(roll=True)


def test_a_changed_unit_that_systemd_knows_has_to_be_read_again(plan: NodePlan, settled: Observed) -> None:
    assert steps_for(plan, edited(settled, "/etc/systemd/system/etcd-data.service"), SHA256).reload
    assert not steps_for(plan, edited(settled, "/etc/etcd/etcd.yaml"), SHA256).reload


@pytest.mark.parametrize("state", ["inactive", "failed", "activating"])
def test_a_stopped_etcd_is_started_at_once(plan: NodePlan, settled: Observed, state: str) -> None:
    seen = dataclasses.replace(settled, active={**settled.active, "etcd.service": state})
    assert steps_for(plan, seen, SHA256) == Steps(start="start")
    assert seen.state(plan, SHA256)["etcd.service"] == f"{state}, enabled"


def test_an_etcd_that_cannot_start_with_old_files_is_restarted_with_the_new(plan: NodePlan, settled: Observed) -> None:
    seen = dataclasses.replace(
        edited(settled, "/etc/etcd/etcd.yaml"), active={**settled.active, "etcd.service": "activating"}
    )
    steps = steps_for(plan, seen, SHA256)
    assert (steps.start, steps.roll) == ("restart", False)


def test_a_unit_that_would_not_start_at_boot_is_enabled(plan: NodePlan, settled: Observed) -> None:
    seen = dataclasses.replace(settled, enabled={**settled.enabled, "etcd.service": "disabled"})
    assert steps_for(plan, seen, SHA256) == Steps(enable=("etcd.service",), reload=True)


def test_programs_left_aside_are_seen_and_cleared(plan: NodePlan, settled: Observed) -> None:
    assert parse_look(["staged=/usr/local/lib/etcd-lab/staged/etcd"]).staged
    assert steps_for(plan, dataclasses.replace(settled, staged=True), SHA256) == Steps(clear=True)


def test_the_next_deployment_ends_the_script_that_a_killed_one_left_on_the_node(tmp_path: Path) -> None:
    """Run by the shell for real: a script that goes on without its connection, in a session as sshd makes one."""

    def moved(command: str) -> list[str]:
        return ["sh", "-euc", command.replace(LOCK_FILE, str(tmp_path / "lock"))]

    late = tmp_path / "late"
    script = f"{claim_command()}\necho begun\ntimeout --foreground 60 sleep 50\ntouch {late}"
    left = subprocess.Popen(moved(script), stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert left.stdout is not None
    with left, left.stdout as said:
        assert said.readline() == "begun\n"
        started = time.monotonic()
        subprocess.run(moved(break_off_command()), check=True, timeout=20)
        assert time.monotonic() - started < 10
        assert left.wait(timeout=5) == -9
    assert not late.exists()
    subprocess.run(moved(break_off_command()), check=True, timeout=20)  # nobody holds it: nobody is killed
    assert subprocess.run(moved(claim_command()), check=False, timeout=20).returncode == 0


OLD_SHA256 = {name: digest[::-1].replace(digest[0], "9") for name, digest in SHA256.items()}


class Node:
    """A node on paper that can be stopped after any action of a script, and whose etcd may restart at any moment."""

    def __init__(self, plan: NodePlan, binaries: dict[str, str]) -> None:
        self.disk = {file.path: file.digest for file in plan.files}
        self.disk |= {f"{BIN_DIR}/{name}": binaries[name] for name in plan.binaries}
        self.stamped = dict(binaries)
        self.restart(plan)

    def restart(self, plan: NodePlan) -> None:
        """As the unit does it: the note is the generation that the disk has, whatever else it has."""
        self.note = self.disk[GENERATION_FILE]
        self.runs_with = self.read_by_etcd(plan)

    def read_by_etcd(self, plan: NodePlan) -> dict[str, str]:
        return {path: self.disk[path] for path in [*(f.path for f in plan.files if f.restarts), f"{BIN_DIR}/etcd"]}

    def observed(self, plans: tuple[NodePlan, ...]) -> Observed:
        # the note holds the generation itself, the disk its file's digest
        notes = {file.digest: p.generation for p in plans for file in p.files if file.path == GENERATION_FILE}
        digests = dict(self.disk)
        for name, stamp in self.stamped.items():
            path = f"{BIN_DIR}/{name}"
            digests[path] = stamp if stamp == self.disk[path] else ALTERED
        units = ("etcd-data.service", "etcd.service")
        return Observed(
            digests=digests,
            active=dict.fromkeys(units, "active"),
            enabled=dict.fromkeys(units, "enabled"),
            loaded=frozenset(units),
            generation=notes.get(self.note, ""),
        )

    def actions(self, plan: NodePlan, steps: Steps, binaries: dict[str, str]) -> list[Callable[[], None]]:
        """What the scripts of a turn do, in their order (install_script, place_script, restart)."""

        def put(target: dict[str, str], key: str, value: str) -> Callable[[], None]:
            return lambda: target.__setitem__(key, value)

        found: list[Callable[[], None]] = []
        if steps.forget:
            found.append(lambda: setattr(self, "note", ""))
        found += [put(self.disk, file.path, file.digest) for file in steps.files]
        for name in steps.binaries:
            found.append(put(self.disk, f"{BIN_DIR}/{name}", binaries[name]))
            found.append(put(self.stamped, name, binaries[name]))
        if steps.roll or steps.start:
            found.append(lambda: self.restart(plan))
        return found


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize("version", [False, True])
def test_a_turn_that_was_cut_off_anywhere_is_finished_or_taken_back(
    manifest: Manifest, pki: PkiBundle, version: bool, forward: bool, crashes: bool
) -> None:
    """Whatever was done of it, and whether etcd restarted meanwhile: in the end it runs with what is wanted."""
    timing = manifest.timeouts.model_copy(update={"heartbeat_ms": 200})
    changed = {"etcd_version": "3.6.17"} if version else {"timeouts": timing}
    old, new = (render(one, pki)["etcd1"] for one in (manifest, manifest.model_copy(update=changed)))
    before, after = (OLD_SHA256, SHA256) if version else (SHA256, SHA256)
    steps = steps_for(new, Node(old, before).observed((old, new)), after)
    assert steps.roll
    cuts = len(Node(old, before).actions(new, steps, after))
    assert cuts > 2
    for cut in range(cuts + 1):
        node = Node(old, before)
        for action in node.actions(new, steps, after)[:cut]:
            action()
        if crashes:
            node.restart(new)
        plan, binaries = (new, after) if forward else (old, before)
        repair = steps_for(plan, node.observed((old, new)), binaries)
        for action in node.actions(plan, repair, binaries):
            action()
        assert node.runs_with == Node(plan, binaries).runs_with, f"cut off after {cut} of {cuts}"
        assert steps_for(plan, node.observed((old, new)), binaries) == Steps(), f"cut off after {cut} of {cuts}"
