"""Jepsen's operations as JSON: one array of objects, as elle-cli reads them, or one object after the other.

Source: elle-cli's README (`type`, `f`, `value`, `process`, optionally `time`, `index`); keywords are strings there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from chaos.checker.formats.broken import BrokenLineError, line_of
from chaos.checker.formats.events import calls, event_of
from chaos.checker.formats.foreign import Choices, Foreign
from chaos.checker.formats.models import foreign_of

NAME = "elle"
SPACE = re.compile(r"[\s,]*")
FIRST = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{\s*"')


def recognise(head: bytes) -> bool:
    """Whether a file that begins so is such a history: JSON whose first object has a type and a function."""
    if re.fullmatch(rb"(?:\xef\xbb\xbf)?\s*\[\s*\]\s*", head):
        return True
    if not FIRST.match(head):
        return False
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        return True
    first = head[: head.find(b"}") + 1] if b"}" in head else head
    return b'"type"' in first and b'"f"' in first and b'"op"' not in first


def objects(content: bytes) -> Iterator[tuple[int, Any]]:
    """Objects of one array, or bare ones, with the line each begins in.

    Raises BrokenLineError.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BrokenLineError(line_of(content, error.start), "this is not text in UTF-8") from None
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant)
    at = counted = _skip(text, 0)
    line = 1 + text.count("\n", 0, at)
    array = text.startswith("[", at)
    if array:
        at = _skip(text, at + 1)
    while at < len(text):
        line, counted = line + text.count("\n", counted, at), at
        if text[at] == "]" and array:
            rest = _skip(text, at + 1)
            if rest < len(text):
                raise BrokenLineError(line + text.count("\n", at, rest), "something follows the end of the array")
            return
        try:
            found, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            where = line + text.count("\n", counted, error.pos)
            raise BrokenLineError(where, f"this is not JSON, or was cut off ({error.msg})") from None
        except (ValueError, RecursionError) as error:
            why = "too many arrays within each other" if isinstance(error, RecursionError) else str(error)
            raise BrokenLineError(line, f"this is not JSON ({why})") from None
        yield line, found
        at = _skip(text, at)
    if array:
        raise BrokenLineError(line + text.count("\n", counted), "the array never ends: the file was cut off")


def _skip(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object with a key twice")
    return made


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def read_json(content: bytes, choices: Choices) -> Foreign:
    """A history of JSON.

    Raises BrokenLineError.
    """
    events = [event for line, op in objects(content) if (event := event_of(op, line)) is not None]
    return foreign_of(calls(events), NAME, choices)
