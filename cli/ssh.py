"""`./lab ssh NODE [CMD…]`: a shell, or one command, on a node."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli.ctl import PASS_ON, without_dashes
from cli.options import DEFAULT_STACK, NodeArgument, StackOption


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(context_settings=PASS_ON)
    def ssh(
        node: NodeArgument,
        words: Annotated[list[str] | None, typer.Argument(metavar="CMD…", help="What to run; none: a shell.")] = None,
        stack: StackOption = DEFAULT_STACK,
    ) -> None:
        """Log in to a node as root, or run one command there."""
        from cli.remote import replace_by

        found = command(without_dashes(words))
        replace_by(stack, node, found, tty=not found and sys.stdin.isatty())


def command(words: list[str]) -> list[str]:
    """One word is a piece of shell, as with ssh itself; several arrive as they were typed.

    >>> command(["ls | wc -l"])
    ['sh', '-c', 'ls | wc -l']
    """
    return ["sh", "-c", *words] if len(words) == 1 else words
