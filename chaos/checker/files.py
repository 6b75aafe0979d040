"""The checker's one door to the disk: a history file, and the watch events beside it."""

from __future__ import annotations

from pathlib import Path

from chaos.checker.errors import HistoryError
from chaos.checker.history_reader import read_history
from chaos.checker.model import History
from chaos.checker.verdict import Report, check
from chaos.checker.watch_reader import read_watch
from chaos.checker.watches import Event

WATCH = "watch.jsonl"


def load_history(path: Path) -> History:
    """Read a history file.

    Raises HistoryError when there is no such file, or with file and line when it is broken.
    """
    try:
        with path.open("rb") as lines:
            return read_history(lines, str(path))
    except OSError as error:
        raise HistoryError(
            f"Cannot read the history: {error.strerror}", where=str(path), next="Give the path of a history.jsonl."
        ) from None


def load_watch(path: Path) -> list[Event]:
    """Read a watch file.

    Raises HistoryError with file and line when it is broken.
    """
    try:
        with path.open("rb") as lines:
            return read_watch(lines, str(path))
    except OSError as error:
        raise HistoryError(
            f"Cannot read the watch record: {error.strerror}",
            where=str(path),
            next="Give read access to it, or move it away.",
        ) from None


def load_run(path: Path) -> tuple[History, list[Event]]:
    """A history file, and the events of the watch.jsonl beside it if there is one."""
    watch = path.with_name(WATCH)
    return load_history(path), load_watch(watch) if watch != path and watch.exists() else []


def check_file(path: Path, *, seconds: float) -> Report:
    """Check a history file, with the watch.jsonl beside it if there is one."""
    history, events = load_run(path)
    return check(history, events, seconds=seconds)
