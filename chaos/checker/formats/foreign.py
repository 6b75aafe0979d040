"""What a reader of a format gives: our operations with the lines they came from, or why they cannot be judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from chaos.checker.errors import HistoryError
from chaos.checker.history_reader import from_operations
from chaos.checker.model import History
from chaos.checker.watch_reader import read_watch
from chaos.checker.watches import Event

Operation = dict[str, Any]
"""The fields of one line of history.jsonl (docs/checker.md); `append` exists only here."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user may say of a history that the history does not say of itself."""

    model: str = "auto"
    initial: str | int | None = None
    """Value of every key before the first operation."""
    initial_given: bool = False
    failed_cas: str = "ignored"
    """`ignored`: a cas that failed did not happen, whatever the reason; `refused`: its key did not hold the value."""
    given: bool = False
    """Whether any of these was asked for."""


@dataclass(slots=True)
class Foreign:
    """A history that was read."""

    format: str
    model: str
    operations: list[Operation] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    """Line of each operation in its file."""
    files: list[str] | None = None
    """File of each operation, where there are several."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    watch: list[dict[str, Any]] = field(default_factory=list)
    """Lines of a watch.jsonl."""
    undecided: str = ""
    """Why none of our models can decide it."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the verdict has to know."""

    @property
    def appends(self) -> bool:
        """Whether values are appended to, which the machine of the checker does not know."""
        return any(one["op"] == "append" for one in self.operations)

    def history(self, name: str) -> History:
        """As the checker takes it, with the lines of the file that was read.

        Raises HistoryError.
        """
        try:
            history = from_operations(self.operations, self.meta or None, name=name)
        except HistoryError as error:
            _, _, number = error.where.rpartition(":")
            row = int(number) - 1 if number.isdigit() else -1
            where = self._where(name, row) if 0 <= row < len(self.lines) else name
            raise HistoryError(error.what, where=where, next="Check the file as its own tool would.") from None
        if self.files is None:
            history.line = np.array(self.lines, np.int64)
        return history

    def events(self, name: str) -> list[Event]:
        """The watch events.

        Raises HistoryError.
        """
        return read_watch([orjson.dumps(line) for line in self.watch], name)

    def _where(self, name: str, row: int) -> str:
        file = f"{name}/{self.files[row]}" if self.files else name
        return f"{file}:{self.lines[row]}"
