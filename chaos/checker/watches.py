"""Watches: ordered, atomic, complete above the compact revision, no duplicates, nothing invented, resumable.

The promises are etcd's own (learning/api_guarantees.md, "Watch APIs"); what is checked against what:

- within one watch, also across a resumption: revisions never fall, no event comes twice, all events of one revision
  come together, a progress notice at r comes after every event up to r and before all others;
- every event against the history: the write it tells of was acknowledged at that revision with that value, or may be
  one of unknown outcome (each once); nothing of a failed write, nothing at a revision where another key was written;
- every write acknowledged within the span that a watch covers, from its start revision to its last event or notice,
  for every key that it asked for, unless compacted: no gap;
- two watches of one key never tell different things of one revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Self

from chaos.checker.action_reading import covers
from chaos.checker.model import NULL, History, Outcome
from chaos.checker.tables import Compiled, compile_rows, effects, leased_keys, unknown_writes
from chaos.checker.violation import Violation, violation


class EventKind(Enum):
    """What a line of watch.jsonl tells."""

    CREATED = "created"
    PUT = "put"
    DELETE = "delete"
    PROGRESS = "progress"
    COMPACTED = "compacted"
    CANCELED = "canceled"
    REQUESTED = "requested"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Event:
    """One line; which fields have a meaning depends on the kind."""

    line: int
    watch: str
    kind: EventKind
    key: str = ""
    end: str | None = None
    """Of `created`: end of the range watched; None: the one key."""
    value: str | int | None = None
    mod: int = 0
    revision: int = 0
    """Header revision of a notice, or of the creation."""
    start: int = 0
    """Of `created`: the first revision wanted; 0: what comes after `revision`."""
    create: int = 0
    previous: str | int | None = None
    has_previous: bool = False
    ns: int = 0
    within: int = 0
    """Of `requested`: ns until the notice has to be there; 0: nothing is asked of it."""
    member: str = ""
    """Of `created`: who was asked."""
    without: frozenset[str] = frozenset()
    """Of `created`: kinds of event that it does not want (put, delete)."""

    def text(self) -> str:
        """For a person."""
        said = {
            EventKind.CREATED: f"watch of {self.key} from revision {self.start or self.revision + 1}",
            EventKind.PUT: f"event put {self.key} = {self.value!r} at revision {self.mod}",
            EventKind.DELETE: f"event delete {self.key} at revision {self.mod}",
            EventKind.PROGRESS: f"progress notice at revision {self.revision}",
            EventKind.COMPACTED: f"compacted up to revision {self.revision}",
            EventKind.CANCELED: "canceled",
            EventKind.REQUESTED: f"progress notice requested at {self.ns} ns, to come within {self.within} ns",
            EventKind.CLOSED: f"closed by its client at {self.ns} ns",
        }
        return f"watch line {self.line}: watch {self.watch}, {said[self.kind]}"


def broken(rule: str, why: str, events: Sequence[Event], key: str | None = None) -> Violation:
    """A violation shown by events alone."""
    return Violation(rule, why, key, tuple(event.text() for event in events))


@dataclass(slots=True)
class Stream:
    """One logical watch as far as it has been read."""

    created: Event
    keeps: bool = True
    """Whether this etcd promises what happened at the compact revision itself to a watch that begins there."""
    begin: int = 0
    """First revision it has to tell of."""
    told: int = 0
    """It has told everything up to this revision, if it is complete: of a notice, or of an event of a later one."""
    high: int = 0
    """The most that `told` ever was."""
    last: Event | None = None
    again: set[tuple[int, str]] = field(default_factory=set)
    """Events told before a resumption that asked for them once more."""
    events: dict[tuple[int, str], Event] = field(default_factory=dict)
    gone: list[tuple[int, int]] = field(default_factory=list)
    """Spans of revisions that were compacted away before a resumption reached them."""
    values: dict[str, str | int | None] = field(default_factory=dict)
    starts: set[int] = field(default_factory=set)
    """Revisions at which it began or was resumed."""

    @classmethod
    def of(cls, created: Event, *, keeps: bool = True) -> Self:
        """A watch that was just created: it tells from the revision it asked for, or from the next one on."""
        begin = created.start or created.revision + 1
        return cls(created, keeps=keeps, begin=begin, told=begin - 1, high=begin - 1, starts={begin})

    def covers(self, key: str) -> bool:
        """Whether it asked for this key."""
        first, end = self.created.key, self.created.end
        return key == first if end is None else first <= key and (end == "\0" or key < end)

    def take(self, event: Event) -> Violation | None:
        """One more line."""
        if event.kind == EventKind.CREATED:
            return self._resume(event)
        if event.kind == EventKind.COMPACTED:
            last = event.revision - (1 if self.keeps else 0)
            if last > self.told:
                self.gone.append((self.told + 1, last))
                self.values.clear()
            return None
        if event.kind == EventKind.PROGRESS:
            return self._progress(event)
        quiet = (EventKind.CANCELED, EventKind.REQUESTED, EventKind.CLOSED)
        return None if event.kind in quiet else self._event(event)

    def _resume(self, event: Event) -> Violation | None:
        start = event.start or event.revision + 1
        same = (event.key, event.end, event.without) == (self.created.key, self.created.end, self.created.without)
        if not same:
            return broken("watch resumption", "A resumed watch asks for other keys.", [self.created, event])
        self.starts.add(start)
        if start > self.told + 1:
            # the client itself skipped these, so nobody owes them
            self.gone.append((self.told + 1, start - 1))
        if start != self.told + 1:
            self.values.clear()
        self.again = {at for at in self.events if at[0] >= start}
        self.told, self.last = start - 1, None
        return None

    def _progress(self, event: Event) -> Violation | None:
        if self.last is not None and event.revision < self.last.mod:
            why = "A progress notice is below an event that had been told before."
            return broken("watch order", why, [self.last, event])
        self.told = max(self.told, event.revision)
        self.high = max(self.high, self.told)
        return None

    def _event(self, event: Event) -> Violation | None:
        at, last = (event.mod, event.key), self.last
        before = self.events.get(at)
        if before is not None and (at not in self.again or (before.kind, before.value) != (event.kind, event.value)):
            return broken("watch duplicate", "One event was told twice.", [before, event], event.key)
        wrong, shown = "", [event]
        if not self.covers(event.key) or event.kind.value in self.created.without:
            wrong, shown = "It was not asked for this.", [self.created, event]
        elif event.mod < self.begin and before is None:
            wrong, shown = "It is from before the start of the watch.", [self.created, event]
        elif last is not None and event.mod < last.mod:
            wrong, shown = "Events go back in revisions.", [last, event]
        elif event.mod <= self.told:
            wrong = f"Everything up to revision {self.told} had been told, or not been asked for."
        elif event.has_previous and event.key in self.values and self.values[event.key] != event.previous:
            wrong = f"Its previous value is not the one told before, {self.values[event.key]!r}."
        if wrong:
            return broken("watch order", wrong, shown, event.key)
        self.again.discard(at)
        self.events[at] = event
        self.values[event.key] = event.value if event.kind == EventKind.PUT else None
        self.told = max(self.told, event.mod - 1)
        self.high = max(self.high, self.told)
        self.last = event
        return None


Known = Mapping[int, Mapping[int, tuple[int, int]]]
"""Revision -> key -> (value, row): everything that was written, where that is certain."""


def keeps_compacted(version: str) -> bool:
    """Whether a watch from the compact revision on is told of a delete there: E#18089, from 3.5.16 and 3.4.34 on.

    Without a version (or with one that is none) the promise of the supported versions holds.
    """
    numbers = version.removeprefix("v").split("-")[0].split(".")
    if len(numbers) != 3 or not all(number.isdigit() for number in numbers):
        return True
    major, minor, patch = map(int, numbers)
    least = {(3, 5): 16, (3, 4): 34}.get((major, minor))
    return patch >= least if least is not None else (major, minor) > (3, 5)


def check_watches(history: History, events: Iterable[Event], known: Known | None = None) -> Violation | None:
    """The first promise broken, by the events themselves or against the history.

    `known` is all that was written, for histories of which the columns do not tell it.
    """
    streams: dict[str, Stream] = {}
    keeps = keeps_compacted(history.meta.etcd_version)
    for event in events:
        stream = streams.get(event.watch)
        if stream is None:
            streams[event.watch] = Stream.of(event, keeps=keeps)
            continue
        wrong = stream.take(event)
        if wrong is not None:
            return wrong
    return _agree(streams) or _against(history, streams, known)


class Told(NamedTuple):
    """A write that a watch told of: at `revision` the key became `value`."""

    key: int
    value: int
    revision: int


def told(history: History, events: Iterable[Event]) -> list[Told]:
    """Events as evidence for writes of unknown outcome: what they say of revisions (their times prove nothing).

    Deletes of keys that were ever put with a lease are left out: it may have expired.
    """
    keys = {name: number for number, name in enumerate(history.keys)}
    values = {value: number for number, value in enumerate(history.values)}
    leased = leased_keys(history)
    found: set[Told] = set()
    for event in events:
        key = keys.get(event.key)
        if key is None or event.mod <= history.meta.base_revision:
            continue
        if event.kind == EventKind.PUT and event.value in values:
            found.add(Told(key, values[event.value], event.mod))
        elif event.kind == EventKind.DELETE and key not in leased:
            found.add(Told(key, NULL, event.mod))
    return sorted(found)


def _agree(streams: dict[str, Stream]) -> Violation | None:
    """All watches tell the same of one revision of a key."""
    known: dict[tuple[int, str], Event] = {}
    for stream in streams.values():
        for at, event in stream.events.items():
            other = known.setdefault(at, event)
            if (other.kind, other.value) != (event.kind, event.value):
                return broken("watch agreement", "Two watches tell different things.", [other, event], event.key)
    return None


def _against(history: History, streams: dict[str, Stream], known: Known | None) -> Violation | None:
    """Events against the writes of the history."""
    compiled = compile_rows(history)
    if isinstance(compiled, Violation):
        return compiled
    writes = Writes(history, compiled, known)
    for stream in streams.values():
        for event in stream.events.values():
            wrong = writes.contradicts(event)
            if wrong is not None:
                return wrong
        missing = writes.missing(stream)
        if missing is not None:
            return missing
    return None


class Writes:
    """What the history says was written, by revision; and what may have been."""

    def __init__(self, history: History, compiled: Compiled, known: Known | None) -> None:
        self.history = history
        table = compiled.writes
        self.whole = known is not None
        self.at: dict[int, dict[int, tuple[int, int]]] = {at: dict(here) for at, here in (known or {}).items()}
        for key, revision, value, row in zip(
            table.key.tolist(), table.revision.tolist(), table.value.tolist(), table.row.tolist(), strict=True
        ):
            self.at.setdefault(revision, {})[key] = (value, row)
        self.revisions = sorted(self.at)
        self.numbers = {key: n for n, key in enumerate(history.keys)}
        self.values = {value: n for n, value in enumerate(history.values)}
        self.unknown: dict[tuple[int, int], list[int]] = {}
        for row in unknown_writes(history).tolist():
            for pair in effects(history, row).items():
                self.unknown.setdefault(pair, []).append(row)
        loose = (history.outcome == Outcome.OK) & (history.revision < 0)
        self.loose = {pair for row in loose.nonzero()[0].tolist() for pair in effects(history, row).items()}
        self.leased = leased_keys(history)
        self.used: dict[int, int] = {}

    def contradicts(self, event: Event) -> Violation | None:
        """Whether the history has no write that this event may tell of."""
        key = self.numbers.get(event.key)
        if key is None:
            return None  # a key of other writers
        if not self.whole and any(covers(first, end, event.key) for first, end in self.history.vague):
            return None
        value = NULL if event.kind == EventKind.DELETE else self.values.get(event.value, -1)
        here = self.at.get(event.mod)
        if here is not None:
            there = here.get(key)
            if there is not None and there[0] == value:
                return None
            row = there[1] if there else next(iter(here.values()))[1]
            taken = f"something else was written to {event.key}" if there else "another key was written"
            return self._phantom(event, f"At revision {event.mod} {taken}.", [row])
        if event.mod <= self.history.meta.base_revision or self._possible(key, value, event.mod):
            return None
        failed = [
            row
            for row in (self.history.outcome == Outcome.FAIL).nonzero()[0].tolist()
            if effects(self.history, row).get(key) == value
        ]
        rows = self.unknown.get((key, value), []) or failed
        return self._phantom(event, "No operation that may have happened wrote it there.", rows[:2])

    def _possible(self, key: int, value: int, mod: int) -> bool:
        """Whether an operation of unknown outcome, one without a revision, or an expiry may have done it."""
        makers = self.unknown.get((key, value), [])
        fresh = [row for row in makers if self.used.get(row, mod) == mod]
        if len(makers) == 1 and fresh:
            self.used[fresh[0]] = mod
        return bool(fresh) or (key, value) in self.loose or (value == NULL and key in self.leased)

    def _phantom(self, event: Event, why: str, rows: list[int]) -> Violation:
        shown = violation(self.history, "phantom watch event", why, rows, self.numbers[event.key])
        lines = (event.text(), *shown.operations)
        return Violation("phantom watch event", why, event.key, lines, shown.lines, shown.window_ns)

    def missing(self, stream: Stream) -> Violation | None:
        """An acknowledged write within the span of a watch of which it did not tell."""
        for revision in self.revisions:
            if not stream.begin <= revision <= stream.high:
                continue
            if any(low <= revision <= high for low, high in stream.gone):
                continue
            for key, (value, row) in self.at[revision].items():
                name = self.history.keys[key]
                if ("delete" if value == NULL else "put") in stream.created.without:
                    continue
                if value == NULL and not stream.keeps and revision in stream.starts:
                    continue  # compacted up to there, it may be gone
                if stream.covers(name) and (revision, name) not in stream.events:
                    later = (event for at, event in stream.events.items() if at[0] > revision)
                    after = min(later, key=lambda event: event.mod, default=None)
                    why = (
                        f"Watch {stream.created.watch} covers revisions {stream.begin} to {stream.high}, "
                        f"but did not tell of revision {revision}."
                    )
                    shown = violation(self.history, "gap in a watch", why, [row], key)
                    events = (stream.created.text(), *((after.text(),) if after else ()))
                    return Violation(
                        "gap in a watch", why, name, (*events, *shown.operations), shown.lines, shown.window_ns
                    )
        return None
