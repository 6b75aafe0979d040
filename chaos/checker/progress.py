"""Progress notices that were requested: each has to come within the bound that its line names.

Only a request with `within_ns` binds: who records it knows that nothing was broken then. A watch that begins beyond
what the store had reached is exempt until it gets there: newer versions answer it only then (since E#20229 was ported
back to 3.5 and 3.6). That a notice never comes was E#17507.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from chaos.checker.violation import Violation
from chaos.checker.watches import Event, EventKind


@dataclass(slots=True)
class Asked:
    """One watch, as long as one stream of it lasts."""

    start: int = 0
    head: int = 0
    """The highest revision that its own answers showed."""
    open: list[Event] = field(default_factory=list)


def check_progress(events: Iterable[Event]) -> Violation | None:
    """The first request that was not answered in time, though its watch is on record for longer."""
    watches: dict[str, Asked] = {}
    for event in events:
        one = watches.setdefault(event.watch, Asked())
        late = next((asked for asked in one.open if event.ns > asked.ns + asked.within), None)
        if late is not None:
            why = f"A progress notice was requested and had not come {event.ns - late.ns} ns later."
            return Violation("progress notice", why, None, (late.text(), event.text()))
        if event.kind == EventKind.CREATED:
            one.start, one.head, one.open = event.start, event.revision, []
        elif event.kind in (EventKind.CANCELED, EventKind.COMPACTED):
            one.open = []
        elif event.kind == EventKind.REQUESTED:
            if event.within and one.start <= one.head:
                one.open.append(event)
        elif event.kind == EventKind.PROGRESS:
            one.head, one.open = max(one.head, event.revision), []
        else:
            one.head = max(one.head, event.mod)
    return None
