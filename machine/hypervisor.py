"""The embedded hypervisor: libvirt in a network namespace and private directories of its own.

For hosts where no libvirt runs. libvirtd and virtlogd see private directories in place of
`/run`, `/etc/libvirt`, `/var/{lib,cache,log}/libvirt` (a mount namespace that dies with them),
bridges and machines live in the network namespace. Of the host's own files only
`/run/netns/NAME` and the run directory appear, and both go again with stop().
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from machine import netns
from machine.errors import HypervisorError, LabError, RequirementError
from machine.paths import cache_dir
from machine.process import exclusive, run, write_private
from machine.waiting import Pending, wait_until

State = Literal["running", "stopped", "absent"]

START_SECONDS: Final = 60.0
"""Limit for libvirtd to answer; it probes every QEMU on its first start, which takes seconds."""
TERM_SECONDS: Final = 8.0
"""How long processes get between SIGTERM and SIGKILL."""

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAMS: Final = ("ip", "unshare", "mount", "virtlogd", "libvirtd", "qemu-system-x86_64")

_PRIVATE: Final = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
}
"""Directory of ours -> where libvirt's processes see it."""

_CONFIG: Final = {
    # root, since there is no other user who could own the disks; no security driver, since AppArmor's helper
    # cannot follow disks given as volumes; no cgroups and device namespaces: they would be the host's.
    "qemu.conf": 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\ncgroup_controllers = [ ]\n'
    "namespaces = [ ]\nremember_owner = 0\n",
    "libvirtd.conf": 'auth_unix_ro = "none"\nauth_unix_rw = "none"\nunix_sock_group = "root"\n'
    'unix_sock_ro_perms = "0700"\nunix_sock_rw_perms = "0700"\n',
    "virtlogd.conf": "max_size = 16777216\nmax_backups = 1\n",  # a console is kept whole
}

# Run inside the network namespace (by `ip netns exec`, which also gives a /sys that shows it) and a fresh mount
# namespace. /run becomes a file system of our own, named after the hypervisor (that is how its processes are
# known): so no mount point has to be made in the host's /run, and no systemd, dbus or udev is seen there.
_LAUNCH: Final = """set -eu
id=$1 dir=$2 run=$3 logd=$4; shift 4
mkdir -p "$dir/run"
mount --bind "$run" "$dir/run"
mount -t tmpfs -o mode=755,size=16m "$id" /run
mkdir /run/libvirt
mount --bind "$dir/run" /run/libvirt
for part in "$@"; do mount --bind "$dir/${part%%=*}" "${part#*=}"; done
[ "$logd" = alive ] || virtlogd -d -p /run/libvirt/virtlogd.pid
libvirtd -d -p /run/libvirt/libvirtd.pid
"""


@dataclass(frozen=True, slots=True)
class Embedded:
    """One embedded hypervisor: `id` names it and its namespace, `dir` keeps its state, `run_dir` its sockets."""

    id: str
    dir: Path
    run_dir: Path

    @property
    def uri(self) -> str:
        """libvirt connection URI; works from any namespace."""
        return f"qemu+unix:///system?socket={self.socket}"

    @property
    def netns(self) -> str:
        """Network namespace that holds the bridges and machines."""
        return self.id

    @property
    def socket(self) -> Path:
        """libvirtd's socket."""
        return self.run_dir / "libvirt-sock"

    @property
    def record(self) -> Path:
        """Written, and synced, before anything is made: what stop() has to remove."""
        return self.dir / "hypervisor.json"

    def state(self) -> State:
        """running: libvirtd answers; stopped: recorded, but not (wholly) there, as after a reboot; absent."""
        if not self.record.exists():
            return "absent"
        return "running" if netns.exists(self.netns) and _answers(self.socket) else "stopped"

    def start(self) -> None:
        """Make it run, whatever is there: nothing, all of it, or what a crash or a reboot left.

        Machines that still run are kept and found again by the new libvirtd. Raises
        RequirementError without root or a needed program, HypervisorError when libvirt does not start.
        """
        _require()
        with self._locked():
            if self.state() == "running":
                return
            write_private(self.record, json.dumps({"id": self.id, "run_dir": str(self.run_dir)}) + "\n")
            if not self._processes():  # nothing alive refers to it: files of an earlier boot would only mislead
                self._remove_netns()
                shutil.rmtree(self.run_dir, ignore_errors=True)
            self._make_directories()
            self._make_netns()
            self._launch()

    def stop(self) -> None:
        """End all its processes, machines included, and remove namespace, sockets and private files.

        Safe to repeat, and from any half state. Raises HypervisorError when a process cannot be ended.
        """
        with self._locked():
            _end(self._processes)
            self._remove_netns()
            shutil.rmtree(self.run_dir, ignore_errors=True)
            with contextlib.suppress(OSError):  # goes with the last hypervisor
                self.run_dir.parent.rmdir()
            shutil.rmtree(self.dir, ignore_errors=True)

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return exclusive(self.dir.with_name(f".{self.dir.name}.lock"))

    def _processes(self) -> set[int]:
        """Everything inside the namespace, and everything that sees our private /run."""
        return {*netns.processes(self.netns), *_marked(self.id)} - {os.getpid()}

    def _make_directories(self) -> None:
        # What libvirt learns about QEMU takes it 8 s under TCG, and it checks itself whether it still holds.
        shared = cache_dir() / "libvirt"
        shared.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.dir.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (self.dir / "cache").symlink_to(shared)
        for part in _PRIVATE:
            # Passable, since dnsmasq drops root before it reads its hosts; the lab's directory around it is private.
            (self.dir / part).mkdir(parents=True, exist_ok=True, mode=0o711)
        (self.dir / "lib" / "dnsmasq").mkdir(exist_ok=True)  # libvirt expects its package to have made this one
        for name, text in _CONFIG.items():
            write_private(self.dir / "etc" / name, text)
        self.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _make_netns(self) -> None:
        if not netns.exists(self.netns):
            self._remove_netns()
            run(["ip", "netns", "add", self.netns])
        run(["ip", "-n", self.netns, "link", "set", "lo", "up"])

    def _remove_netns(self) -> None:
        if netns.exists(self.netns):
            run(["ip", "netns", "delete", self.netns])
        netns.path_of(self.netns).unlink(missing_ok=True)  # a plain file is what a reboot leaves of it

    def _launch(self) -> None:
        logd = "alive" if _answers(self.run_dir / "virtlogd-sock") else "dead"
        binds = [f"{part}={seen}" for part, seen in _PRIVATE.items()]
        apart = ["ip", "netns", "exec", self.netns, "unshare", "--mount", "--propagation", "private"]
        clean = ["env", "-i", f"PATH={_PATH}", "LC_ALL=C.UTF-8"]
        script = ["sh", "-c", _LAUNCH, "sh", self.id, str(self.dir), str(self.run_dir), logd, *binds]
        done = run([*apart, *clean, *script], seconds=START_SECONDS, check=False)

        def answering() -> None:
            if not _answers(self.socket):
                raise Pending(done.stderr.strip() or "no answer on its socket")

        try:  # also when the launch failed: one that a killed starter left behind may have been first
            wait_until(answering, "libvirtd", seconds=START_SECONDS if done.ok else 5.0, every=0.05)
        except LabError as error:
            raise HypervisorError(
                f"The embedded libvirt does not start: {error}",
                where=str(self.dir),
                next="Its log is in log/ there; ./lab doctor checks what it needs.",
            ) from error


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _marked(mark: str) -> set[int]:
    """Processes whose mount namespace has the tmpfs called `mark` (see _LAUNCH)."""
    known: dict[str, bool] = {}
    found = set()
    for pid in netns.all_processes():
        with contextlib.suppress(OSError):  # ended meanwhile
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")  # noqa: PTH115 - one system call
            if namespace not in known:
                known[namespace] = f" - tmpfs {mark} " in Path(f"/proc/{pid}/mountinfo").read_text()
            if known[namespace]:
                found.add(pid)
    return found


def _end(processes: Callable[[], set[int]]) -> None:
    """TERM, then KILL, until `processes()` finds none."""
    deadline = time.monotonic() + TERM_SECONDS
    told: set[int] = set()

    def ended() -> None:
        left = processes()
        force = time.monotonic() >= deadline
        for pid in left if force else left - told:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if force else signal.SIGTERM)
        told.update(left)
        if left:
            raise Pending(f"processes {', '.join(map(str, sorted(left)))}")

    try:
        wait_until(ended, "Ending the embedded hypervisor", seconds=TERM_SECONDS + 10.0, every=0.05)
    except LabError as error:
        raise HypervisorError(str(error), next="See what holds these processes, end them, and try again.") from error


def _require() -> None:
    if os.geteuid() != 0:
        raise RequirementError(
            "The embedded hypervisor needs root",
            next="Run as root, or set etcd-lab:hypervisor to a libvirt of this machine (qemu:///system).",
        )
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        raise RequirementError(
            f"The embedded hypervisor needs {', '.join(missing)}",
            next="./lab doctor --fix installs the Debian packages.",
        )
