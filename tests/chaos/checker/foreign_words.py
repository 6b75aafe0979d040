"""Histories of ours told in other tools' words, for the tests that compare verdicts."""

from __future__ import annotations

import json
from typing import Any

Line = dict[str, Any]
Event = tuple[str, Line]
"""invoke, ok, fail or info, of an operation."""


def events(lines: list[Line]) -> list[Event]:
    """Invocations and completions in order; what happened at one time was concurrent, so invocations come first."""
    found: list[tuple[int, int, int, Event]] = []
    for number, line in enumerate(line for line in lines if "op" in line):
        found.append((line["invoke_ns"], 0, number, ("invoke", line)))
        if line["outcome"] == "unknown":
            found.append((2**62, 1, number, ("info", line)))
        else:
            found.append((line["return_ns"], 1, number, (line["outcome"], line)))
    return [event for *_, event in sorted(found, key=lambda one: one[:3])]


def asked_and_answered(kind: str, line: Line) -> tuple[str, str, Any]:
    """Type, function and value of an event of a register."""
    op = line["op"]
    if op == "get":
        return kind, "read", line.get("value") if kind == "ok" else None
    if op == "put":
        return kind, "write", line["value"]
    if kind == "ok" and not line["succeeded"]:
        kind = "fail"
    return kind, "cas", [line["expect"], line["value"]]


def edn(value: Any) -> str:
    """A value of JSON in EDN."""
    if isinstance(value, list):
        return f"[{' '.join(map(edn, value))}]"
    return "nil" if value is None else json.dumps(value)


def map_of(event: Event, *, key: bool = False) -> dict[str, Any]:
    """An event as elle-cli has it; with `key`, of independent keys."""
    kind, line = event
    said, f, value = asked_and_answered(kind, line)
    refused = kind == "ok" and said == "fail"
    made = {"process": line["process"], "type": said, "f": f, "value": [line["key"], value] if key else value}
    return made | ({"error": "no answer"} if said == "fail" and not refused else {})


def edn_map(fields: dict[str, Any], tag: str = "") -> str:
    """A map with keywords."""
    words = {"type", "f"}
    inner = ", ".join(f":{name} {':' + item if name in words else edn(item)}" for name, item in fields.items())
    return f"{tag}{{{inner}}}"


def log_line(fields: dict[str, Any]) -> str:
    """As jepsen.util logs it."""
    said = f"{fields['process']}\t:{fields['type']}\t:{fields['f']}\t{edn(fields['value'])}"
    return f"INFO  jepsen.util - {said}" + (f"\t{edn(fields['error'])}" if "error" in fields else "")
