"""Copies of members' logs as they lie beside a history, in `wal/`, and the note that says what they are.

`wal/MEMBER/*.wal` are etcd's own files without their empty rest; `wal/about.json` names all members that vote, the
index up to which nothing of the history stands in a log, and why a member's log is not there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chaos.checker.errors import HistoryError, WalError
from chaos.checker.raftlog.wal_reader import Log, read_log

NAME: Final = "wal"
"""The directory, beside the history."""

ABOUT: Final = "about.json"


@dataclass(frozen=True, slots=True)
class Copies:
    """Logs that could be read, of a cluster of so many voting members."""

    logs: tuple[Log, ...]
    members: int
    base_index: int
    """Nothing of the history was written at or before it."""
    missed: Mapping[str, str] = field(default_factory=dict)
    """Member -> why its log is not used."""


def keep(directory: Path, member: str, files: Sequence[tuple[str, bytes]]) -> None:
    """Write one member's files (name, content) down."""
    into = directory / member
    into.mkdir(parents=True, exist_ok=True)
    for name, data in files:
        (into / name).write_bytes(data)


def note(directory: Path, members: Sequence[str], base_index: int, missed: Mapping[str, str]) -> None:
    """Write down what the copies are."""
    directory.mkdir(parents=True, exist_ok=True)
    about = {"members": list(members), "base_index": base_index, "missed": dict(missed)}
    (directory / ABOUT).write_text(json.dumps(about, indent=1) + "\n")


def load(directory: Path) -> Copies:
    """Read copies; a log that is broken is left out, and named.

    Raises HistoryError when the note is missing or broken.
    """
    path = directory / ABOUT
    try:
        about = json.loads(path.read_text())
        members, base_index = [str(name) for name in about["members"]], int(about["base_index"])
        missed = {str(name): str(why) for name, why in about["missed"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise HistoryError(
            f"The note on the copies of the members' logs cannot be read: {why}",
            where=str(path),
            next=f"Move {directory} away to check the history without them.",
        ) from None
    logs = []
    for member in members:
        if member in missed:
            continue
        try:
            files = [(file.name, file.read_bytes()) for file in sorted((directory / member).glob("*.wal"))]
            if not files:
                raise WalError(f"There is no copy in {directory / member}")
            logs.append(read_log(member, files))
        except (WalError, OSError) as error:
            missed[member] = str(error)
    return Copies(tuple(logs), len(members), base_index, missed)
