"""What the checker raises: a history, or a log beside it, that cannot be read."""

from __future__ import annotations


class HistoryError(ValueError):
    """A history cannot be read or judged: `what` is wrong, `where` (file and line), and what to do `next`.

    >>> print(HistoryError("op is missing", where="h.jsonl:3", next="Name the operation."))
    op is missing (h.jsonl:3). Name the operation.
    """

    def __init__(self, what: str, *, where: str = "", next: str = "") -> None:  # noqa: A002 - the word users see
        super().__init__(what)
        self.what = what.rstrip(". ")
        self.where = where
        self.next = next

    def __str__(self) -> str:
        text = f"{self.what} ({self.where})." if self.where else f"{self.what}."
        return f"{text} {self.next}" if self.next else text


class WalError(HistoryError):
    """A log cannot be read, or contradicts another one."""
