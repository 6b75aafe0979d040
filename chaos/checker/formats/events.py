"""Invocations and completions, as Jepsen and its kin write them, to operations.

Sources: Jepsen's history (jepsen.history, jepsen.client: `ok` happened, `fail` certainly did not, `info` may or may not
have, then or later, and its process is gone); Knossos takes the order of the file as the order of time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from chaos.checker.formats.broken import BrokenLineError
from chaos.checker.formats.edn import Keyword, Tagged

TYPES = ("invoke", "ok", "fail", "info")
NOTHING = object()
"""A field that is not there."""
EDN_FIELDS = tuple(map(Keyword, ("process", "type", "f", "value", "time", "index", "key", "error")))
JSON_FIELDS = ("process", "type", "f", "value", "time", "index", "key", "error")


class Event(NamedTuple):
    """One line about one process."""

    line: int
    process: int
    type: str
    f: str
    value: Any
    time: int | None
    place: int | None
    """Its `index`."""
    key: Any
    error: Any


class Call(NamedTuple):
    """An invocation with what came of it; times in ns, `ret` None when it never returned."""

    begin: Event
    end: Event | None
    """Its completion, where there is one."""
    invoke: int
    ret: int | None
    process: int
    """A process that goes on after an unknown outcome gets a new number."""

    @property
    def outcome(self) -> str:
        """`ok`, `fail` or `unknown`."""
        kind = self.end.type if self.end else "info"
        return "unknown" if kind == "info" else kind


def event_of(op: Any, line: int) -> Event | None:  # noqa: ANN401 - whatever a parser gave
    """An event from a map of EDN or an object of JSON; None for what no client did (nemesis).

    Raises BrokenLineError.
    """
    while isinstance(op, Tagged):
        op = op.value
    if not isinstance(op, Mapping):
        raise BrokenLineError(line, "an operation must be a map")
    names = EDN_FIELDS if isinstance(next(iter(op), None), Keyword) else JSON_FIELDS
    process, kind, f, value, time, index, key, error = (op.get(name, NOTHING) for name in names)
    if process is NOTHING:
        raise BrokenLineError(line, "process is missing")
    if type(process) is not int:
        if isinstance(process, (Keyword, str)):
            return None
        raise BrokenLineError(line, f"process is {process!r}, neither a number nor a name")
    if kind is NOTHING or f is NOTHING:
        raise BrokenLineError(line, f"{'type' if kind is NOTHING else 'f'} is missing")
    said = word(kind)
    if said not in TYPES:
        raise BrokenLineError(line, f"type is {kind!r}, none of invoke, ok, fail, info")
    for name, number in (("time", time), ("index", index)):
        if number is not NOTHING and number is not None and type(number) is not int:
            raise BrokenLineError(line, f"{name} is {number!r}, not an integer")
    return Event(
        line,
        process,
        said,
        word(f),
        None if value is NOTHING else value,
        time if type(time) is int else None,
        index if type(index) is int else None,
        key,
        None if error is NOTHING else error,
    )


def word(name: Any) -> str:  # noqa: ANN401
    """A keyword, or a string in its place (JSON has no keywords)."""
    if isinstance(name, Keyword):
        return name.name
    return name.removeprefix(":") if isinstance(name, str) else repr(name)


def calls(events: Iterable[Event]) -> list[Call]:
    """Each invocation with its completion, in order of the invocations.

    Raises BrokenLineError for a completion of nothing, or two operations of one process at once.
    """
    ordered = in_order(list(events))
    running: dict[int, tuple[int, Event, int]] = {}
    numbers: dict[int, int] = {}
    fresh = max((event.process for event in ordered), default=0) + 1
    found: list[tuple[int, Call]] = []
    for at, (event, now) in enumerate(zip(ordered, times(ordered), strict=True)):
        process = event.process
        begun = running.pop(process, None)
        if event.type == "invoke":
            if begun is not None:
                raise BrokenLineError(
                    event.line, f"process {process} invokes again while its operation of line {begun[1].line} is open"
                )
            running[process] = (at, event, now)
            continue
        if begun is None:
            raise BrokenLineError(event.line, f"process {process} completes an operation that it never invoked")
        order, begin, invoke = begun
        if begin.f != event.f:
            raise BrokenLineError(
                event.line, f"process {process} completes {event.f}, but line {begin.line} invoked {begin.f}"
            )
        gone = event.type == "info"
        number = numbers.get(process, process)
        found.append((order, Call(begin, event, invoke, None if gone else now, number)))
        if gone:
            numbers[process], fresh = fresh, fresh + 1
    for process, (order, begin, invoke) in running.items():
        found.append((order, Call(begin, None, invoke, None, numbers.get(process, process))))
    found.sort()
    return [call for _, call in found]


def in_order(events: list[Event]) -> list[Event]:
    """By `index`, where all have one; else as in the file.

    Raises BrokenLineError for an index that comes twice.
    """
    if not all(event.place is not None for event in events):
        return events
    ordered = sorted(events, key=lambda event: event.place or 0)
    for one, two in pairwise(ordered):
        if one.place == two.place:
            raise BrokenLineError(two.line, f"index {two.place} comes twice, first in line {one.line}")
    return ordered


def times(events: list[Event]) -> Iterator[int]:
    """Time of each event in ns: its own, at least 1 ns after the one before; their number where times are missing.

    The order of a history is stricter than its clock: events of one time still came one after the other.
    """
    own = [event.time for event in events]
    sound = all(time is not None and time >= 0 for time in own) and own == sorted(own)  # type: ignore[type-var]
    last = -1
    for number, time in enumerate(own):
        last = max(last + 1, time or 0) if sound else number
        yield last
