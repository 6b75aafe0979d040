"""What runs in guests for process and etcd faults: read by a shell, and what comes back by the parsers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.faults.etcd import process
from chaos.faults.etcd.maintenance import MoveLeader
from chaos.faults.etcd.quota import NoSpace
from chaos.faults.etcd.snapshot_lag import _APPLIED, _SAVED, _SENT, KEEP, SnapshotLag, _beyond, _newest
from chaos.faults.oneshot import changed, forget, known, recall, remember
from chaos.member import unit
from chaos.member.settings import DROP_IN, changed_settings, usual_settings
from infra.layout import CONFIG_FILE
from machine.errors import UsageError
from machine.paths import StackPaths

SHOWN = """ActiveState=active
SubState=running
Result=success
MainPID=207
NRestarts=3
ExecMainStartTimestampMonotonic=42071019
ExecMainCode=0
ExecMainStatus=0
Uptime=60.15
State=T
"""
"""As systemd 252 and Linux 6.1 printed it in a guest (order of systemctl's own)."""

SCRIPTS = {
    "look": unit._LOOK,
    "load": unit.load_script(),
    "revive": process.REVIVE,
    "unset": process._unset("MemoryMax", "infinity"),
    "settings": changed_settings("nospace-1", {"quota-backend-bytes": 5}),
    "usual": usual_settings(),
}

NODE = (("etcd1",),)
LAB: Any = SimpleNamespace(
    leader=lambda: "etcd1",
    manifest=SimpleNamespace(nodes=(1, 2, 3), etcd_version="3.6.16"),
    cluster=SimpleNamespace(status=lambda: [SimpleNamespace(node="etcd1", db_size=1000)]),
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_shell_can_read_every_script(name: str) -> None:
    assert subprocess.run(["/bin/sh", "-n"], input=SCRIPTS[name], text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    "kind",
    [process.KillHold, process.Stop, process.StopProcess, process.OutOfMemory, process.CpuStarve, NoSpace],
)
def test_a_shell_can_read_what_makes_and_undoes_a_fault(kind: Any) -> None:
    fault = kind(NODE)
    for script in (fault.make(LAB, "etcd1"), fault.undo(LAB, "etcd1")):
        assert subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=False).returncode == 0


def test_the_unit_is_read_as_systemd_and_the_kernel_show_it() -> None:
    state = unit.parse_unit(SHOWN)
    assert state is not None
    assert (state.active, state.pid, state.restarts, state.state, state.ended) == ("active", 207, 3, "T", "0/0")
    assert state.process == "207 of 42.071 s"


@given(st.integers(min_value=0, max_value=len(SHOWN.splitlines()) - 2))
def test_a_look_that_is_cut_off_tells_nothing(lines: int) -> None:
    assert unit.parse_unit("\n".join(SHOWN.splitlines()[:lines])) is None


@pytest.mark.parametrize(
    ("active", "letter", "uptime", "holds"),
    [
        ("active", "S", 43.0, True),
        ("active", "T", 43.0, False),  # stopped
        ("activating", "S", 60.0, False),  # may still join, or end and begin anew
        ("activating", "S", 73.0, True),  # lives, and hears of no leader: another fault's doing
        ("activating", "T", 73.0, False),
        ("failed", "S", 73.0, False),
    ],
)
def test_etcd_runs_when_it_is_active_or_has_long_been_starting(
    active: str, letter: str, uptime: float, holds: bool
) -> None:
    shown = SHOWN.replace("ActiveState=active", f"ActiveState={active}").replace("State=T", f"State={letter}")
    state = unit.parse_unit(re.sub("Uptime=.*", f"Uptime={uptime}", shown))
    assert state is not None
    (proof,) = process.alive({"etcd1": state})
    assert proof.holds is holds
    assert f"{uptime - 42.071:.0f} s" in proof.observed


def test_no_process_is_no_process() -> None:
    state = unit.parse_unit(SHOWN.replace("MainPID=207", "MainPID=0").replace("\nState=T\n", "\n"))
    assert state is not None
    assert state.process == ""
    assert not state.state


@given(
    st.floats(min_value=0.1, max_value=100),
    st.integers(min_value=0, max_value=10**9),
    st.integers(min_value=0, max_value=1000),
)
def test_the_share_of_the_processor_is_time_used_over_time_passed(seconds: float, used: int, held: int) -> None:
    share = unit.parse_share(f"5.0 1000 7\n{5.0 + seconds} {1000 + used} {7 + held}\n")
    assert share is not None
    assert share.throttled == held
    assert share.percent == pytest.approx(used / 1e6 / (5.0 + seconds - 5.0) * 100, rel=1e-6)


@pytest.mark.parametrize("text", ["", "1 2 3", "2 5 1\n1 6 2", "1 2\n3 4 5", "a b c\nd e f", "1 2 3\n4 5 6\n7 8 9"])
def test_a_share_that_was_not_measured_is_none(text: str) -> None:
    assert unit.parse_share(text) is None


def test_the_load_script_samples_before_and_after(tmp_path: Path) -> None:
    """Run for real, with a counter in place of etcd's and no curl's answer needed."""
    (tmp_path / "cpu.stat").write_text("usage_usec 500\nuser_usec 1\nnr_periods 4\nnr_throttled 2\n")
    (tmp_path / "curl").write_text(f"#!/bin/sh\necho $@ >>{tmp_path}/asked\n")
    (tmp_path / "curl").chmod(0o755)
    script = f"PATH={tmp_path}:$PATH; {unit.load_script(requests=3, seconds=1).replace(unit.GROUP, str(tmp_path))}"
    done = subprocess.run(["/bin/sh"], input=script, text=True, capture_output=True, check=True)
    samples = [line.split() for line in done.stdout.splitlines()]
    assert [sample[1:] for sample in samples] == [["500", "2"], ["500", "2"]]
    assert len((tmp_path / "asked").read_text().splitlines()) == 3


def test_settings_are_changed_in_a_copy_and_nothing_else(tmp_path: Path) -> None:
    """The script's first line run for real: the file that etcd would start with."""
    config, copy = tmp_path / "etcd.yaml", tmp_path / "lag-1" / "etcd.yaml"
    copy.parent.mkdir()
    config.write_text('name: "etcd1"\nsnapshot-count: 10000\nsnapshot-count-x: 1\nheartbeat-interval: 300\n')
    line = changed_settings("lag-1", {"snapshot-count": 20, "snapshot-catchup-entries": 5}).splitlines()[0]
    line = line.replace("/run/etcd-lab/faults", str(tmp_path)).replace(CONFIG_FILE, str(config))
    subprocess.run(["/bin/sh", "-ec", line], check=True)
    assert copy.read_text().splitlines() == [
        'name: "etcd1"',
        "snapshot-count-x: 1",
        "heartbeat-interval: 300",
        "snapshot-count: 20",
        "snapshot-catchup-entries: 5",
    ]


def test_undoing_settings_does_nothing_where_there_are_none() -> None:
    done = subprocess.run(["/bin/sh", "-ec", usual_settings()], capture_output=True, text=True, check=False)
    assert not Path(DROP_IN).exists()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_facts_from_before_outlive_the_process_that_wrote_them(tmp_path: Path) -> None:
    paths = StackPaths(tmp_path, "lab")
    assert recall(paths, "kill-1") == {}
    remember(paths, "kill-1", {"pid": "207"})
    assert recall(paths, "kill-1") == {"pid": "207"}
    forget(paths, "kill-1")
    forget(paths, "kill-1")
    assert recall(paths, "kill-1") == {}


@pytest.mark.parametrize(
    ("before", "now", "holds"), [("1", "2", True), ("1", "1", False), ("1", "", False), (None, "2", False)]
)
def test_a_change_needs_both_sides(before: str | None, now: str, *, holds: bool) -> None:
    assert changed("pid", "etcd1", before, now).holds is holds


def test_a_fact_that_nobody_knows_is_no_proof() -> None:
    assert [proof.holds for proof in known({"a": "1", "b": ""})] == [True, False]


LOG = """{"level":"info","ts":"x","msg":"saved snapshot to disk","snapshot-index":140}
{"level":"info","msg":"saved snapshot to disk","snapshot-index":161}
{"level":"info","msg":"sending database snapshot","snapshot-index":190,"remote-peer-id":"4b"}
{"level":"info","msg":"sent database snapshot","snapshot-index":190,"remote-peer-id":"4b","bytes":20480}
{"level":"info","msg":"applying snapshot","current-applied-index":80,"incoming-leader-snapshot-index":191}
{"level":"info","msg":"applied snapshot","current-applied-index":80,"incoming-leader-snapshot-index":190}
"""
"""Lines as etcd 3.6 writes them (E server/etcdserver/server.go, rafthttp/snapshot_sender.go)."""


def test_only_what_was_done_counts_as_a_snapshot() -> None:
    assert (_newest(_SAVED, LOG), _newest(_SENT, LOG), _newest(_APPLIED, LOG)) == (161, 190, 190)
    assert _newest(_SAVED, '{"msg":"saved snapshot","snapshot-index":7}') == 7  # 3.5
    assert _newest(_SENT, "") == 0


@given(st.integers(0, 10**6), st.integers(-KEEP, 10**6))
def test_a_member_is_behind_only_when_it_is_known_and_less(behind: int, seen: int) -> None:
    assert _beyond("x", "y", behind, seen).holds is (0 < behind < seen)


def test_a_member_that_lags_has_another_that_leads_meanwhile() -> None:
    assert SnapshotLag.normalise((("etcd1",),), ("etcd1", "etcd2", "etcd3")) == (("etcd1",), ("etcd2",))
    fault = SnapshotLag(SnapshotLag.normalise((("etcd3",),), ("etcd1", "etcd2", "etcd3")))
    assert (fault.member, fault.helper) == ("etcd3", "etcd1")
    assert "snapshot-catchup-entries: 5" in fault.make(LAB, "etcd1")
    assert "stop" in fault.make(LAB, "etcd3")


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        ("3.4.23", ("snapshotcatchupentries", "experimental-snapshot-catch-up-entries")),
        ("3.5.0", ("snapshotcatchupentries", "experimental-snapshot-catch-up-entries")),
        ("3.5.13", ("snapshotcatchupentries", "experimental-snapshot-catch-up-entries")),
        ("3.5.14", ("experimental-snapshot-catch-up-entries",)),
        ("3.5.34", ("experimental-snapshot-catch-up-entries",)),
        ("3.6.16", ("snapshot-catchup-entries",)),
        ("3.7.3", ("snapshot-catchup-entries",)),
    ],
)
def test_the_name_of_the_setting_is_one_that_the_version_reads(version: str, keys: tuple[str, ...]) -> None:
    lab: Any = SimpleNamespace(manifest=SimpleNamespace(etcd_version=version))
    script = SnapshotLag((("etcd3",), ("etcd1",))).make(lab, "etcd1")
    written = re.findall(r"\\n([a-z-]+): 5(?=\\n)", script)
    assert tuple(written) == keys


def test_one_node_faults_refuse_several_before_anything_is_touched() -> None:
    two = (("etcd1", "etcd2"),)
    with pytest.raises(UsageError, match="nospace takes one node"):
        NoSpace(two).check(LAB)
    with pytest.raises(UsageError, match="move-leader takes one node"):
        MoveLeader(two).check(LAB)
    with pytest.raises(UsageError, match="snapshot-lag takes one node"):
        SnapshotLag((("etcd1", "etcd2"), ("etcd3",))).check(LAB)


def test_a_leader_is_not_asked_to_hand_over_to_itself() -> None:
    with pytest.raises(UsageError, match="etcd1 leads already"):
        MoveLeader(NODE).check(LAB)
    MoveLeader((("etcd2",),)).check(LAB)
