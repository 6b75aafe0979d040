"""`./lab ctl NODE ARG…`: etcdctl on a node, its exit status, input and output passed through."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from cli.options import DEFAULT_STACK, NodeArgument, StackOption

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
"""Words after the node are somebody else's, options too."""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(context_settings=PASS_ON)
    def ctl(
        node: NodeArgument,
        words: Annotated[list[str] | None, typer.Argument(metavar="ARG…", help="Words for etcdctl.")] = None,
        stack: StackOption = DEFAULT_STACK,
    ) -> None:
        """Run etcdctl on a node: ./lab ctl etcd1 get key."""
        from cli.remote import replace_by

        replace_by(stack, node, command(without_dashes(words)), tty=False)


def without_dashes(words: list[str] | None) -> list[str]:
    """`words` without the `--` that may part them from the node."""
    found = list(words or [])
    return found[1:] if found[:1] == ["--"] else found


def command(words: list[str]) -> list[str]:
    """Words for the node's shell that run etcdctl with the node's environment file; every word arrives as it was typed.

    Not for a shell of their own: starting one takes 0.1 s in an emulated guest.
    """
    from infra.layout import ENV_FILE

    script = f"set -a; . {ENV_FILE}; exec etcdctl {shlex.join(words)}"
    return ["eval", script]
