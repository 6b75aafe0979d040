"""Running one program as if the user had typed it: it owns the terminal, and Ctrl-C reaches it once.

The program gets a process group of its own, which is made the terminal's foreground group, as a
shell does. A SIGINT or SIGTERM for us (from a supervisor, or `kill`) is passed on once as SIGINT, so
that the program ends in its own orderly way; a second one is passed on as SIGTERM. When we are killed
outright, the program ends too, with all that it started (machine.process.ends_with_us).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from machine.errors import DeadlineError, ToolError
from machine.process import ends_with_us, guard_children

GRACE_SECONDS: Final = 10.0
"""What a program gets after SIGINT, and again after SIGTERM, when its time is up."""


def run(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, seconds: float | None = None, gently: float = 0.0
) -> int:
    """Run `argv` with the terminal until it ends, at most `seconds` if given; its exit status, or 128 + signal number.

    When we are killed, it is killed with its whole tree; with `gently`, it gets SIGINT first and that many seconds.
    Raises KeyboardInterrupt after the program has ended, when it was interrupted on the way; DeadlineError after it
    was ended because its time was up.
    """
    terminal = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None

    def prepare() -> None:
        os.setpgid(0, 0)
        if terminal is not None:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            with contextlib.suppress(OSError):
                os.tcsetpgrp(terminal, os.getpid())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        # A shell without job control starts what runs in its background with SIGINT ignored, for good.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    guard_children()
    try:
        child = subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=None if terminal is not None else subprocess.DEVNULL,
            preexec_fn=prepare,  # noqa: PLW1509 - no other thread runs here
        )
    except FileNotFoundError as error:
        raise ToolError(f"{argv[0]} is not installed", next="Run ./lab setup.") from error
    with _passing_on(child) as interrupted, _terminal_back(terminal):
        ends_with_us(child.pid, signal.SIGINT if gently else signal.SIGKILL, gently)
        status = _wait(child, seconds)
    if status is None:
        raise DeadlineError(f"{argv[0]} did not end", seconds=seconds or 0.0)
    if interrupted() or status == -signal.SIGINT:
        raise KeyboardInterrupt
    return status if status >= 0 else 128 - status


def _wait(child: subprocess.Popen[bytes], seconds: float | None) -> int | None:
    """Its exit status; None when it had to be ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.wait(seconds)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
            break
    return None


@contextlib.contextmanager
def _passing_on(child: subprocess.Popen[bytes]) -> Iterator[Callable[[], bool]]:
    """Pass our signals on to `child`; gives a function that tells whether there was one."""
    seen: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGINT if len(seen) == 1 else signal.SIGTERM)

    wanted = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        wanted.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in wanted}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _terminal_back(terminal: int | None) -> Iterator[None]:
    """Take the terminal back at the end; without SIGTTOU ignored, doing so would stop us."""
    try:
        yield
    finally:
        if terminal is not None:
            before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            with contextlib.suppress(OSError):
                os.tcsetpgrp(terminal, os.getpgrp())
            signal.signal(signal.SIGTTOU, before)
