"""A history as users of the library make it: from operations in memory, or from a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Self

from chaos.checker import files, history_reader, model


class History(model.History):
    """Recorded operations, ready for `chaos.checker.check`."""

    @classmethod
    def from_operations(
        cls, operations: Iterable[Mapping[str, object]], meta: Mapping[str, object] | None = None
    ) -> Self:
        """A history of operations, each with the fields of a line of history.jsonl (docs/checker.md).

        `meta` has the fields of a first line's `meta`: base_revision, initial, closed_world. Raises HistoryError, with
        the operation's number from 1 on, for a field that is broken or not covered.
        """
        return cls._of(history_reader.from_operations(operations, meta))

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """The history of a file in the lab's own format. Raises HistoryError, with file and line."""
        return cls._of(files.load_history(Path(path)))

    @classmethod
    def _of(cls, read: model.History) -> Self:
        return cls(**{one.name: getattr(read, one.name) for one in fields(read) if one.init})
