"""Options of ./lab itself among the words of a command line. Standard library only: the launcher looks for them too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PASSED_ON: Final = frozenset({"ctl", "ssh"})
"""Commands whose words go to another program, options and all."""

YES: Final = "--yes"
"""Do not ask before packages are installed."""

ASKING: Final = frozenset({"sweep"})
"""Commands with a question of their own, which get `--yes` too."""


def take(words: Sequence[str], option: str) -> tuple[list[str], bool]:
    """`words` without `option`, and whether it was there.

    What follows `--`, and what follows the node of a command that passes words on, is left alone.

    >>> take(["up", "--debug"], "--debug")
    (['up'], True)
    >>> take(["ctl", "etcd1", "--debug", "get", "x"], "--debug")
    (['ctl', 'etcd1', '--debug', 'get', 'x'], False)
    """
    rest = list(words)
    found = command(rest)
    first = rest.index(found) if found else 0
    for index, word in enumerate(rest):
        if word == option:
            return rest[:index] + rest[index + 1 :], True
        after_stack = index > 0 and rest[index - 1] == "--stack"
        is_node = found in PASSED_ON and index > first and not word.startswith("-") and not after_stack
        if word == "--" or is_node:
            break
    return rest, False


def command(words: Sequence[str]) -> str:
    """The command among the words; "" when there is none.

    >>> command(["--yes", "up", "--stack", "a"])
    'up'
    """
    return next((word for word in words if not word.startswith("-")), "")
