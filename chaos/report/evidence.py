"""What a scenario left beside the report: `scenarios/ID/{history,samples,events}.jsonl`, each of which may be missing.

Lines that are no JSON object (the last one of a run that was killed) are left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

FILES: Final = ("history", "samples", "events")

MEANING: Final = {
    "history": "operations of the recording clients",
    "samples": "samples of each member's leader, term and figures",
    "events": "events from etcd's logs",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """Records of one scenario, by time; `lacking` says in words what is not there."""

    history: tuple[Mapping[str, Any], ...] = ()
    samples: tuple[Mapping[str, Any], ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()
    lacking: tuple[str, ...] = field(default=())


def read(directory: Path) -> Evidence:
    """Read what is there."""
    lacking: list[str] = []
    history = _read(directory, "history", _is_operation, lacking)
    samples = _read(directory, "samples", _is_dated, lacking)
    events = _read(directory, "events", _is_dated, lacking)
    return Evidence(
        tuple(sorted(history, key=lambda op: op["invoke_ns"])),
        tuple(sorted(samples, key=lambda one: one["at_ns"])),
        tuple(sorted(events, key=lambda one: one["at_ns"])),
        tuple(lacking),
    )


def _read(
    directory: Path, name: str, wanted: Callable[[Mapping[str, Any]], bool], lacking: list[str]
) -> list[Mapping[str, Any]]:
    try:
        lines = (directory / f"{name}.jsonl").read_bytes().splitlines()
    except OSError:
        lacking.append(f"no {MEANING[name]}")
        return []
    found: list[Mapping[str, Any]] = []
    bad = 0
    for line in lines:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            bad += 1
            continue
        if not isinstance(record, dict):
            bad += 1
        elif wanted(record):
            found.append(record)
        elif "meta" not in record:
            bad += 1
    if bad:
        lacking.append(f"{bad} of {len(lines)} lines of {name}.jsonl cannot be read")
    elif not found:
        lacking.append(f"no {MEANING[name]}: {name}.jsonl is empty")
    return found


def _is_operation(record: Mapping[str, Any]) -> bool:
    return isinstance(record.get("invoke_ns"), int)


def _is_dated(record: Mapping[str, Any]) -> bool:
    return isinstance(record.get("at_ns"), int)
