"""From a path to a history: which file of a folder is meant, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chaos.checker.errors import HistoryError
from chaos.checker.formats import robustness
from chaos.checker.formats.broken import BrokenLineError
from chaos.checker.formats.foreign import Choices, Foreign
from chaos.checker.formats.registry import BINARY, HEAD, MAGIC, OURS, ROBUSTNESS, broken, read, recognise

HISTORY = "history.jsonl"
EDN = "history.edn"
LATEST = ("latest", "current")
"""Links that Jepsen and Maelstrom keep in their store."""
DEEP = 6
"""Folders within each other that are searched (store/NAME/TIME/history.edn has 3)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file, or the folder of a format that is one, and its format."""

    path: Path
    format: str


def find(path: Path, form: str = "auto") -> Place:
    """What is to be read at `path`, and its format.

    Raises HistoryError when there is nothing, more than one history, or Jepsen's binary store.
    """
    try:
        if path.is_dir():
            if form == ROBUSTNESS or (form == "auto" and robustness.clients(path)):
                return Place(path, ROBUSTNESS)
            return find(_inside(path), form)
    except OSError as error:
        raise HistoryError(
            f"Cannot read the folder: {error.strerror}",
            where=str(error.filename or path),
            next="Give read access to it.",
        ) from None
    if form == ROBUSTNESS:
        raise HistoryError("This is no folder", where=str(path), next="Give the folder that holds client-1, client-2 …")
    if path.name in robustness.FILES and path.parent.name.startswith(robustness.CLIENT):
        raise HistoryError(
            "This is one client's part of a report",
            where=str(path),
            next=f"Give the folder of all clients: {path.parent.parent}",
        )
    head = _bytes(path, HEAD)
    if path.name in BINARY or head.startswith(MAGIC):
        edn = path.with_name(EDN)
        there = f"Give the history.edn beside it: {edn}" if edn.exists() else "Give the history.edn of the same test."
        raise HistoryError("This is Jepsen's binary store, which only Clojure reads", where=str(path), next=there)
    if form != "auto":
        return Place(path, form)
    found = recognise(head)
    if found == OURS and not head.strip() and path.suffix in (".edn", ".log", ".txt", ".json"):
        raise HistoryError(
            "Broken history: the file is empty", where=f"{path}:1", next="Give the history of a test that ran."
        )
    return Place(path, found)


def open_foreign(place: Place, choices: Choices) -> Foreign:
    """Read what was found.

    Raises HistoryError with file and line for broken input.
    """
    if place.format == ROBUSTNESS:
        try:
            return robustness.read_report(_report(place.path), choices)
        except BrokenLineError as error:
            raise broken(str(place.path), ROBUSTNESS, error) from None
    return read(_bytes(place.path), str(place.path), place.format, choices)


def _report(folder: Path) -> dict[str, bytes]:
    """Files of a report's clients by their path in the folder."""
    found = robustness.clients(folder)
    if not found:
        raise HistoryError("There is no client-N/operations.json", where=str(folder), next="Give the report's folder.")
    return {str(path.relative_to(folder)): _bytes(path) for path in found}


def _inside(folder: Path) -> Path:
    """The one history in a folder."""
    for name in (HISTORY, EDN):
        if (folder / name).is_file():
            return folder / name
    for name in LATEST:
        if (folder / name).is_dir() and (folder / name / EDN).is_file():
            return folder / name / EDN
    found = sorted(_below(folder, DEEP))
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(str(path.relative_to(folder)) for path in found[:5]) + (", …" if len(found) > 5 else "")
        raise HistoryError(
            f"There are {len(found)} histories here: {several}", where=str(folder), next="Give one of them."
        )
    binary = [path for name in BINARY if (path := folder / name).exists()]
    if binary:
        return binary[0]
    raise HistoryError(
        "There is no history here",
        where=str(folder),
        next="Give a history file, or a folder with one (docs/checker.md).",
    )


def _below(folder: Path, deep: int) -> set[Path]:
    """Histories below a folder, each once (links lead to the same file)."""
    found: set[Path] = set()
    for path in folder.iterdir():
        if path.is_symlink():
            continue
        if path.is_dir() and deep:
            found |= _below(path, deep - 1)
        elif path.name in (HISTORY, EDN):
            found.add(path)
    return found


def _bytes(path: Path, most: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise HistoryError(
            f"Cannot read the history: {error.strerror}", where=str(path), next="Give the path of a history."
        ) from None
