"""Drawing on the terminal: rich where a person looks, plain lines where a program reads."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence


def is_terminal() -> bool:
    """Whether a person looks at standard output (and TERM can draw)."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def is_interactive() -> bool:
    """Whether somebody is there to answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def line(text: str = "") -> None:
    """Print one line of a command's answer on standard output."""
    print(text, flush=True)  # noqa: T201 - this is the place that prints


def columns() -> int | None:
    """Width of the terminal; None where a program reads."""
    return shutil.get_terminal_size().columns if is_terminal() else None


def show_cursor() -> None:
    """Make the terminal's cursor visible again (DECTCEM), whoever hid it."""
    sys.stdout.write("\x1b[?25h")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print `rows` under `columns`: a drawn table on a terminal, aligned columns otherwise.

    rich itself honours NO_COLOR; the plain form never has colours.
    """
    if not is_terminal():
        for text in plain_table(columns, rows):
            line(text)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title or None, box=box.ROUNDED, title_justify="left")
    for column in columns:
        drawn.add_column(Text(column))
    for row in rows:
        drawn.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    Console().print(drawn)


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The table as lines of aligned columns, two spaces apart.

    >>> plain_table(["NODE", "OK"], [["etcd1", "yes"]])
    ['NODE   OK', 'etcd1  yes']
    """
    whole = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(cells[index]) for cells in whole) for index in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in whole]


def confirm(question: str) -> bool:
    """Ask on the terminal; anything but yes is no."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


_STYLES = {
    "pass": "green",
    "healthy": "green",
    "ok": "green",
    "fail": "bold red",
    "unhealthy": "bold red",
    "unreachable": "bold red",
    "missing": "bold red",
    "inconclusive": "yellow",
    "degraded": "yellow",
    "warning": "yellow",
}


def _style(cell: str) -> str:
    return _STYLES.get(cell.lower(), "")
