"""Saying what is going on: one line per stage, with elapsed time, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

Say = Callable[[str], None]
"""Takes one line for the user."""


def say(line: str) -> None:
    """Print one line for the user on standard error, at once."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is the place that prints


class Heartbeat:
    """Says every `every` seconds that `what` still goes on: stage, elapsed, last thing seen.

    Pass `beat` as `on_wait` to machine.waiting.wait_until.
    """

    def __init__(self, what: str, *, every: float = 10.0, say: Say = say) -> None:
        self._what = what
        self._every = every
        self._say = say
        self._next = every
        self._started = time.monotonic()

    def beat(self, elapsed: float, seen: str = "") -> None:
        """Take note that `elapsed` seconds have passed, and speak when it is time."""
        if elapsed >= self._next:
            self._next = elapsed + self._every
            self._say(f"  {self._what}: {elapsed:.0f} s{', ' + seen if seen else ''}")
