"""What undoes a fault inside a guest: its status is kept and told, what went wrong stays to be tried again.

The scripts are run for real, by the shells that run them in a guest, with stand-ins for the programs that they call.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.faults import guest
from chaos.faults.etcd.process import CpuStarve, OutOfMemory, StopProcess
from chaos.faults.etcd.quota import NoSpace
from chaos.faults.guest import GuestFault, armed, disarmed
from chaos.faults.host.clock import ClockDrift, ClockStrobe
from chaos.faults.network.flows import Flow
from chaos.faults.network.guest_nft import Guests
from chaos.faults.network.impairments import Latency
from chaos.faults.registry import KINDS
from chaos.faults.storage.disk import DiskError, DiskFull, DiskSlow, LostWrites
from chaos.heal import residue
from chaos.lab.scripts import DIRECTORY, tried
from chaos.member import unit, volume
from infra.layout import DATA_DEVICE
from machine.errors import InconclusiveError, LabError
from machine.process import Completed

SHELLS = (["/bin/sh"], ["bash", "-c", '(eval "$(cat)")'])
"""As the timer and a sweep run a script, and as the shell that is kept open in a guest does (`lab.guest_shells`)."""

NODE = (("a",),)
LAB: Any = SimpleNamespace(
    manifest=SimpleNamespace(
        nodes=[SimpleNamespace(name=name, address=IPv4Address(f"10.0.0.{at}")) for at, name in enumerate("ab", 1)],
        gateway=IPv4Address("10.0.0.254"),
    )
)

PROGRAMS = {
    "systemctl": "",
    "systemd-run": "",
    "tc": "exit 2",  # there is no qdisc to delete
    "busybox": 'echo "2: eth0: <BROADCAST> mtu 1500 qdisc fq_codel state UP"',
    "nft": "",
    "dmsetup": '[ "$1" != table ] || echo "0 8 linear 254:16 0"',
    "mountpoint": "",
    "umount": "rm -f mounted",
    "mount": "touch mounted",
    "fsck.ext4": "",
    "etcdctl": "",
    "sync": "",
    "sleep": "",
    "date": "echo 1",
}
"""On a guest where all is well; each is a line of shell, and what is called is written down."""


class Guest:
    """A directory that stands for a guest: its programs, and the files that scripts look at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "log"
        (root / "bin").mkdir()
        (root / "var/lib/etcd").mkdir(parents=True)
        (root / "etc/etcd").mkdir(parents=True)
        (root / "etc/etcd/etcdctl.env").write_text("")
        (root / "size").write_text("8\n")
        for name, body in PROGRAMS.items():
            self.program(name, body)

    def program(self, name: str, body: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.log}\n{body}\n')
        path.chmod(0o755)

    def here(self, script: str) -> str:
        """The script with this guest's files in place of the machine's."""
        for place in ("/run/", "/var/lib/etcd", "/etc/etcd/", "/sys/fs/cgroup/"):
            script = script.replace(place, f"{self.root}{place}")
        return script.replace(f"/sys/class/block/{DATA_DEVICE[5:]}/size", f"{self.root}/size")

    def run(self, script: str, shell: list[str] = SHELLS[0]) -> int:
        self.log.write_text("")
        env = {**os.environ, "PATH": f"{self.root}/bin:/usr/bin:/bin"}
        done = subprocess.run(
            shell, input=self.here(script), text=True, env=env, cwd=self.root, timeout=30, check=False
        )
        return done.returncode

    def file(self, path: str, text: str = "") -> Path:
        made = Path(self.here(path))
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(text)
        return made

    @property
    def called(self) -> str:
        return self.log.read_text()


@pytest.fixture
def inside(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def undo_of(kind: Any, *groups: tuple[str, ...]) -> str:
    script: str = kind(groups or NODE).undo(LAB, "a")
    return script


CUT = Guests(LAB, "cut-1")._undo("cut_1", [Flow("b", "a")])
UNDOS = {name: undo_of(kind, ("a",), ("b",)) for name, kind in KINDS.items() if issubclass(kind, GuestFault)} | {
    "cut": CUT
}


# -- status, directory, timer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS, ids=["sh", "kept open"])
def test_an_undo_that_goes_wrong_keeps_its_script_and_a_timer_until_it_goes_well(
    inside: Guest, shell: list[str]
) -> None:
    directory = Path(inside.here(f"{DIRECTORY}/x-1"))
    undo = f"[ -e {inside.root}/well ] || exit 3"
    assert inside.run(armed("x-1", ":", undo, 600), shell) == 0
    assert "systemd-run --quiet --collect --unit=etcdlab-undo-x-1 --on-active=600s" in inside.called
    assert inside.run(disarmed("x-1", undo), shell) == 3
    assert (directory / "undo").exists()
    assert f"--unit=etcdlab-undo-x-1 --on-active={guest.AGAIN_SECONDS}s" in inside.called
    (inside.root / "well").touch()
    for _ in range(2):  # safe to repeat
        assert inside.run(disarmed("x-1", undo), shell) == 0
        assert not directory.exists()
        assert "systemd-run" not in inside.called


def test_what_the_timer_runs_ends_with_the_status_and_stays_when_it_is_not_0(inside: Guest) -> None:
    script = f"{DIRECTORY}/x-1/undo"
    inside.run(armed("x-1", ":", f"[ -e {inside.root}/well ]", 600))
    assert inside.run(f"/bin/sh {script}") == 1
    assert Path(inside.here(script)).exists()
    (inside.root / "well").touch()
    assert inside.run(f"/bin/sh {script}") == 0
    assert not Path(inside.here(script)).parent.exists()


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["true", "false", "exit 7", ": $((1 / 0))"]), max_size=5))
def test_every_step_is_tried_and_the_last_that_goes_wrong_gives_the_status(steps: list[str]) -> None:
    script = tried(*(f"echo begun; {step}" for step in steps))
    done = subprocess.run(["/bin/sh"], input=script, text=True, capture_output=True, timeout=10, check=False)
    assert done.stdout.count("begun") == len(steps)
    assert (done.returncode == 0) is all(step == "true" for step in steps)
    assert done.stderr.count("ended with status") == sum(step != "true" for step in steps)


@dataclass(frozen=True)
class Scripted(GuestFault):
    """A fault whose undo is told by the test."""

    name: ClassVar[str] = "scripted"
    family: ClassVar[str] = "test"
    summary: ClassVar[str] = "for tests"

    def make(self, lab: Any, node: str) -> str:
        raise NotImplementedError

    def undo(self, lab: Any, node: str) -> str:  # noqa: ARG002
        return f"undo of {node}"

    def look(self, lab: Any, *, in_force: bool) -> Any:
        raise NotImplementedError


class Paper:
    """A lab whose guests give a status to what they run."""

    def __init__(self, **statuses: int) -> None:
        self.statuses = statuses
        self.ran: list[str] = []
        self.inside = SimpleNamespace(run=self.run)

    def domain_states(self) -> dict[str, str]:
        return dict.fromkeys(self.statuses, "running")

    def shell(self, node: str) -> str:
        return node

    def run(self, shell: str, script: str, _seconds: float, *, check: bool) -> Completed:
        assert not check
        assert f"undo of {shell}" in script
        self.ran.append(shell)
        return Completed((), self.statuses[shell], "", "a\nb\nc\nEIO\nstep 2 of 3 ended with status 5\n")


def test_healing_names_the_nodes_where_the_undo_went_wrong_and_tries_all() -> None:
    lab: Any = Paper(a=0, b=5, c=0, d=1)
    with pytest.raises(InconclusiveError) as error:
        Scripted((("a", "b", "c", "d"),)).lift(lab)
    assert sorted(lab.ran) == ["a", "b", "c", "d"]
    assert error.value.what.endswith("went wrong on b, d")
    assert "b with status 5: c; EIO; step 2 of 3 ended with status 5" in error.value.where
    Scripted((("a", "c"),)).lift(lab)


# -- the catalogue ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS, ids=["sh", "kept open"])
@pytest.mark.parametrize("name", UNDOS)
def test_an_undo_of_what_is_gone_already_goes_well(inside: Guest, name: str, shell: list[str]) -> None:
    assert [inside.run(UNDOS[name], shell) for _ in range(2)] == [0, 0]


def test_a_process_that_ends_just_now_is_not_stopped_any_more(inside: Guest) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    inside.file(f"{unit.GROUP}/cgroup.procs", f"{ended.pid}\n")
    assert inside.run(undo_of(StopProcess)) == 0


@pytest.mark.parametrize(("kind", "name"), [(OutOfMemory, "MemoryMax"), (CpuStarve, "CPUQuota")])
def test_a_limit_that_could_not_be_lifted_is_lifted_by_the_next_attempt(inside: Guest, kind: Any, name: str) -> None:
    drop_in = inside.file(f"/run/systemd/system.control/{unit.UNIT}.d/50-{name}.conf")
    inside.program("systemctl", '[ "$1" != set-property ]')
    assert inside.run(undo_of(kind)) != 0
    assert drop_in.exists()
    assert ("start --no-block" in inside.called) is (kind is OutOfMemory)
    inside.program("systemctl", "")
    assert inside.run(undo_of(kind)) == 0
    assert "set-property" in inside.called
    assert not drop_in.exists()


@pytest.mark.parametrize(("root", "gone"), [("prio", False), ("fq_codel", True), ("pfifo_fast", True), ("", False)])
def test_a_line_is_good_again_only_when_our_qdisc_is_gone(inside: Guest, root: str, gone: bool) -> None:
    inside.program("busybox", f"echo '2: eth0: <UP> mtu 1500 qdisc {root} state UP'" if root else "exit 1")
    assert (inside.run(undo_of(Latency, ("a",), ("b",))) == 0) is gone
    inside.program("tc", "")
    assert inside.run(undo_of(Latency, ("a",), ("b",))) == 0


def test_a_quota_is_not_undone_while_the_cluster_does_not_tell_its_alarms(inside: Guest) -> None:
    inside.program("etcdctl", "exit 1")
    assert inside.run(undo_of(NoSpace)) != 0


@pytest.mark.parametrize(
    ("body", "well"),
    [
        ("", True),
        ('[ "$2" != compact ] || { echo "etcdserver: mvcc: required revision has been compacted"; exit 1; }', True),
        ('[ "$2" != compact ] || { echo "context deadline exceeded"; exit 1; }', False),
        ('[ "$2" != del ]', False),
        ('[ "$2" != defrag ]', False),
        ('[ "$2" != alarm ] || [ "$3" != disarm ]', False),
    ],
)
def test_room_is_made_and_the_alarm_disarmed_whatever_of_it_fails(inside: Guest, body: str, well: bool) -> None:
    inside.program("etcdctl", f'[ "$3" != list ] || echo "memberID:7 alarm:NOSPACE"\n{body}')
    assert (inside.run(undo_of(NoSpace)) == 0) is well
    assert inside.called.rstrip().endswith("alarm disarm")


@pytest.mark.parametrize(("status", "well"), [(0, True), (1, True), (3, True), (4, False), (8, False)])
def test_a_file_system_that_could_not_be_put_right_is_told_and_mounted_all_the_same(
    inside: Guest, status: int, well: bool
) -> None:
    (inside.root / "mounted").touch()
    inside.program("mountpoint", "[ -e mounted ]")
    inside.program("fsck.ext4", f"exit {status}")
    assert (inside.run(undo_of(DiskError)) == 0) is well
    assert "mount -t ext4" in inside.called


@pytest.mark.parametrize("kind", [DiskError, LostWrites])
def test_a_volume_that_stays_mounted_is_not_mended(inside: Guest, kind: Any) -> None:
    inside.program("umount", "exit 32")
    assert inside.run(undo_of(kind)) != 0
    assert "is-active" in inside.called or "show -P ActiveState etcd.service" in inside.called, "etcd is started"


def test_a_volume_that_is_let_go_at_the_last_attempt_is_let_go(inside: Guest) -> None:
    (inside.root / "mounted").touch()
    inside.program("mountpoint", "[ -e mounted ]")
    inside.program("umount", f"[ $(grep -c ^umount {inside.log}) -ge {volume.UNMOUNT_TRIES} ] && rm mounted")
    assert inside.run(volume.UNMOUNT) == 0


@pytest.mark.parametrize("word", ["load", "suspend"])
def test_a_table_that_could_not_be_exchanged_is_told_and_the_device_goes_on(inside: Guest, word: str) -> None:
    inside.program("dmsetup", f'[ "$1" != table ] || echo "0 8 delay 254:16 0 0 254:16 0 500"\n[ "$1" != {word} ]')
    assert inside.run(undo_of(DiskSlow)) != 0
    assert inside.called.index(f"dmsetup {word}") < inside.called.rindex("dmsetup resume")


def test_a_plain_table_on_a_device_that_stays_suspended_is_not_mended(inside: Guest) -> None:
    says = '[ "$1" != table ] || echo "0 8 linear 254:16 0"\n[ "$1" != info ] || echo {}\n[ "$1" != resume ]'
    inside.program("dmsetup", says.format("Suspended"))
    assert inside.run(volume.LINEAR) != 0
    inside.program("dmsetup", says.format("Active"))
    assert inside.run(volume.LINEAR) == 0


@pytest.mark.parametrize(
    ("script", "program", "fails"),
    [
        (undo_of(DiskFull), "sync", "exit 1"),
        (undo_of(DiskFull), "systemctl", '[ "$1" != start ]'),
        (undo_of(ClockDrift), "busybox", "exit 1"),
        (CUT, "nft", "cat >/dev/null; exit 1"),
    ],
)
def test_a_step_that_fails_is_told(inside: Guest, script: str, program: str, fails: str) -> None:
    inside.program(program, fails)
    assert inside.run(script) != 0


def test_a_clock_that_is_still_flipped_is_told_and_set_all_the_same(inside: Guest) -> None:
    fault = ClockStrobe(NODE)
    inside.file(f"/run/systemd/transient/{fault.unit}.service")
    inside.file(f"{fault.directory}/base", "1000000000 1.00\n")
    inside.program("systemctl", '[ "$1" != stop ]')
    assert inside.run(fault.undo(LAB, "a")) != 0
    assert "date -s" in inside.called


def test_the_table_goes_with_the_last_cut_alone(inside: Guest) -> None:
    inside.program("nft", f'[ "$1" != list ] || {{ cat {inside.root}/table; exit; }}\ncat >>{inside.root}/told')
    (inside.root / "table").write_text("table inet etcdlab_faults { chain other__in { } }")
    assert inside.run(CUT) == 0
    assert "delete table" not in (inside.root / "told").read_text()
    (inside.root / "table").write_text("table inet etcdlab_faults { }")
    assert inside.run(CUT) == 0
    assert "delete table inet etcdlab_faults" in (inside.root / "told").read_text()
    (inside.root / "table").unlink()  # another cut took it along
    assert inside.run(CUT) == 0


# -- the sweep --------------------------------------------------------------------------------------------------------


def test_a_sweep_keeps_the_undo_scripts_that_went_wrong_and_tells(inside: Guest) -> None:
    trace = next(one for one in residue.GUEST if one.name == residue.UNDO_SCRIPT)
    for name, text in {"bad-1": "exit 4", "good-1": ":", "good-2": ":"}.items():
        inside.file(f"{DIRECTORY}/{name}/undo", text)
    Path(inside.here(f"{DIRECTORY}/never-made")).mkdir()
    script = inside.here(residue.script([trace], mend=True)).replace("date", "/bin/date")

    def sweep() -> tuple[list[residue.Found], float]:
        done = subprocess.run(["/bin/sh"], input=script, text=True, capture_output=True, timeout=10, check=False)
        return residue.read(done.stdout, [trace])

    (found,), _ = sweep()
    assert (found.what, found.mended) == ("bad-1 good-1 good-2 never-made", False)
    inside.file(f"{DIRECTORY}/bad-1/undo", ":")
    (found,), _ = sweep()
    assert (found.what, found.mended) == ("bad-1", True)
    assert sweep()[0] == []


def test_a_limit_of_a_call_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that cannot be asked is no guest whose undo went wrong."""
    lab: Any = Paper(a=0)

    def lost(*_: object, **__: object) -> Completed:
        raise LabError("a is not reached")

    monkeypatch.setattr(lab.inside, "run", lost)
    with pytest.raises(LabError, match="not reached"):
        Scripted(NODE).lift(lab)
