"""Running programs: with a deadline, with the end of their output when they fail, in a namespace, ended with us."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from machine import guard
from machine.errors import DeadlineError, ToolError

TAIL_LINES = 20


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that ended: its words, exit status, and both outputs as text.

    >>> run(["printf", "hi"]).stdout
    'hi'
    """

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it ended with status 0."""
        return self.status == 0


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last `lines` lines of `text`."""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def in_netns(netns: str | None, argv: Sequence[str]) -> list[str]:
    """`argv` as it runs inside the network namespace `netns` (None: unchanged)."""
    if netns is None:
        return list(argv)
    return ["nsenter", f"--net=/run/netns/{netns}", "--", *argv]


def run(
    argv: Sequence[str],
    *,
    seconds: float = 60.0,
    check: bool = True,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    netns: str | None = None,
    next: str = "",  # noqa: A002 - the word of LabError
) -> Completed:
    """Run `argv` to its end, at most `seconds`; `env` is added to the environment.

    Raises ToolError when it cannot be started, or ends with another status than 0 and `check`
    is set; DeadlineError when it takes too long (it is killed then).
    """
    words = in_netns(netns, argv)
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env={**os.environ, **env} if env is not None else None,
            cwd=cwd,
            check=False,
        )
    except FileNotFoundError as error:
        raise ToolError(f"{argv[0]} is not installed", next="See ./lab doctor.") from error
    except subprocess.TimeoutExpired as error:
        seen = error.stderr or error.stdout or b""
        text = seen.decode(errors="replace") if isinstance(seen, bytes) else seen
        raise DeadlineError(f"{argv[0]}", seconds=seconds, last=tail(text, 5), next=next) from error
    completed = Completed(tuple(argv), done.returncode, done.stdout, done.stderr)
    if check and not completed.ok:
        raise ToolError(
            f"{argv[0]} ended with status {completed.status}",
            where=" ".join(argv)[:200],
            next=next,
            tail=tail(completed.stderr or completed.stdout),
        )
    return completed


class _Guard:
    """The program that outlives this process by a moment, and ends its children (machine/guard.py)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: IO[bytes] | None = None
        self._owner = 0

    def tell(self, line: str) -> None:
        with self._lock:
            if self._orders is None or self._owner != os.getpid():  # a fork has none of its own
                self._orders, self._owner = self._start(), os.getpid()
            try:
                self._orders.write(line.encode())
            except BrokenPipeError:  # somebody ended it
                self._orders = self._start()
                self._orders.write(line.encode())

    @staticmethod
    def _start() -> IO[bytes]:
        started = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            start_new_session=True,  # neither Ctrl-C nor a terminal that is closed ends it
        )
        started.returncode = 0  # it ends after us: nothing here waits for it
        assert started.stdin is not None  # noqa: S101 - it is a pipe
        return started.stdin


_GUARD: Final = _Guard()


def guard_children() -> None:
    """Start what `ends_with_us` needs, so that it takes no time once there is a child."""
    _GUARD.tell("")


def ends_with_us(pid: int, number: int = signal.SIGKILL, seconds: float = 0.0) -> None:
    """Have the child `pid`, and all below it, end when this process does, also by SIGKILL.

    It gets the signal `number`; what is left of it after `seconds` is killed. Daemons that it started stay. For
    children that run long; the others end by themselves.
    """
    if found := guard.stat(pid):
        _GUARD.tell(f"{pid} {found[1]} {int(number)} {seconds}\n")


@contextlib.contextmanager
def exclusive(path: Path, *, blocking: bool = True) -> Iterator[None]:
    """Hold the lock file `path`; the kernel drops the lock when the holder dies.

    Raises BlockingIOError when another process holds it and `blocking` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        yield


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Write `text` to `path` whole or not at all, readable by the owner alone from the first byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "w") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
