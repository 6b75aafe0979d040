"""Becoming the ssh client of a node: input, output, signals and exit status are the command's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from cli.lab import open_lab


def replace_by(stack: str, node: str, words: Sequence[str], *, tty: bool) -> NoReturn:
    """Replace this process by ssh running `words` on `node` (a login shell when there are none)."""
    argv = open_lab(stack).shell(node).exec_argv(list(words), tty=tty)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - no shell, and that is the point
