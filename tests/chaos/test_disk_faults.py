"""Disk faults: what a probe of the data volume says, and what counts as proof."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from chaos.faults.base import Fault
from chaos.faults.registry import KINDS
from chaos.faults.storage import damage, disk
from chaos.faults.storage.disk import DiskError, DiskFault, DiskFull, DiskReadOnly, DiskSlow, LostWrites
from chaos.lab.lab import Lab
from chaos.member import volume
from chaos.member.volume import NOT_PROBED, Volume
from infra.layout import DATA_DEVICE, DATA_DIR
from machine.errors import UsageError
from machine.paths import StackPaths

GROUPS = (("etcd2",),)
KINDS_OF_DISK: tuple[type[DiskFault], ...] = (DiskFull, DiskSlow, DiskError, DiskReadOnly, LostWrites)


def said(**other: str) -> str:
    """What the script prints on a healthy node (as seen on Debian 12), with other words where given."""
    lines = {
        "table": "0 4194304 linear 254:16 0",
        "suspended": "Active",
        "mount": "rw,noatime",
        "file": "ok",
        "file_us": "12000",
        "file_said": "1+0 records in; 1+0 records out; 4096 bytes (4.1 kB, 4.0 KiB) copied, 0.01 s, 400 kB/s",
        "device": "ok",
        "device_us": "9000",
        "device_said": "1+0 records in; 1+0 records out; 4096 bytes copied",
        "read": "ok",
        "read_us": "5000",
        "read_said": "1+0 records in",
        "kept": "yes",
        "end": "1",
    }
    return "\n".join(f"{name}={value}" for name, value in {**lines, **other}.items() if value)


FLAKEY = "0 4194304 flakey 254:16 0 0 86400 1"
SHOWN = {
    DiskFull: said(
        file="1",
        file_said="dd: error writing '/var/lib/etcd/.etcdlab-probe.new': No space left on device; 1+0 records in",
    ),
    DiskSlow: said(table="0 4194304 delay 254:16 0 0 254:16 0 500", device_us="518000"),
    DiskError: said(
        table=f"{FLAKEY} error_writes ",
        device="1",
        device_said="dd: error writing '/dev/mapper/etcd-data': Input/output error; 1+0 records in",
    ),
    DiskReadOnly: said(
        file="1", file_said="dd: failed to open '/var/lib/etcd/.etcdlab-probe.new': Read-only file system"
    ),
    LostWrites: said(table=f"{FLAKEY} drop_writes ", kept="no"),
}
"""What the script printed with each fault in force."""


def test_a_healthy_volume_is_sound() -> None:
    found = Volume.read(said())
    assert found.sound
    assert (found.target, found.device_seconds, found.kept) == ("linear", 0.009, True)


@pytest.mark.parametrize("kind", KINDS_OF_DISK)
@pytest.mark.parametrize("shown", KINDS_OF_DISK)
def test_each_fault_is_proved_by_its_own_signs_only(kind: type[DiskFault], shown: type[DiskFault]) -> None:
    found = Volume.read(SHOWN[shown])
    assert (kind(GROUPS).missing(found) == "") == (kind is shown)


@pytest.mark.parametrize("kind", KINDS_OF_DISK)
def test_no_fault_is_proved_by_a_healthy_volume(kind: type[DiskFault]) -> None:
    assert kind(GROUPS).missing(Volume.read(said()))


@pytest.mark.parametrize("kind", KINDS_OF_DISK)
def test_what_a_fault_leaves_is_not_sound(kind: type[DiskFault]) -> None:
    assert not Volume.read(SHOWN[kind]).sound


def test_a_machine_that_is_slow_at_everything_is_no_slow_disk() -> None:
    table = "0 4194304 delay 254:16 0 0 254:16 0 500"
    fault = DiskSlow(GROUPS)
    assert fault.missing(Volume.read(said(table=table, device_us="900000", read_us="880000")))
    assert fault.missing(Volume.read(said(table=table, device_us="400000")))
    assert not fault.missing(Volume.read(said(table=table, device_us="900000", read_us="300000")))


@pytest.mark.parametrize(
    "other", [{"suspended": "Suspended"}, {"mount": ""}, {"mount": "ro,noatime"}, {"file": "124", "file_said": ""}]
)
def test_a_volume_that_hangs_or_is_not_mounted_is_not_sound(other: dict[str, str]) -> None:
    assert not Volume.read(said(**other)).sound


def test_without_a_probe_file_the_device_is_not_judged() -> None:
    text = "\n".join(line for line in said().splitlines() if not line.startswith(("device", "read", "kept")))
    found = Volume.read(text)
    assert found.device == NOT_PROBED
    assert found.sound
    assert DiskError(GROUPS).missing(found)


def test_a_probe_that_did_not_end_says_nothing() -> None:
    with pytest.raises(ValueError, match="did not end"):
        Volume.read(said(end=""))


@pytest.mark.parametrize("kind", KINDS_OF_DISK)
def test_scripts_are_shell(kind: type[DiskFault]) -> None:
    fault = kind(GROUPS)
    lab = cast(Lab, None)
    for script in (fault.make(lab, "etcd2"), fault.undo(lab, "etcd2"), volume.LOOK, volume.LAY_PROBE):
        subprocess.run(["sh", "-n", "-c", script], check=True, timeout=10)


def test_the_probe_is_bash() -> None:
    inner = subprocess.run(
        ["sh", "-c", volume.LOOK.replace("exec bash -c", "printf %s")], capture_output=True, check=True, timeout=10
    ).stdout
    assert b"EPOCHREALTIME" in inner
    subprocess.run(["bash", "-n"], input=inner, check=True, timeout=10)


def test_a_lying_disk_is_unmounted_before_it_tells_the_truth_again() -> None:
    # else what is in memory would reach the disk after all
    undo = LostWrites(GROUPS).undo(cast(Lab, None), "etcd2")
    assert undo.index("umount") < undo.index("linear")
    assert undo.index("SIGKILL") < undo.index("umount")


def test_a_failing_disk_works_again_before_it_is_checked() -> None:
    undo = DiskError(GROUPS).undo(cast(Lab, None), "etcd2")
    assert undo.index("linear") < undo.index("fsck")
    assert undo.index("umount") < undo.index("fsck") < undo.index("start --no-block etcd")


def lab_of(count: int) -> Lab:
    names = tuple(f"etcd{number}" for number in range(1, count + 1))
    manifest = SimpleNamespace(nodes=names, node_names=names, quorum=count // 2 + 1)
    return cast(Lab, SimpleNamespace(manifest=manifest, leader=lambda: "etcd1", running=lambda: list(names)))


@pytest.mark.parametrize(
    ("count", "hit", "refused"), [(1, 1, True), (2, 1, True), (3, 1, False), (3, 2, True), (5, 2, False), (5, 3, True)]
)
def test_only_a_minority_may_lose_its_data(count: int, hit: int, refused: bool) -> None:
    fault: Fault = LostWrites((tuple(f"etcd{number}" for number in range(1, hit + 1)),))
    if refused:
        with pytest.raises(UsageError, match="no quorum"):
            damage.check_minority(fault, lab_of(count))
    else:
        damage.check_minority(fault, lab_of(count))


@pytest.mark.parametrize("value", ["-1", "0", "x", "1.5", "1000000"])
def test_an_impossible_delay_is_refused_before_anything_is_touched(value: str) -> None:
    with pytest.raises(UsageError, match="delay_ms"):
        DiskSlow.declare(lab_of(3), ("etcd2",), {"delay_ms": value})


def test_a_lab_without_the_data_volume_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_lab: Lab, nodes: list[str], _script: str) -> dict[str, SimpleNamespace]:
        return {node: SimpleNamespace(stdout="none\n") for node in nodes}

    monkeypatch.setattr(disk, "each", answer)
    with pytest.raises(UsageError, match="etcd-data"):
        DiskFull.declare(lab_of(3), ("etcd2",))


def test_one_disk_takes_one_fault() -> None:
    with pytest.raises(UsageError, match="beside it"):
        DiskSlow(GROUPS).check_beside([DiskFull((("etcd1", "etcd2"),))])
    DiskSlow(GROUPS).check_beside([DiskFull((("etcd1",),))])


def test_what_is_not_promised_is_what_healing_replaces() -> None:
    damaging = {name for name, kind in KINDS.items() if kind.family in ("disk", "data") and not kind.promised}
    assert damaging == {name for name, kind in KINDS.items() if kind.damages_data}
    assert damaging


def test_the_plain_table_comes_back_over_dropped_writes_only_when_nothing_is_mounted(tmp_path: Path) -> None:
    # a shell with stand-ins for the programs, which write down that they were called
    def calls(table: str) -> list[str]:
        stubs = {
            "dmsetup": f'[ "$1" = table ] && echo "{table}"',
            "systemctl": ":",
            "timeout": ":",
            "mountpoint": "[ ! -e unmounted ]",
            "umount": "touch unmounted",
        }
        (tmp_path / "unmounted").unlink(missing_ok=True)
        (tmp_path / "log").write_text("")
        head = "".join(f"{name}() {{ echo {name} $1 >>log; {body}; }}\n" for name, body in stubs.items())
        script = volume.LINEAR.replace(f"/sys/class/block/{DATA_DEVICE[5:]}/size", "size")
        (tmp_path / "size").write_text("4194304\n")
        subprocess.run(["sh", "-c", head + script], cwd=tmp_path, timeout=10, check=False)
        return (tmp_path / "log").read_text().split("\n")

    lying = calls(f"{FLAKEY} drop_writes")
    assert lying.index(f"umount {DATA_DIR}") < lying.index("dmsetup load")
    failing = calls(f"{FLAKEY} error_writes")
    assert "dmsetup load" in failing
    assert not [one for one in failing if one.startswith("umount")]
    assert "dmsetup load" not in calls("0 4194304 linear 254:16 0")


@pytest.mark.parametrize(
    ("boot", "table", "holds"),
    [("one", "flakey drop_writes", True), ("one", "linear", False), ("two", "linear", True), ("", "linear", False)],
)
def test_a_disk_that_lied_counts_until_healed_also_when_its_power_was_cut(
    boot: str, table: str, holds: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paths = StackPaths(tmp_path, "lab")
    lab = cast("Lab", SimpleNamespace(paths=paths, running=lambda: ["etcd2"]))
    fault = LostWrites(GROUPS)
    probe = SHOWN[LostWrites] if table != "linear" else said()
    monkeypatch.setattr(disk, "look", lambda _lab, nodes, *_script: dict.fromkeys(nodes, Volume.read(probe)))
    monkeypatch.setattr(disk, "boot_ids", lambda _lab, nodes: dict.fromkeys(nodes, "one"))
    fault.baseline(lab)
    monkeypatch.setattr(disk, "boot_ids", lambda _lab, nodes: dict.fromkeys(nodes, boot))
    assert [one.holds for one in fault.look(lab, in_force=True)] == [holds]
    assert [one.holds for one in fault.look(lab, in_force=False)] == [table == "linear"]
