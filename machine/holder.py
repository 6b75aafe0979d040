"""Who holds a lock: written into the lock file, for whoever is refused: what runs, since when, how to end it."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from machine import guard


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, and the ./lab command that it works for: itself, or the one that started it."""

    pid: int
    started: int
    """In clock ticks since boot: a process number may be given again."""
    command: str

    @classmethod
    def of_this_process(cls) -> Self:
        """This process; where a ./lab started it (pytest by ./lab verify), that one."""
        for pid in (os.getppid(), os.getpid()):
            words, found = _words(pid), guard.stat(pid)
            if found and (pid == os.getpid() or ["-m", "cli"] in (words[1:3], words[2:4])):
                return cls(pid, found[1], as_typed(words))
        raise AssertionError("this process runs")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What a lock file says; None when it says nothing that can be read."""
        try:
            said = json.loads(path.read_text())
            return cls(int(said["pid"]), int(said["started"]), str(said["command"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Write it down; the caller holds the lock."""
        path.write_text(json.dumps({"pid": self.pid, "started": self.started, "command": self.command}) + "\n")

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        found = guard.stat(self.pid)
        return found is not None and found[1] == self.started

    @property
    def seconds(self) -> float:
        """For how long it has run."""
        up = float(Path("/proc/uptime").read_text().split()[0])
        return max(0.0, up - self.started / os.sysconf("SC_CLK_TCK"))

    def __str__(self) -> str:
        return f"{self.command} (process {self.pid}, started {age(self.seconds)} ago)"

    @property
    def how_to_end(self) -> str:
        """The command that ends it in good order, as Ctrl-C would where it runs."""
        return f"kill {self.pid}" if _ignores_interrupts(self.pid) else f"kill -INT {self.pid}"


def as_typed(words: Sequence[str]) -> str:
    """A command line as the user typed it, without the interpreter.

    >>> as_typed(["/x/.venv/bin/python", "-P", "-m", "cli", "verify", "--scenarios", "seed and not slow"])
    "./lab verify --scenarios 'seed and not slow'"
    >>> as_typed(["/x/.venv/bin/python", "/x/.venv/bin/pytest", "chaos/"])
    'pytest chaos/'
    """
    rest = list(words)
    if rest and Path(rest[0]).name.startswith("python"):
        rest = rest[1:]
        while rest and rest[0].startswith("-") and rest[0] not in {"-m", "-c"}:
            rest = rest[1:]
        if rest[:1] == ["-m"]:
            rest = rest[1:]
        if rest[:1] == ["cli"]:
            rest[0] = "./lab"
    if rest and rest[0] != "./lab":
        rest[0] = Path(rest[0]).name
    return shlex.join(rest)[:200]


def age(seconds: float) -> str:
    """A time as people say it.

    >>> [age(7.2), age(190), age(7500)]
    ['7 s', '3 min', '2 h 5 min']
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def _ignores_interrupts(pid: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    ignored = next((int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:")), 0)
    return bool(ignored >> (signal.SIGINT - 1) & 1)
