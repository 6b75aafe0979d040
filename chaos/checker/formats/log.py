"""Jepsen's operations as its log tells them: `… jepsen.util - PROCESS⇥:TYPE⇥:F⇥VALUE[⇥ERROR]`, and history.txt.

Sources: jepsen.util/log-op and op->str (tabs between, the value as EDN); older logs as porcupine's test_data/jepsen has
them (`INFO  jepsen.util - 0⇥:invoke⇥:read⇥nil`). Other lines of a log are
passed over; the order of lines is the order of time.
"""

from __future__ import annotations

import re
from typing import Any

from chaos.checker.formats.broken import BrokenLineError, line_of
from chaos.checker.formats.edn import read
from chaos.checker.formats.events import NOTHING, TYPES, Event, calls
from chaos.checker.formats.foreign import Choices, Foreign
from chaos.checker.formats.models import foreign_of

NAME = "jepsen-log"
MARK = re.compile(r"jepsen\.util(?::|\s+-)[ \t]*(.*)")
OPERATION = re.compile(r"(:?[\w.-]+)\s+:([\w-]+)\s+:([\w./*+!?-]+)(?:\s+(.*))?")
TEXT = re.compile(r"(?:-?\d+|:nemesis)\s+:(?:invoke|ok|fail|info)\s+:\S+")

CUT = re.compile(r"jepsen\.util(?::|\s+-)\s+-?\d+(?:\s|$)")
"""An operation's line, however it goes on."""


def recognise(head: bytes) -> bool:
    """Whether a line among the first is of an operation."""
    lines = head.decode(errors="replace").splitlines()
    return any(_operation(line) is not None for line in lines)


def _operation(line: str) -> re.Match[str] | None:
    mark = MARK.search(line)
    if mark is None:
        return OPERATION.fullmatch(line.strip()) if TEXT.match(line) else None
    found = OPERATION.fullmatch(mark.group(1).strip())
    return found if found and (found.group(2) in TYPES or found.group(1).lstrip("-").isdigit()) else None


def read_log(content: bytes, choices: Choices) -> Foreign:
    """A history of log lines.

    Raises BrokenLineError.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise BrokenLineError(line_of(content, error.start), "this is not text in UTF-8") from None
    events: list[Event] = []
    for number, line in enumerate(text.split("\n"), 1):
        found = _operation(line)
        if found is None:
            if TEXT.search(line) or CUT.search(line):
                raise BrokenLineError(number, "an operation that was cut off, or has a form not known here")
            continue
        process, kind, f, rest = found.groups()
        if not process.lstrip("-").isdigit():
            continue
        if kind not in TYPES:
            raise BrokenLineError(number, f"type is {kind}, none of invoke, ok, fail, info")
        value, why = _value(number, kind, rest or "nil")
        events.append(Event(number, int(process), kind, f, value, None, None, NOTHING, why))
    if not events:
        raise BrokenLineError(1, "no operation in this log")
    return foreign_of(calls(events), NAME, choices)


def _value(line: int, kind: str, rest: str) -> tuple[Any, Any]:
    """Value and error; what follows a failure or no answer is for people, and need not be EDN."""
    try:
        values = [value for _, value in read(f"[{rest}\n]".encode())]
    except BrokenLineError as error:
        if kind in ("fail", "info"):
            return None, rest
        raise BrokenLineError(line, f"the value: {error.what}") from None
    if kind in ("invoke", "ok") and len(values) != 1:
        raise BrokenLineError(line, f"{len(values)} values instead of one: {rest[:60]}")
    return (values[0] if values else None), (values[1] if len(values) > 1 else None)
