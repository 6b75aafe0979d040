"""Becoming the ssh client of a node: input, output, signals and exit status are the command's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from cli.lab import open_lab

LOGIN_SHELL: Final = ["exec", "-l", "bash"]
"""What ssh starts without a command; with its input a pipe or a file."""


def replace_by(stack: str, node: str, words: Sequence[str], *, tty: bool) -> NoReturn:
    """Replace this process by ssh running `words` on `node` (a login shell when there are none).

    What runs there ends with it: by SIGHUP where there is a terminal, else by the watch beside it (machine.tether).
    """
    wanted = list(words) or ([] if tty else LOGIN_SHELL)
    argv = open_lab(stack).shell(node).exec_argv(wanted, tty=tty, ends_with_us=not tty)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - no shell, and that is the point
