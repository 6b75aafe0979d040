"""The lock of a lab: one process at a time may break it, heal it or change it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from machine.errors import UsageError
from machine.holder import Holder
from machine.paths import StackPaths
from machine.process import exclusive
from machine.waiting import Pending, wait_until

ENDING_SECONDS = 15.0
"""How long a run whose ./lab was killed may take to end: an engine gets cli.foreground.GRACE_SECONDS of these."""


@contextlib.contextmanager
def exclusive_use(paths: StackPaths, what: str) -> Iterator[None]:
    """Be the only one that breaks this lab; raises UsageError, saying so, when another run does.

    `what` is what the caller wants to do. The kernel frees the lock when its holder dies. A holder whose ./lab was
    killed is about to be ended (machine.guard), and is waited for.
    """
    path = paths.faults / "run.lock"
    with contextlib.ExitStack() as held:

        def take() -> None:
            try:
                held.enter_context(exclusive(path, blocking=False))
            except BlockingIOError:
                holder = Holder.read(path)
                if holder is not None and not holder.alive:
                    raise Pending(f"what {holder.command} left is there") from None
                raise UsageError(
                    f"Another run plays on the lab {paths.stack!r} now, so this one may not {what}"
                    + (f": {holder}" if holder else ""),
                    where=str(path),
                    next=f"Wait for its end, or end it{f' with {holder.how_to_end}' if holder else ''};"
                    " ./lab heal mends what it leaves.",
                ) from None

        wait_until(
            take,
            f"A killed run on the lab {paths.stack!r} did not end",
            seconds=ENDING_SECONDS,
            every=0.05,
            where=str(path),
            next=f"fuser {path} names the processes that are left: end them, and run the command again.",
        )
        Holder.of_this_process().write(path)
        yield
