"""`./lab start`: switch the machines on and wait until the cluster is healthy."""

from __future__ import annotations

import time

import typer

from cli.options import DEFAULT_STACK, StackOption


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def start(stack: StackOption = DEFAULT_STACK) -> None:
        """Switch the machines on again and wait until every member is healthy."""
        from chaos.lab.lock import exclusive_use
        from cli.lab import open_lab
        from cli.revive import power_on, wait_healthy
        from machine.log import say

        lab = open_lab(stack, awake=True)
        started = time.monotonic()
        with exclusive_use(lab.paths, "start its machines"):  # a run may have cut their power
            woken = power_on(lab)
            say(f"Switched on: {', '.join(woken)}." if woken else "The machines are on already.")
            wait_healthy(lab)
        say(f"All members are healthy: {time.monotonic() - started:.1f} s.")
