"""Undo records: on disk before a fault is made, gone after it is seen to be healed.

One JSON file per fault in machine.paths.StackPaths.faults. A runner that is killed in the middle of an injection
leaves the record, and `./lab heal` works from it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from chaos.faults.parameters import Param
from chaos.faults.targets import named
from machine.paths import StackPaths
from machine.process import write_private

SCHEMA = 2


@dataclass(frozen=True, slots=True)
class Record:
    """All that is needed to undo a fault, in any process, after any death."""

    id: str
    name: str
    lab_id: str
    groups: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]
    params: Mapping[str, Param]
    lease: int
    place: str
    written_ns: int
    boot_id: str
    """Boot of this host: monotonic times of another boot mean nothing."""
    pid: int
    """The process that made the fault."""
    schema: int = SCHEMA

    @property
    def nodes(self) -> tuple[str, ...]:
        """Every node that it speaks of."""
        return named(self.groups)


def boot_id() -> str:
    """The kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def write(paths: StackPaths, record: Record) -> Path:
    """Put `record` on disk, whole or not at all, synced with its directory."""
    path = _file(paths, record.id)
    write_private(path, json.dumps(asdict(record), indent=1) + "\n")
    _sync(path.parent)
    return path


def find(paths: StackPaths, fault_id: str) -> Record | None:
    """The record of one fault; None when there is none, or none that can be read."""
    try:
        return _parse(_file(paths, fault_id).read_text())
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def remove(paths: StackPaths, fault_id: str) -> None:
    """Forget a fault that is healed; nothing happens when there is no record."""
    _file(paths, fault_id).unlink(missing_ok=True)
    if paths.faults.is_dir():
        _sync(paths.faults)


def load_all(paths: StackPaths) -> tuple[list[Record], list[Path]]:
    """Every record, oldest first, and the files that are none (cut off, or of another schema)."""
    good: list[Record] = []
    bad: list[Path] = []
    for path in sorted(paths.faults.glob("*.json")) if paths.faults.is_dir() else []:
        try:
            good.append(_parse(path.read_text()))
        except FileNotFoundError:
            continue  # healed since it was listed
        except (ValueError, TypeError, KeyError):
            bad.append(path)
    return sorted(good, key=lambda record: record.written_ns), bad


def _file(paths: StackPaths, fault_id: str) -> Path:
    return paths.faults / f"{fault_id}.json"


def _parse(text: str) -> Record:
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError("not a record of this schema")
    data["groups"] = tuple(tuple(group) for group in data["groups"])
    data["words"] = tuple(data["words"])
    return Record(**data)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
