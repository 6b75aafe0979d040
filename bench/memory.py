"""Memory of our own processes: the children of a command, without machines and without compilers."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

LEFT_OUT = ("qemu-system", "compile", "link", "asm", "go", "mmdebstrap", "apt-get")
"""Programs that are not ours: virtual machines, Go builds, the making of an image."""


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # ended meanwhile
            found[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return found


def _ours(root: int) -> list[int]:
    parents = _parents()
    ours = []
    for pid in parents:
        step = pid
        while step > 1 and step != root:
            step = parents.get(step, 0)
        if step == root and pid != root:
            ours.append(pid)
    return ours


def _pss_kib(pid: int) -> int:
    """Proportional set size, KiB: shared pages count once over all who share them (proc(5))."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        if name.startswith(LEFT_OUT):
            return 0
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass  # ended meanwhile
    return 0


class PeakMemory:
    """Samples, while it is entered, the memory of everything that this process has started.

    `peak_mib` is the largest sum seen, in MiB, at a sample each 0.3 s.
    """

    def __init__(self, every: float = 0.3) -> None:
        self.peak_mib = 0.0
        self._every = every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._done.wait(self._every):
            total = sum(_pss_kib(pid) for pid in _ours(os.getpid()))
            self.peak_mib = max(self.peak_mib, total / 1024)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
