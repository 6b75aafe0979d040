"""When clients of one member got nothing done, as exact intervals from the history of their operations."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

SLOW_NS: Final = 500_000_000
"""A pause between two successes counts from here on; ten times the median latency where the machine is slower."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without a success though somebody asked; nanoseconds of CLOCK_MONOTONIC."""

    begin_ns: int
    end_ns: int
    ended: bool
    """False: no success came any more; `end_ns` is the last that was seen of the clients."""


@dataclass(frozen=True, slots=True)
class Outages:
    """All of them for the clients of one member."""

    outages: tuple[Outage, ...]
    spacing_ns: int
    """Median time between two calls: a shorter outage may not be seen, and a begin may be earlier by this much."""
    limit_ns: int
    """What counted as an outage."""

    @property
    def total_ns(self) -> int:
        """Time without success, in all."""
        return sum(one.end_ns - one.begin_ns for one in self.outages)


def find_outages(ops: Sequence[Mapping[str, Any]]) -> Outages:
    """Outages in operations by the time of their call; serializable reads are left out, as one member answers alone.

    An outage lies between two successes that follow each other, begins with the first call that was under way or made
    there, and is longer than the limit.
    """
    asked = [op for op in ops if not op.get("serializable")]
    calls = [int(op["invoke_ns"]) for op in asked]
    if not calls:
        return Outages((), 0, SLOW_NS)
    good = [(int(op["invoke_ns"]), int(op["return_ns"])) for op in asked if op.get("outcome") == "ok" and _ended(op)]
    latency = statistics.median(end - begin for begin, end in good) if good else 0
    limit = max(SLOW_NS, int(10 * latency))
    latest = list(
        accumulate((int(op["return_ns"]) if _ended(op) else call for op, call in zip(asked, calls, strict=True)), max)
    )
    edges = [calls[0], *sorted(end for _, end in good), latest[-1]]
    found = []
    for index in range(len(edges) - 1):
        before, after = edges[index], edges[index + 1]
        if after - before <= limit:
            continue
        begin = _first_asked(calls, latest, before, after)
        if begin is not None and after - begin > limit:
            found.append(Outage(begin, after, ended=index + 1 < len(edges) - 1))
    spacing = int(statistics.median(b - a for a, b in pairwise(calls))) if len(calls) > 1 else 0
    return Outages(tuple(found), spacing, limit)


def _first_asked(calls: Sequence[int], latest: Sequence[int], before: int, after: int) -> int | None:
    """When in (before, after) somebody was first waiting for an answer.

    `latest[i]` is when the last of the first i+1 calls was answered. An answer that never came counts from its call
    only: how long the client waited is not known here.
    """
    index = bisect_left(calls, before)
    if index and latest[index - 1] > before:
        return before
    return calls[index] if index < len(calls) and calls[index] < after else None


def _ended(op: Mapping[str, Any]) -> bool:
    return isinstance(op.get("return_ns"), int)
