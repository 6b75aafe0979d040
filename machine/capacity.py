"""What the machine has: memory, disk, addresses; and what of it a running lab already holds."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from machine import netns
from machine.errors import ToolError
from machine.process import run

_MIB: Final = 1 << 20
_CGROUP: Final = Path("/sys/fs/cgroup")


def available_memory_mib(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> int:
    """Memory that new programs can have without swapping, in MiB: the kernel's MemAvailable, or
    what a control group (version 2) around us leaves, whichever is less.
    """
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    host = int(fields["MemAvailable"].split()[0]) // 1024
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # no control group, or "max"
        return host
    return min(host, max(0, limit - used) // _MIB)


def free_disk_mib(path: Path) -> int:
    """Free space for an unprivileged user, in MiB, where `path` is or will be."""
    stat = os.statvfs(_existing(path))
    return stat.f_bavail * stat.f_frsize // _MIB


def same_file_system(one: Path, other: Path) -> bool:
    """Whether both paths are, or will be, on one file system."""
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def running_machines(namespace: str | None, lab_id: str | None) -> int:
    """How many virtual machines of the lab run: those in its own namespace, or by its lab id."""
    pids = netns.processes(namespace) if namespace else netns.all_processes()
    mark = f"guest=etcdlab-{lab_id or ''}"
    if not namespace and not lab_id:
        return 0
    return sum(1 for pid in pids if "qemu-system" in (line := _command_line(pid)) and mark in line)


def routed_networks() -> list[tuple[IPv4Network, str]]:
    """Networks that this host's own routing table names, with the device that leads there."""
    try:
        routes = json.loads(run(["ip", "-json", "-4", "route", "show"], seconds=10).stdout or "[]")
    except (ToolError, ValueError):
        return []
    return [
        (IPv4Network(route["dst"], strict=False), str(route.get("dev", "")))
        for route in routes
        if route.get("dst") not in (None, "default")
    ]


def clash(subnet: IPv4Network, routes: Sequence[tuple[IPv4Network, str]], own_bridge: str = "") -> str | None:
    """The device whose network overlaps `subnet`, leaving out the lab's own bridge; None when free.

    >>> clash(IPv4Network("10.1.0.0/24"), [(IPv4Network("10.0.0.0/8"), "vpn0")])
    'vpn0'
    """
    return next((device for network, device in routes if device != own_bridge and network.overlaps(subnet)), None)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""
