"""What is wrong with a foreign history, before its file's name is known."""

from __future__ import annotations


class BrokenLineError(Exception):
    """Broken input: the line (from 1) and what is wrong with it; `registry` turns it into a HistoryError."""

    def __init__(self, line: int, what: str, *, file: str = "") -> None:
        super().__init__(what)
        self.line = line
        self.what = what
        self.file = file
        """Path within the folder that was given, where there are several files."""


def line_of(content: bytes, at: int) -> int:
    """Line of a byte."""
    return content.count(b"\n", 0, at) + 1
