"""Everything that is measured all through one scenario, as a context manager around it.

Sampling runs beside it; guest clocks are read at both ends, etcd's journals are fetched at the end, and the figures go
into the scenario's metrics. What cannot be measured is said in `measurement_problems`, and figures that would rest on
it are left out; a rule that needs it is inconclusive (chaos.harness.judging).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import orjson

from chaos.evidence.sources import SOURCES, Missing, lacking
from chaos.lab.lab import Lab
from chaos.lab.probes import linked
from chaos.measure import events, figures
from chaos.measure.clocks import ClockMap, Reading, read_clock
from chaos.measure.events import Event
from chaos.measure.sampler import Sampler, period_of
from chaos.measure.samples import Sample
from chaos.measure.traffic import Pages, Phase, Traffic
from chaos.workload.outages import find_outages
from machine.errors import LabError

CONNECT_SECONDS: Final = 10.0
"""For connecting by ssh: a scenario waits for no node that does not take part; a second and more under TCG."""

STOPPING: Final = frozenset({"power-off", "pause", "reset", "rollback"})
"""Faults that stop a guest's clock or end its boot: what the time line calls power."""


class FaultSpan(Protocol):
    """A fault of a scenario; times are ns of CLOCK_MONOTONIC, 0 while it has not happened."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def target(self) -> str: ...  # noqa: D102
    @property
    def injected_ns(self) -> int: ...  # noqa: D102
    @property
    def healed_ns(self) -> int: ...  # noqa: D102


class Recording(Protocol):
    """Where figures and evidence of a scenario go (chaos.report.ScenarioRecorder)."""

    @property
    def evidence_dir(self) -> Path: ...  # noqa: D102
    @property
    def faults(self) -> Sequence[FaultSpan]: ...  # noqa: D102
    def metric(self, name: str, value: object) -> None: ...  # noqa: D102


class Measures:
    """Samples, events and figures of one scenario of `recorder`, on `lab`."""

    def __init__(self, lab: Lab, pages: Pages, recorder: Recording, known: Sequence[Missing] = ()) -> None:
        """`known`: sources of evidence that this lab lacks from the start."""
        self.problems: list[str] = []
        self._known = tuple(known)
        self._unread: dict[str, str] = {}
        """Nodes with a link whose log could not be read the last time, and why."""
        self._read_last: frozenset[str] = frozenset()
        self._lab = lab
        self._recorder = recorder
        self._readings: list[Reading] = []
        self._since: dict[str, float] = {}
        self._logs: dict[str, str] = {}
        self._sampler = Sampler.of(lab.manifest, lab.paths, recorder.evidence_dir / "samples.jsonl")
        self._traffic = Traffic(pages, recorder.evidence_dir / "traffic.jsonl")
        self._begun_ns = time.monotonic_ns()

    def __enter__(self) -> Self:
        self._begun_ns = time.monotonic_ns()
        self._sampler.__enter__()
        self._traffic.begin()
        self._each("clock", self._open_node)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._sampler.close()
        try:
            self.finish()
        except Exception as problem:  # noqa: BLE001 - measuring never changes what a scenario found
            self._say(f"{type(problem).__name__}: {problem}")

    def phase_ends(self, phase: Phase) -> None:
        """Read every member's counters, beside what goes on: the part of the scenario before, during or after faults
        ends now."""
        self._traffic.end(phase)

    @property
    def samples(self) -> list[Sample]:
        """Every sample so far, in order of time."""
        return sorted(self._sampler.rows, key=lambda one: one.at_ns)

    @property
    def missing(self) -> list[Missing]:
        """Sources of evidence that are missing, from the start or as found while measuring."""
        return [*self._known, *(Missing("log", node, why) for node, why in self._unread.items())]

    def unread(self, node: str) -> str:
        """Why the last `collect` has no log of a node; "" where it has."""
        if gone := lacking(self.missing, "log", [node]):
            return str(gone)
        return "" if node in self._read_last else f"the log of {node} was not read: no link, or no power"

    def collect(self) -> list[Event]:
        """etcd's log since the scenario's beginning, on the host's time line, and the power of the machines.

        May be called while the scenario goes on; nodes without a link are left out, those that do not answer are said.
        """
        texts: dict[str, str] = {}

        self._unread = {}

        def one(node: str) -> None:
            self._unread[node] = "it was not read to its end"
            self._read(node)
            # where a clock was set, what was written meanwhile may bear any date: `at_ns` sorts it out
            moved = any("clock" in entry.name for entry in self._faults)
            since = 0.0 if moved else self._since.get(node, 0.0)
            texts[node] = self._logs[node] = events.fetch(self._lab.shell(node), since, self._logs.get(node, ""))
            del self._unread[node]

        self._each("log", one)
        stops = [entry.injected_ns for entry in self._faults if _stops(entry)]
        self._read_last = frozenset(texts)
        found: list[Event] = []
        for node, text in texts.items():
            clock = ClockMap([reading for reading in self._readings if reading.node == node], stops)
            found += [event for event in events.parse(node, text, clock) if event.at_ns >= self._begun_ns]
            if lines := events.unplaced(text, clock):
                self._say(
                    f"log of {node}: {lines} lines are of a boot whose clock was never read, so they are left out"
                )
            if text.count("\n") >= events.LINES:
                self._say(f"log of {node}: only its newest {events.LINES} lines were read")
        found += power_events(self._faults)
        return events.write_events(self._recorder.evidence_dir / "events.jsonl", found)

    def finish(self) -> None:
        """Collect, and put the figures into the report."""
        seen = self.collect()
        if not any("clock" in entry.name for entry in self._faults):
            self._each("journal", self._whole)
        samples = self.samples
        end_ns = time.monotonic_ns()
        history = self._history()
        told: list[dict[str, object]] = []
        for entry in self._faults:
            found = figures.recovery(
                nodes=self._lab.manifest.node_names,
                fault_ns=entry.injected_ns,
                healed_ns=entry.healed_ns,
                end_ns=end_ns,
                samples=samples,
                events=seen,
                history=history,
            )
            told.append({"fault": f"{entry.name} {entry.target}", **_proper(found, self.missing)})
        if told:
            self._recorder.metric("recovery", told)
        if history:
            self._recorder.metric("unavailability", unavailability(history))
        self._recorder.metric("traffic", self._traffic.finish())
        for problem in (*(f"samples: {one}" for one in self._sampler.problems), *self._traffic.problems):
            self._say(problem)
        for one in self._known:
            self._say(one.full)
        self._recorder.metric(
            "measured",
            {
                "samples": len(samples),
                "unanswered": sum(not one.ok for one in samples),
                "resolution_seconds": period_of(self._lab.manifest),
                "events": len(seen),
                "clock_within_seconds": round(max((one.within for one in self._readings), default=0.0), 3),
            },
        )
        if self.problems:
            # in its order, and once: logs are read more than once in a scenario
            self.problems = list(dict.fromkeys(self.problems))
            self._recorder.metric("measurement_problems", self.problems)

    @property
    def _faults(self) -> list[FaultSpan]:
        return [entry for entry in self._recorder.faults if entry.injected_ns]

    def _open_node(self, node: str) -> None:
        self._since[node] = self._read(node).wall - 1

    def _whole(self, node: str) -> None:
        if node in self._since and (words := events.lost(self._lab.shell(node), self._since[node])):
            self._say(f"log of {node}: {words}")

    def _read(self, node: str) -> Reading:
        reading = self._lab.inside.ask(self._lab.shell(node), read_clock, "run")
        self._readings.append(reading)
        return reading

    def _each(self, what: str, call: Callable[[str], None]) -> None:
        """Do something on all nodes at once; what fails is said. A node without a link would only take time."""
        nodes = linked(self._lab)

        def tried(node: str) -> None:
            try:
                self._lab.shell(node).open(CONNECT_SECONDS)
                call(node)
            except LabError as error:
                self._say(f"{what} of {node}: {error.what}")
                if what == "log":
                    self._unread[node] = error.what

        with ThreadPoolExecutor(max(1, len(nodes))) as pool:
            list(pool.map(tried, nodes))

    def _say(self, problem: str) -> None:
        self.problems.append(problem[:300])

    def _history(self) -> list[dict[str, object]]:
        path = self._recorder.evidence_dir / "history.jsonl"
        if not path.exists():
            return []
        rows, bad = [], 0
        for line in path.read_bytes().splitlines():
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                bad += 1
                continue
            if isinstance(row, dict) and "invoke_ns" in row:
                rows.append(row)
        if bad:
            self._say(f"history: {bad} lines cannot be read, so outages are without them")
        if not any(row.get("outcome") == "ok" for row in rows):
            self._say("history: no operation was acknowledged")
        return rows


def _proper(found: dict[str, object], missing: Sequence[Missing]) -> dict[str, object]:
    """Figures without those that a missing source would have told: what is left of it would be a guess."""
    lost = {name for one in missing for name in SOURCES[one.source].figures}
    # a leader by the samples stays; that it was lost, and in how many rounds, is the log's alone
    return {name: value for name, value in found.items() if name not in lost}


def unavailability(history: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Per member whose clients asked: the exact intervals without success, and how finely they are known."""
    by_member: dict[str, list[Mapping[str, Any]]] = {}
    for op in sorted(history, key=lambda one: int(one["invoke_ns"])):
        by_member.setdefault(str(op.get("member", "")), []).append(op)
    told: dict[str, object] = {}
    for member, ops in sorted(by_member.items()):
        found = find_outages(ops)
        told[member] = {
            "seconds": round(found.total_ns / 1e9, 3),
            "intervals": [
                {"begin_ns": one.begin_ns, "seconds": round((one.end_ns - one.begin_ns) / 1e9, 3), "ended": one.ended}
                for one in found.outages
            ],
            "resolution_seconds": round(found.spacing_ns / 1e9, 3),
            "shortest_counted_seconds": round(found.limit_ns / 1e9, 3),
        }
    return told


def power_events(faults: Iterable[FaultSpan]) -> list[Event]:
    """What was done to the power of machines, as events of the nodes."""
    found: list[Event] = []
    for entry in faults:
        if not _stops(entry):
            continue
        for node in entry.target.replace(" | ", ",").split(","):
            found.append(Event(entry.injected_ns, node, "power", f"{entry.name} injected"))
            if entry.healed_ns:
                found.append(Event(entry.healed_ns, node, "power", f"{entry.name} healed"))
    return found


def _stops(entry: FaultSpan) -> bool:
    return entry.name in STOPPING
