"""Waiting on a condition, with a deadline and the last thing seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from machine.errors import DeadlineError

T = TypeVar("T")


class Pending(Exception):  # noqa: N818 - not an error: "not yet", with the reason
    """Raised by a probe to say "not yet"; the text is what was seen."""


def wait_until(
    probe: Callable[[], T],
    what: str,
    *,
    seconds: float,
    every: float = 0.25,
    where: str = "",
    next: str = "",  # noqa: A002 - the word of LabError
    on_wait: Callable[[float, str], None] | None = None,
) -> T:
    """Call `probe` until it returns, and give what it returned.

    `probe` raises `Pending("what it saw")` while the condition does not hold; any other
    exception ends the wait at once. `seconds` is the limit, `every` the pause between two
    calls, both in seconds. `on_wait(elapsed_seconds, last_seen)` is called after each miss.

    Raises DeadlineError with the last thing seen.
    """
    started = time.monotonic()
    while True:
        try:
            return probe()
        except Pending as seen:
            last = str(seen)
        elapsed = time.monotonic() - started
        if elapsed >= seconds:
            raise DeadlineError(what, seconds=seconds, last=last, where=where, next=next)
        if on_wait is not None:
            on_wait(elapsed, last)
        time.sleep(min(every, max(0.0, seconds - elapsed)))
