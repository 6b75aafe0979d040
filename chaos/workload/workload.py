"""The workload of one scenario: begun before its first fault, looked at all through, stopped at its end, merged.

Operations are counted by when they returned: before the first fault, during faults, after the last. What a scenario
must have seen succeed in each is its `Need`; less is no pass, since an idle workload proves nothing.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.workload.log import join, lines, merge
from chaos.workload.plan import Plan
from chaos.workload.pool import Pool
from machine.errors import InconclusiveError, LabError
from machine.waiting import Pending, wait_until

Line = dict[str, Any]

WAIT_SECONDS = 45.0
"""How long a phase may take to reach its least number: two elections under TCG, and reconnecting."""

DURING_SECONDS = 15.0
"""The same while a fault is in force, just before it is healed."""

FALLS_SHORT = 0.8
"""Share of the asked rate from which on it counts as reached (while nothing was broken)."""


@dataclass(slots=True)
class Need:
    """Least numbers of acknowledged operations, and on which members while faults are in force."""

    before: int = 5
    during: int = 1
    side: tuple[str, ...] | None = None
    """Members that should serve then; None: any."""
    after: int = 5
    everyone: bool = True
    """After: also one at least by every member."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One finished operation, as far as counting needs it."""

    node: str
    outcome: str
    end_ns: int


@dataclass(frozen=True, slots=True)
class Window:
    """A fault from the first change to the proof that it is gone (0: not yet), in ns of CLOCK_MONOTONIC."""

    begin_ns: int
    end_ns: int


@dataclass(slots=True)
class _Tail:
    """Reads what was added to a file since the last time."""

    path: Path
    offset: int = 0

    def more(self) -> list[Line]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


@dataclass(slots=True)
class WorkloadSession:
    """The workers of `pool` at work for one scenario; everything it leaves is in `directory`."""

    pool: Pool
    plan: Plan
    prefix: str
    directory: Path
    base_revision: int
    need: Need = field(default_factory=Need)
    base_index: int = 0
    """Index of raft's log up to which nothing of this scenario stands."""
    begun_ns: int = 0
    stopped_ns: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    """Members whose worker failed, and how; their last operation counts as unknown."""
    _seen: list[Seen] = field(default_factory=list)
    _tails: dict[str, _Tail] = field(default_factory=dict)

    # -- from begin to end -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Set all workers to work. Raises LabError when one does not."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.pool.start()
        orders = {node: self._order(index, node) for index, node in enumerate(self.pool.nodes)}
        self.begun_ns = time.monotonic_ns()
        for answer in self.pool.each(orders).values():
            if isinstance(answer, LabError):
                raise answer
        self._tails = {node: _Tail(self.history_of(node)) for node in self.pool.nodes}

    def _order(self, index: int, node: str) -> Line:
        files = {"history": self.history_of(node), "hand": self.hand_of(node), "watch": self.watch_of(node)}
        for path in files.values():
            path.unlink(missing_ok=True)
        who = {"index": index, "member": node, "prefix": self.prefix, "base_revision": self.base_revision}
        return {
            "order": "begin",
            "plan": self.plan.as_json(),
            **who,
            **{name: str(path) for name, path in files.items()},
        }

    def stop(self) -> None:
        """Let the operations under way end. Safe to repeat."""
        if self.stopped_ns or not self.begun_ns:
            return
        for node, answer in self.pool.each({node: {"order": "stop"} for node in self.pool.nodes}).items():
            if isinstance(answer, LabError):
                self.lost[node] = str(answer)
        self.stopped_ns = time.monotonic_ns()

    def do(self, node: str, request: Line, deadline: float) -> Line:
        """One more operation by a member's worker, beside its loop, recorded with the others.

        Raises LabError when there is no such worker any more.
        """
        answer = self.pool.each({node: {"order": "do", "request": request, "deadline": deadline}})[node]
        if isinstance(answer, LabError):
            raise answer
        return answer

    def read_all(self, until: str, deadline: float) -> dict[str, Line | LabError]:
        """Watch everything from the base revision on, on every member, until an event of key `until`."""
        order = {"order": "read_all", "start": self.base_revision + 1, "until": until, "deadline": deadline}
        return self.pool.each({node: order for node in self.pool.nodes if node not in self.lost})

    def merge(self) -> Path:
        """history.jsonl (and watch.jsonl) of all workers; their own files go."""
        meta = {"base_revision": self.base_revision, "initial": {}, "closed_world": False}
        history, watch = self.directory / "history.jsonl", self.directory / "watch.jsonl"
        watch.unlink(missing_ok=True)
        merge([part for node in self.pool.nodes for part in (self.history_of(node), self.hand_of(node))], history, meta)
        join([self.watch_of(node) for node in self.pool.nodes], watch)
        for node in self.pool.nodes:
            for path in (self.history_of(node), self.hand_of(node), self.watch_of(node)):
                path.unlink(missing_ok=True)
        return history

    def operations(self) -> list[Line]:
        """Every finished operation of the workload itself so far, as in the history, by worker. Before `merge`."""
        found = [line for node in self.pool.nodes for line in lines(self.history_of(node))]
        return [line for line in found if "outcome" in line]

    def events(self, node: str) -> list[Line]:
        """What a member's watch has told so far. Before `merge`."""
        path = self.watch_of(node)
        return list(lines(path)) if path.exists() else []

    def history_of(self, node: str) -> Path:
        """The file of one worker, while it works."""
        return self.directory / f"worker-{node}.jsonl"

    def hand_of(self, node: str) -> Path:
        """What a worker did by order, beside its loop."""
        return self.directory / f"worker-{node}.hand.jsonl"

    def watch_of(self, node: str) -> Path:
        """The watch of one worker, while it works."""
        return self.directory / f"worker-{node}.watch.jsonl"

    # -- counting ----------------------------------------------------------------------------------------------

    def seen(self) -> list[Seen]:
        """Every finished operation of the workload so far."""
        for node, tail in self._tails.items():
            for line in tail.more():
                if "outcome" in line:
                    end_ns = line["return_ns"] or line.get("gave_up_ns") or line["invoke_ns"]
                    self._seen.append(Seen(node, line["outcome"], end_ns))
        return self._seen if not self.stopped_ns else [one for one in self._seen if one.end_ns <= self.stopped_ns]

    def ok_between(self, begin_ns: int, end_ns: int, side: Iterable[str] | None = None) -> Counter[str]:
        """Acknowledged operations of a time by member."""
        nodes = self.pool.nodes if side is None else tuple(side)
        return Counter(
            one.node
            for one in self.seen()
            if one.outcome == "ok" and begin_ns <= one.end_ns < end_ns and one.node in nodes
        )

    def wait_ok(
        self, since_ns: int, least: int, *, side: Sequence[str] | None = None, everyone: bool = False, seconds: float
    ) -> Counter[str]:
        """Wait until enough have been acknowledged since a time. Raises InconclusiveError after `seconds`."""

        def enough() -> Counter[str]:
            found = self.ok_between(since_ns, time.monotonic_ns(), side)
            idle = [node for node in self.pool.nodes if not found[node]] if everyone else []
            if found.total() < least or idle:
                raise Pending(f"{told(found)}{'; none by ' + ', '.join(idle) if idle else ''}")
            return found

        what = f"{least} acknowledged operations"
        try:
            return wait_until(enough, what, seconds=seconds, every=0.1)
        except LabError as error:
            raise InconclusiveError(f"The workload stands still: {error.what}", where=str(self.directory)) from error

    def phases(self, windows: Sequence[Window]) -> dict[str, Any]:
        """Counts by phase, for the report. Without a fault, everything is `before`."""
        spans = self.spans(windows)
        counts: dict[str, Counter[str]] = {name: Counter() for name in ("before", "during", "after")}
        nodes: dict[str, Counter[str]] = {name: Counter() for name in counts}
        for one in self.seen():
            phase = next(name for name, (begin, end) in spans.items() if begin <= one.end_ns < end)
            counts[phase][one.outcome] += 1
            if one.outcome == "ok":
                nodes[phase][one.node] += 1
        return {name: {**counts[name], "by_member": dict(nodes[name])} for name in counts}

    @staticmethod
    def spans(windows: Sequence[Window]) -> dict[str, tuple[int, int]]:
        """When the phases are: from the first fault to the end of the last one is `during`."""
        never = 2**63
        if not windows:
            return {"before": (0, never), "during": (never, never), "after": (never, never)}
        first = min(one.begin_ns for one in windows)
        last = max(one.end_ns or never for one in windows)
        return {"before": (0, first), "during": (first, last), "after": (last, never)}

    def rate(self, windows: Sequence[Window]) -> tuple[float, bool]:
        """Operations a second of one worker in calm, and whether that is what was asked for."""
        end_ns = min([one.begin_ns for one in windows] or [self.stopped_ns or time.monotonic_ns()])
        seconds = (end_ns - self.begun_ns) / 1e9
        done = sum(self.begun_ns <= one.end_ns <= end_ns for one in self.seen())
        reached = done / seconds / len(self.pool.nodes) if seconds > 0 else 0.0
        # one operation more or less is not a lower rate
        enough = (done + len(self.pool.nodes)) / seconds / len(self.pool.nodes) if seconds > 0 else 0.0
        return reached, enough >= FALLS_SHORT * self.plan.rate

    # -- what a scenario asked for -------------------------------------------------------------------------------

    def require(self, *, before: int | None, during: int | None, side: Sequence[str] | None, after: int | None) -> None:
        """Change the least numbers (None: as it was); waits for what is asked for before the first fault."""
        need = self.need
        need.during = need.during if during is None else during
        need.after = need.after if after is None else after
        need.side = need.side if side is None else tuple(side)
        if before is not None:
            need.before = before
            self.wait_ok(self.begun_ns, before, seconds=WAIT_SECONDS)

    def shortfall(self, windows: Sequence[Window]) -> str:
        """What is missing of the least numbers, "" when nothing is."""
        spans, need = self.spans(windows), self.need
        wanted: Mapping[str, tuple[int, Sequence[str] | None]] = {
            "before": (need.before, None),
            "during": (need.during if windows else 0, need.side),
            "after": (need.after if windows else 0, None),
        }
        missing = []
        for phase, (least, side) in wanted.items():
            found = self.ok_between(*spans[phase], side)
            if found.total() < least:
                where = f" on {', '.join(side)}" if side else ""
                missing.append(f"{phase}{where}: {found.total()} of at least {least} operations succeeded")
        return "; ".join(missing)


def told(counts: Counter[str]) -> str:
    """Counts by member in words."""
    return ", ".join(f"{node} {counts[node]}" for node in sorted(counts)) or "none"
