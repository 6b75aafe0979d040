"""`./lab logs NODE [-f]`: etcd's log on a node."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_STACK, NodeArgument, StackOption


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def logs(
        node: NodeArgument,
        follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines come.")] = False,
        lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines.")] = 200,
        stack: StackOption = DEFAULT_STACK,
    ) -> None:
        """Show etcd's log of a node."""
        from cli.remote import replace_by

        words = ["journalctl", "--no-pager", "--unit", "etcd", "--lines", str(lines)]
        replace_by(stack, node, [*words, "--follow"] if follow else words, tty=False)
