"""Embedded hypervisors that nobody owns any more: their checkout was removed, or they died half."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from machine import netns
from machine.errors import LabError
from machine.paths import run_root
from machine.process import run
from machine.waiting import Pending, wait_until

PREFIX: Final = "etcdlab-"

_PRIVATE: Final = "/etc/libvirt"
"""A hypervisor's processes see a directory of their lab here (machine/hypervisor.py)."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A namespace of an embedded hypervisor without an owner, or only the sockets of one."""

    id: str
    why: str
    pids: tuple[int, ...]
    unknown: bool = False
    """Somebody else's, perhaps alive: what may not be looked at is not gone. Nobody but its owner is to touch it."""


def find(own: Iterable[str] = ()) -> list[Orphan]:
    """Hypervisors without an owner, and those of which that cannot be said.

    Those named in `own` belong to this checkout and are left out.
    """
    keep = set(own)
    names = {path.name for path in _entries(netns.NETNS_DIR) if path.name.startswith(PREFIX)}
    names |= {f"{PREFIX}{path.name}" for path in _entries(run_root()) if path.is_dir()}
    found = []
    for name in sorted(names - keep):
        inside, whole = netns.look(name)
        pids = tuple(inside)
        if not pids and not whole:
            found.append(Orphan(name, "somebody else's: who runs in it may not be looked at", (), unknown=True))
        elif not pids and _answers(name):
            found.append(Orphan(name, "somebody else's: its libvirt answers, unseen from here", (), unknown=True))
        elif not pids:
            found.append(Orphan(name, "nothing runs in it", ()))
        elif any(_files_are_gone(pid) for pid in pids):
            found.append(Orphan(name, "its checkout was removed", pids))
    return found


def remove(orphan: Orphan) -> None:
    """End its processes, remove its namespace and sockets; raises DeadlineError, ToolError.

    Raises LabError for one that is somebody else's.
    """
    if orphan.unknown:
        raise LabError(f"{orphan.id} is {orphan.why}", next="Whoever started it removes it, by ./lab destroy.")
    for pid in orphan.pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def ended() -> None:
        left = netns.processes(orphan.id)
        if left:
            raise Pending(f"processes {left}")

    wait_until(ended, f"Ending what runs in {orphan.id}", seconds=10.0, next="End these processes by hand.")
    if netns.path_of(orphan.id).exists():
        run(["ip", "netns", "delete", orphan.id], seconds=10)
    shutil.rmtree(run_root() / orphan.id.removeprefix(PREFIX), ignore_errors=True)


def _answers(name: str) -> bool:
    """Whether its libvirt answers: of a process outside our own process namespace, only the socket is seen."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(run_root() / name.removeprefix(PREFIX) / "libvirt-sock"))
        except OSError as error:
            return isinstance(error, TimeoutError)
    return True


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _files_are_gone(pid: int) -> bool:
    """Whether the private directory of the process's hypervisor was deleted: proc(5) marks its
    mount then, in the fourth field of mountinfo.
    """
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        return False
    mounts = (line.split() for line in lines)
    return any(words[4] == _PRIVATE and words[3].endswith("//deleted") for words in mounts)
