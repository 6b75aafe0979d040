"""The lock of a lab: one process at a time may break it, heal it or change it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from machine.errors import UsageError
from machine.paths import StackPaths
from machine.process import exclusive


@contextlib.contextmanager
def alone(paths: StackPaths, what: str) -> Iterator[None]:
    """Be the only one that breaks this lab; raises UsageError, saying so, when another run does.

    `what` is what the caller wants to do. The kernel frees the lock when its holder dies.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(exclusive(paths.faults / "run.lock", blocking=False))
        except BlockingIOError:
            raise UsageError(
                f"Another run plays on the lab {paths.stack!r} now, so this one may not {what}",
                where=str(paths.faults / "run.lock"),
                next="Wait for its end, or end it; ./lab heal mends what it leaves.",
            ) from None
        yield
