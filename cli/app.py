"""The command line as a whole: which commands there are, and how any of them ends.

Exit status: 0 pass, 1 fail, 2 wrong usage or configuration, 3 inconclusive, 130 after Ctrl-C.
A command's module is light: whatever is heavy (pydantic, libvirt, rich) is imported by the
command's function, so that `./lab --help` answers in 0.3 s.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import typer

from machine.errors import LabError
from machine.log import say
from machine.words import ASKING, YES, command, take

COMMANDS: Final = (
    "verify",
    "test",
    "doctor",
    "setup",
    "env",
    "up",
    "destroy",
    "stop",
    "start",
    "status",
    "health",
    "ctl",
    "ssh",
    "logs",
    "fault",
    "heal",
    "check",
    "report",
    "sweep",
)
"""Modules of this package that hold a command, in the order in which `./lab --help` lists them."""

BUILDING: Final = frozenset({"verify", "up", "destroy", "stop", "start", "setup"})
BREAKING: Final = frozenset({"verify", "fault", "heal"})

EXIT_INTERRUPTED: Final = 130


def build() -> typer.Typer:
    """Every command of `./lab`, each registered by its module."""
    app = typer.Typer(
        name="lab",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def common() -> None:
        """Build an etcd cluster on real machines, break it, and check what it did.

        Commands about one lab take --stack NAME (default: lab); all take --debug (traceback of an error) and --yes
        (install packages that are missing without asking).
        """

    for name in COMMANDS:
        importlib.import_module(f"cli.{name}").register(app)
    return app


def take_debug(words: Sequence[str]) -> tuple[list[str], bool]:
    """`words` without `--debug`, and whether it was there.

    >>> take_debug(["up", "--debug"])
    (['up'], True)
    """
    return take(words, "--debug")


def left_by(words: Sequence[str]) -> str:
    """What a command that was interrupted may have left, and what goes on from there; nothing where it only looks.

    >>> left_by(["fault", "inject", "kill"])
    ' A fault may be half-made or half-healed: ./lab heal mends all.'
    >>> left_by(["status"])
    ''
    """
    name = command(words)
    half = []
    if name in BREAKING:
        half.append("A fault may be half-made or half-healed: ./lab heal mends all.")
    if name in BUILDING:
        half.append("What was being built may be half-made: ./lab up goes on, ./lab destroy clears it.")
    return "".join(f" {text}" for text in half)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status; an error is one paragraph on standard error."""
    words, debug = take_debug(sys.argv[1:] if argv is None else argv)
    if command(words) not in ASKING:  # the launcher has asked, or not; nothing else does
        words, _ = take(words, YES)
    try:
        build()(args=words, prog_name="./lab")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == EXIT_INTERRUPTED:
            say(f"Interrupted.{left_by(words)}")
        return code
    except LabError as error:
        if debug:
            traceback.print_exc()
        say(f"Error: {error}")
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last resort: a defect of ours, told in one paragraph
        if debug:
            traceback.print_exc()
            return 1
        say(f"Error: {type(error).__name__}: {error}. This is a defect of the lab; --debug shows where.")
        return 1
    return 0
