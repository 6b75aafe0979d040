"""What the committed log says of a history's writes of unknown outcome.

A write is recognized by a key and value that it alone asked for. It is certain, and at which revision it was done, when
its entry lies between two entries of known revision and the count of those between leaves no choice: each took one, or
exactly those that certainly do took one. It certainly was not done when its entry was counted out like that, or when
the log is whole since the base and has no such entry; if it comes later than the last entry looked at, it comes later
than everything that was recorded. Wherever one log, or one count, does not fit, nothing is said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from chaos.checker.errors import WalError
from chaos.checker.model import NULL, History, Ints, Outcome
from chaos.checker.raftlog.committed import Committed, merge
from chaos.checker.raftlog.requests import Request, Takes, request_of
from chaos.checker.raftlog.wal_reader import Entry, Log
from chaos.checker.tables import effects, unknown_writes
from chaos.checker.watches import Event, Stream, Told


@dataclass(slots=True)
class Evidence:
    """Of writes of unknown outcome, by row of the history."""

    told: list[Told] = field(default_factory=list)
    """What was written by those that happened, as a watch would have told it."""
    happened: dict[int, int] = field(default_factory=dict)
    """Row -> revision."""
    never: set[int] = field(default_factory=set)
    committed: set[int] = field(default_factory=set)
    """Committed, but at which revision, or whether to any effect, is not known; nothing is made of these."""

    @property
    def settled(self) -> int:
        """How many it settles."""
        return len(self.happened) + len(self.never)

    def applied(self, history: History) -> History:
        """The history, with what never happened as certain failures."""
        if not self.never:
            return history
        rows = np.fromiter(self.never, np.int64, len(self.never))
        outcome: Ints = history.outcome.copy()
        outcome[rows] = Outcome.FAIL
        return replace(history, outcome=outcome)


def open_writes(history: History, settled: Iterable[int]) -> set[int]:
    """Rows of writes of unknown outcome of which nothing is known yet."""
    return set(unknown_writes(history).tolist()) - set(settled)


def watched_whole(events: Iterable[Event], base: int, until: str) -> bool:
    """Whether one watch told everything from the base revision on until the last key written."""
    streams: dict[str, Stream] = {}
    for event in events:
        stream = streams.get(event.watch)
        if stream is None:
            streams[event.watch] = Stream.of(event)
        else:
            stream.take(event)
    return any(
        stream.begin <= base + 1 and not stream.gone and any(key == until for _, key in stream.events)
        for stream in streams.values()
    )


class _Writers:
    """Which operation an entry is of: by pairs of key and value that only one operation could have written."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.keys = {name: n for n, name in enumerate(history.keys)}
        self.values = {value: n for n, value in enumerate(history.values) if isinstance(value, str)}
        rows: dict[tuple[int, int], set[int]] = defaultdict(set)
        for row in range(len(history)):
            for pair in effects(history, row).items():
                if pair[1] != NULL:
                    rows[pair].add(row)
        held = set(history.initial.items())
        self.only = {pair: next(iter(found)) for pair, found in rows.items() if len(found) == 1 and pair not in held}

    def pairs(self, request: Request) -> list[tuple[int, int]]:
        """Its puts in the history's numbers."""
        return [
            (self.keys[key], self.values[value])
            for key, value in request.puts
            if key in self.keys and value in self.values
        ]

    def row(self, request: Request) -> int | None:
        """The operation it is of; None when it is of another client, or not certain."""
        rows = {self.only.get(pair) for pair in self.pairs(request)}
        return rows.pop() if len(rows) == 1 else None


@dataclass(slots=True)
class _Line:
    """One committed entry on the way to its revision."""

    entry: Entry
    request: Request
    row: int | None
    takes: Takes
    revision: int = 0
    """0: not known."""


def find(
    history: History, watched: Sequence[Told], wanted: set[int], logs: Sequence[Log], *, members: int, base_index: int
) -> Evidence:
    """Evidence for the rows `wanted` from the logs that could be read, of so many members.

    Nothing of the history was written at or before `base_index`. `watched` is what watches told: more known revisions.
    Raises WalError when logs, or log and answers, contradict each other.
    """
    log = merge(logs, members)
    writers = _Writers(history)
    lines = _lines(history, watched, writers, log)
    _count(lines)
    places: dict[int, list[_Line]] = defaultdict(list)
    for line in lines:
        if line.row is not None:
            places[line.row].append(line)
    # all logs, without a gap since the base, beyond the last write that was acknowledged
    top = int(np.max(history.revision[history.takes_revision()], initial=history.meta.base_revision))
    reached = max((line.revision for line in lines), default=0) >= top
    whole = len(logs) == members and reached and log.whole_from <= base_index + 1
    anywhere = _Anywhere(logs) if whole else None
    unique = set(writers.only.values())
    found = Evidence()
    for row in sorted(wanted & unique):
        mine = places.get(row, [])
        if not mine and anywhere is not None:
            own = [pair for pair in effects(history, row).items() if pair in writers.only]
            if not any(anywhere.holds(history, pair) for pair in own):
                found.never.add(row)
        elif len(mine) == 1 and mine[0].revision:
            found.happened[row] = mine[0].revision
            found.told += [Told(key, value, mine[0].revision) for key, value in writers.pairs(mine[0].request)]
        elif len(mine) == 1 and mine[0].takes == Takes.NO:
            found.never.add(row)
        elif mine:
            found.committed.add(row)
    return found


class _Anywhere:
    """What stands in any log at all, committed or not."""

    def __init__(self, logs: Sequence[Log]) -> None:
        entries = {entry for log in logs for entry in log.entries}
        requests = {entry: request_of(entry) for entry in entries}
        self.pairs = {pair for request in requests.values() for pair in request.puts}
        self.odd = [entry.data for entry, request in requests.items() if request.odd]

    def holds(self, history: History, pair: tuple[int, int]) -> bool:
        """Whether this value was put to this key; or may have been, in an entry that is not understood."""
        key, value = history.keys[pair[0]], history.values[pair[1]]
        name = key.encode(errors="surrogateescape")
        return (key, value) in self.pairs or any(name in data for data in self.odd)


def _lines(history: History, watched: Sequence[Told], writers: _Writers, log: Committed) -> list[_Line]:
    takes = history.takes_revision()
    told = {(key, value): revision for key, value, revision in watched if (key, value) in writers.only}
    lines: list[_Line] = []
    alarm = False
    for entry in log.entries:
        request = request_of(entry)
        alarm = alarm or request.alarm
        row = writers.row(request)
        line = _Line(entry, request, row, request.takes)
        if alarm and line.takes == Takes.CERTAINLY:
            line.takes = Takes.PERHAPS
        if row is not None and history.outcome[row] == Outcome.OK and history.revision[row] >= 0:
            line.takes = Takes.CERTAINLY if takes[row] else Takes.NO
            line.revision = int(history.revision[row]) if takes[row] else 0
        elif row is not None:
            line.revision = next((told[pair] for pair in writers.pairs(request) if pair in told), 0)
            line.takes = Takes.CERTAINLY if line.revision else line.takes
        lines.append(line)
    return lines


def _count(lines: list[_Line]) -> None:
    """Give revisions to what lies between two entries of known revision."""
    known = [n for n, line in enumerate(lines) if line.revision]
    for first, last in pairwise(known):
        low, high = lines[first], lines[last]
        free = high.revision - low.revision - 1
        if free < 0:
            raise WalError(
                f"Revision {low.revision} comes before revision {high.revision} in the log",
                where=f"index {low.entry.index} and {high.entry.index}",
            )
        if high.entry.index - low.entry.index == last - first:  # no entry between is missing
            _between(lines[first + 1 : last], low.revision, free, high.entry.index)


def _between(lines: list[_Line], below: int, free: int, index: int) -> None:
    sure = sum(line.takes == Takes.CERTAINLY for line in lines)
    perhaps = sum(line.takes == Takes.PERHAPS for line in lines)
    if not sure <= free <= sure + perhaps:
        raise WalError(
            f"Between revisions {below} and {below + free + 1} are {sure} to {sure + perhaps} entries that take one",
            where=f"before index {index}",
        )
    for line in lines:
        if line.takes == Takes.PERHAPS and free in (sure, sure + perhaps):
            line.takes = Takes.NO if free == sure else Takes.CERTAINLY
    for order, step, start in ((lines, 1, below), (lines[::-1], -1, below + free + 1)):
        at = start
        for line in order:
            if line.takes == Takes.PERHAPS:
                break
            if line.takes == Takes.CERTAINLY:
                at += step
                line.revision = at
