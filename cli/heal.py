"""`./lab heal`: mend all that faults broke, from whatever state, without the Pulumi engine."""

from __future__ import annotations

import typer

from cli.options import DEFAULT_STACK, StackOption
from machine.log import say


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def heal(stack: StackOption = DEFAULT_STACK) -> None:
        """Lift every fault, start what is off, and wait until every member is healthy."""
        from chaos.heal.heal import heal as mend
        from cli.lab import open_lab
        from cli.terminal import line

        lab = open_lab(stack, awake=True)
        say(f"Looking for faults on the lab {stack!r}.")
        found = mend(lab.manifest, lab.paths, say)
        failed = [item for item in found if not item.ok]
        left = f", {len(failed)} left" if failed else ""
        line(f"{len(found)} found, {len(found) - len(failed)} mended{left}; all members of the lab are healthy.")
        if failed:
            raise typer.Exit(1)
