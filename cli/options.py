"""Arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from machine.paths import DEFAULT_STACK

StackOption = Annotated[
    str, typer.Option("--stack", metavar="NAME", envvar="ETCD_LAB_STACK", help="Which lab of this checkout.")
]
"""`stack: StackOption = DEFAULT_STACK` gives a command its `--stack NAME`; chaos/ knows the variable too."""

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Name of a node, such as etcd1.")]

__all__ = ["DEFAULT_STACK", "NodeArgument", "StackOption"]
