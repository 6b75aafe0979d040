"""What a fault's provider tells the process that asked the engine: a private file per action, read once.

The engine hands nothing back from a delete, and of a failed create only a text. So the provider leaves the result with
its proof, or the error, under machine.paths.StackPaths.faults, and who asked takes it away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.faults.base import Action, Result
from machine import errors
from machine.errors import LabError
from machine.paths import StackPaths
from machine.process import write_private


@dataclass(frozen=True, slots=True)
class Told:
    """What the providers told: results in the order of their end, and errors by action and fault id."""

    results: tuple[Result, ...] = ()
    failed: dict[str, LabError] = field(default_factory=dict)


def directory(paths: StackPaths) -> Path:
    """Where the files are."""
    return paths.faults / "results"


def clear(paths: StackPaths) -> None:
    """Remove what nobody has taken (its reader was killed)."""
    for path in directory(paths).glob("*.json") if directory(paths).is_dir() else ():
        path.unlink(missing_ok=True)


def leave(paths: StackPaths, result: Result) -> None:
    """Leave the result of an action."""
    _write(paths, result.action, result.id, {"result": result.as_json()})


@contextmanager
def errors_left(paths: StackPaths, action: Action, fault_id: str) -> Iterator[None]:
    """Leave an error of ours that ends the block, and let it pass."""
    try:
        yield
    except LabError as error:
        said = {"kind": type(error).__name__, "what": error.what, "where": error.where, "next": error.next}
        _write(paths, action, fault_id, {"error": said})
        raise


def take(paths: StackPaths) -> Told:
    """All that was left, removed from disk."""
    found: list[Result] = []
    failed: dict[str, LabError] = {}
    for path in sorted(directory(paths).glob("*.json")) if directory(paths).is_dir() else ():
        data = json.loads(path.read_text())
        path.unlink()
        if said := data.get("error"):
            failed[path.stem] = _error(said)
        else:
            found.append(Result.from_json(data["result"]))
    return Told(tuple(sorted(found, key=lambda result: result.ended_ns)), failed)


def _write(paths: StackPaths, action: Action, fault_id: str, data: dict[str, Any]) -> None:
    write_private(directory(paths) / f"{action}.{fault_id}.json", json.dumps(data))


def _error(said: dict[str, str]) -> LabError:
    """The error of that class where it is made like a LabError; else a LabError with the same words."""
    kind = getattr(errors, said["kind"], None)
    plain = LabError
    if isinstance(kind, type) and issubclass(kind, LabError) and "__init__" not in vars(kind):
        plain = kind
    return plain(said["what"], where=said["where"], next=said["next"])
