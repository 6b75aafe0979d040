"""Flushes and traffic of every member through a scenario, from a few readings of its metrics page.

The page is 160 kB and costs a member as much as 18 status calls (0.3 s of an emulated processor, 7 ms of a real one,
measured), so it is read at the ends of the phases only: before the first fault, before the last healing, and once all
is healthy. While a scenario's pages cannot be afforded (chaos.measure.sampling_budget) it goes without, and says so.
A page is asked for from the ports of observers, at a port of its own, so that cuts of the client port let it pass; a
member that does not answer has no reading.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from chaos.measure.sampling_budget import COSTS, SamplingBudget
from infra import metrics
from infra.cluster import Cluster
from machine.errors import LabError

Phase = Literal["before", "during", "after"]

PHASES: Final[tuple[Phase, ...]] = ("before", "during", "after")

MOST: Final = 6
"""Pages in one scenario at most: one that breaks and heals again and again ends a phase each time."""

UNREAD: Final = "the metrics pages were not read, to keep sampling below 2 % of a guest's processor"

STEP: Final = 2.0
"""Seconds by which the wall clock of a guest, and so what it takes for its processes' start, may wander unset."""

SECONDS: Final = 4.0
"""Limit of one page, connecting included."""

SHORTEST: Final = 2.0
"""Seconds that a phase must last for its rates to mean anything."""

FRESH: Final = 60.0
"""Seconds for which the last reading of the scenario before may stand for the beginning of this one."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of one member at one time (ns of CLOCK_MONOTONIC, when the answer came); sizes are bytes."""

    at_ns: int
    node: str
    started: float
    """When its process began, by the guest's wall clock: another one is another process, and counts from 0."""
    fsyncs: float
    fsync_seconds: float
    commits: float
    commit_seconds: float
    peer_sent: float
    peer_received: float
    client_sent: float
    client_received: float


COUNTERS: Final = tuple(name for name in Reading.__dataclass_fields__ if name not in ("at_ns", "node", "started"))


def reading_of(node: str, text: str, at_ns: int) -> Reading:
    """A metrics page as a reading. Raises ValueError for a page without etcd's flushes."""
    page = metrics.parse(text)
    fsync, commit = page.histogram(metrics.FSYNC), page.histogram(metrics.COMMIT)
    if not fsync:
        raise ValueError("no metrics page of etcd's")
    return Reading(
        at_ns,
        node,
        started=page.number(metrics.STARTED),
        fsyncs=sum(one.total for one in fsync),
        fsync_seconds=sum(one.sum for one in fsync),
        commits=sum(one.total for one in commit),
        commit_seconds=sum(one.sum for one in commit),
        peer_sent=page.number(metrics.SENT),
        peer_received=page.number(metrics.RECEIVED),
        client_sent=page.number(metrics.CLIENT_SENT),
        client_received=page.number(metrics.CLIENT_RECEIVED),
    )


class Pages:
    """Reads the pages of a lab's members, all at once and beside whatever goes on; one for a run."""

    def __init__(self, cluster: Cluster, period: float) -> None:
        """`period`: seconds from one sample to the next."""
        self.allowance = SamplingBudget(COSTS[cluster.manifest.hypervisor.accelerator], period)
        self._cluster = cluster
        self._lock = threading.Lock()
        self._last: dict[str, Reading] = {}
        self._pool = ThreadPoolExecutor(len(cluster.manifest.nodes), thread_name_prefix="metrics")

    def recent(self) -> list[Reading]:
        """The last reading of each member, where it is fresh enough to begin a scenario with."""
        oldest = time.monotonic_ns() - round(FRESH * 1e9)
        with self._lock:
            return [one for one in self._last.values() if one.at_ns >= oldest]

    def read(self) -> list[Future[Reading]]:
        """Begin to read every member's page."""
        self.allowance.page()
        return [self._pool.submit(self._read, node) for node in self._cluster.manifest.node_names]

    def close(self) -> None:
        """Begin no more readings."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, node: str) -> Reading:
        try:
            found = reading_of(node, self._cluster.metrics(node, SECONDS), time.monotonic_ns())
        except (LabError, ValueError) as error:
            raise LabError(f"{node} shows no metrics: {error}") from error
        with self._lock:
            self._last[node] = found
        return found


class Traffic:
    """The readings of one scenario: at its beginning, and at the end of each phase."""

    def __init__(self, pages: Pages, path: Path) -> None:
        self._pages = pages
        self._path = path
        self._afforded = False
        self._begun: list[Reading] = []
        self._asked: list[Future[Reading]] = []
        self._read = 0
        self._ends: dict[Phase, list[Future[Reading]]] = {}

    def begin(self) -> None:
        """The phase before the faults begins: the scenario before has left a reading, or one is made."""
        self._afforded = self._pages.allowance.enough()
        self._pages.allowance.sampling(True)
        self._begun = self._pages.recent()
        if self._afforded and not self._begun:
            self._asked = self._pages.read()

    def end(self, phase: Phase) -> None:
        """A phase ends now; the last end of a phase counts."""
        if self._afforded and self._read < MOST:
            self._read += 1
            self._ends[phase] = self._pages.read()

    @property
    def problems(self) -> list[str]:
        """Pages that could not be read, each member's last reason: those of members that were down then, too."""
        why: dict[str, str] = {}
        for one in (*self._asked, *(each for found in self._ends.values() for each in found)):
            if one.done() and not one.cancelled() and (error := one.exception()) is not None:
                node, _, reason = str(error).partition(" shows no metrics: ")
                why[node] = (reason or str(error)).rstrip(".")
        return [f"metrics of {node}: {reason}" for node, reason in sorted(why.items())]

    def finish(self) -> dict[str, object]:
        """Figures of the scenario for the report. The readings go into a file."""
        self._pages.allowance.sampling(False)
        if not self._afforded:
            return {"phases": {}, "readings": 0, "without_answer": 0, "why": UNREAD}
        asked = [*self._asked, *(one for found in self._ends.values() for one in found)]
        wait_for(asked, SECONDS + 1)
        begun = [*self._begun, *_done(self._asked)]
        ends = {phase: _done(found) for phase, found in self._ends.items()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        marked = [("begin", begun), *ends.items()]
        lines = [json.dumps({"mark": mark, **asdict(one)}) + "\n" for mark, found in marked for one in found]
        self._path.write_text("".join(lines))
        silent = len(asked) - len(_done(asked))
        return {"phases": phases(begun, ends), "readings": len(lines), "without_answer": silent}


def phases(
    begun: Iterable[Reading], ends: Mapping[Phase, Sequence[Reading]]
) -> dict[str, dict[str, dict[str, object]]]:
    """Figures by phase and member, wherever a member was read at both ends of the phase."""
    found: dict[str, dict[str, dict[str, object]]] = {}
    before = {one.node: one for one in begun}
    for phase in PHASES:
        # a phase whose end was not read leaves the next one without a beginning
        after = {one.node: one for one in ends.get(phase, ())}
        told = {
            node: figures
            for node in sorted(after)
            if node in before
            and after[node].at_ns - before[node].at_ns >= SHORTEST * 1e9
            and (figures := rates(before[node], after[node]))
        }
        if told:
            found[phase] = told
        before = after
    return found


def rates(before: Reading, after: Reading) -> dict[str, object] | None:
    """Mean times of flush and commit (None without one), and rates a second between two readings of one member.

    Counters begin anew with the process; then what the new one has counted is all that is known, so that its rates
    are too low, which `restarted` says. None where that cannot be known: another start, by a wall clock that may have
    been set, and no counter that fell.
    """
    seconds = (after.at_ns - before.at_ns) / 1e9
    anew = any(getattr(after, name) < getattr(before, name) for name in COUNTERS)
    if not anew and abs(after.started - before.started) > STEP:
        return None
    grown = {name: getattr(after, name) - (0.0 if anew else getattr(before, name)) for name in COUNTERS}
    return {
        "seconds": round(seconds, 1),
        "fsync_mean_seconds": _mean(grown["fsync_seconds"], grown["fsyncs"]),
        "fsyncs_per_second": round(grown["fsyncs"] / seconds, 2),
        "commit_mean_seconds": _mean(grown["commit_seconds"], grown["commits"]),
        "commits_per_second": round(grown["commits"] / seconds, 2),
        "peer_sent_bytes_per_second": round(grown["peer_sent"] / seconds),
        "peer_received_bytes_per_second": round(grown["peer_received"] / seconds),
        "client_sent_bytes_per_second": round(grown["client_sent"] / seconds),
        "client_received_bytes_per_second": round(grown["client_received"] / seconds),
        "restarted": anew,
    }


def _mean(total: float, count: float) -> float | None:
    return round(total / count, 5) if count else None


def _done(asked: Iterable[Future[Reading]]) -> list[Reading]:
    return [one.result() for one in asked if one.done() and not one.cancelled() and one.exception() is None]
