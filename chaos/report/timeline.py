"""One scenario's time line as the page draws it: lanes of faults, members, operations, outages, events.

All times become tenths of a millisecond since the scenario's zero, the earliest instant known of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from chaos.report.evidence import Evidence
from chaos.report.model import Scenario
from chaos.report.sampling import thin
from chaos.workload.outages import Outages, find_outages

UNIT_NS: Final = 100_000

LEADER: Final = "L"
FOLLOWER: Final = "F"
LOST: Final = "N"
"""Answers, and knows no leader."""
SILENT: Final = "X"
"""Does not answer."""

SERIES: Final = {"fsync_seconds": "fsync", "round_trip_seconds": "round trip"}
"""Further figures of a sample that are drawn, in seconds."""

OUTCOMES: Final = ("ok", "fail", "unknown")

SAMPLE_GAP: Final = 4
"""A member is not known to be in a state for longer than this many usual distances between samples."""

EVENT_LIMIT: Final = 300
"""Events drawn of one scenario; the file has all."""

MINOR: Final = ("slow-apply", "other")
"""Kinds of events that give way to others where there are too many."""

Json = dict[str, Any]


def build(scenario: Scenario, evidence: Evidence, nodes: Sequence[str], buckets: int) -> Json | None:
    """The lanes of one scenario, or None when nothing in it carries a time.

    `buckets` limits the points of operations and series: at most two a bucket in each lane, for each outcome.
    """
    instants = list(_instants(scenario, evidence))
    if not instants:
        return None
    zero, last = min(instants), max(instants)
    clock = _Clock(zero)
    by_member = _by_member(evidence.history)
    outages = {member: find_outages(ops) for member, ops in by_member.items()}
    return {
        "id": scenario.id,
        "end": max(clock(last), 1),
        "steps": [
            [clock(step.started_ns), clock(step.ended_ns or last), step.verdict, step.title]
            for step in scenario.steps
            if step.started_ns
        ],
        "faults": [
            {
                "name": fault.name,
                "target": fault.target,
                "place": fault.place,
                "begun": clock(fault.started_ns or fault.injected_ns),
                "from": clock(fault.injected_ns),
                "proved": clock(fault.proved_ns) if fault.proved_ns else None,
                "mended": clock(fault.mended_ns) if fault.mended_ns else None,
                "to": clock(fault.healed_ns) if fault.healed_ns else None,
            }
            for fault in scenario.faults
        ],
        "members": _members(evidence.samples, nodes, clock),
        "ops": {member: _operations(by_member[member], clock, buckets) for member in _order(by_member, nodes)},
        "outages": {member: _outages(outages[member], clock) for member in _order(outages, nodes)},
        "events": [
            [clock(event["at_ns"]), str(event.get("node", "")), str(event.get("kind", "other")), _text(event)]
            for event in _chosen(evidence.events)
        ],
        "left_out": max(0, len(evidence.events) - EVENT_LIMIT),
        "series": _series(evidence.samples, nodes, clock, buckets),
    }


class _Clock:
    def __init__(self, zero_ns: int) -> None:
        self.zero_ns = zero_ns

    def __call__(self, at_ns: int) -> int:
        return round((at_ns - self.zero_ns) / UNIT_NS)


def _instants(scenario: Scenario, evidence: Evidence) -> Iterable[int]:
    yield from (scenario.started_ns, scenario.ended_ns) if scenario.started_ns and scenario.ended_ns else ()
    for step in scenario.steps:
        yield from (at for at in (step.started_ns, step.ended_ns) if at)
    for fault in scenario.faults:
        moments = (fault.started_ns, fault.injected_ns, fault.proved_ns, fault.mended_ns, fault.healed_ns)
        yield from (at for at in moments if at)
    for records in (evidence.samples, evidence.events):
        if records:
            yield from (records[0]["at_ns"], records[-1]["at_ns"])
    if evidence.history:
        yield evidence.history[0]["invoke_ns"]
        yield max(
            op["return_ns"] if isinstance(op.get("return_ns"), int) else op["invoke_ns"] for op in evidence.history
        )


def _order(found: Iterable[str], nodes: Sequence[str]) -> list[str]:
    """The lab's nodes first and in their order, then whatever else was named."""
    there = set(found)
    return [node for node in nodes if node in there] + sorted(there - set(nodes))


def _by_member(history: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for op in history:
        found.setdefault(str(op.get("member") or "any member"), []).append(op)
    return found


def _operations(ops: Sequence[Mapping[str, Any]], clock: _Clock, buckets: int) -> Json:
    """Points of one member's clients by outcome: call, duration, kind, and how many each stands for."""
    lane: Json = {"count": len(ops)}
    for outcome in OUTCOMES:
        mine = [op for op in ops if op.get("outcome", "unknown") == outcome]
        calls = [int(op["invoke_ns"]) for op in mine]
        took = [
            int(op["return_ns"]) - at if isinstance(op.get("return_ns"), int) else 0
            for op, at in zip(mine, calls, strict=True)
        ]
        # what never ended has no duration: the first and the last of a bucket are kept instead
        kept = thin(calls, took if any(took) else calls, buckets)
        lane[outcome] = {
            "n": len(mine),
            "t": [clock(calls[index]) for index, _ in kept],
            "d": [round(took[index] / UNIT_NS) for index, _ in kept],
            "k": [str(mine[index].get("op", "")) for index, _ in kept],
            "w": [stands for _, stands in kept],
            "e": [str(mine[index].get("error") or "")[:80] for index, _ in kept] if outcome != "ok" else [],
        }
    return lane


def _outages(found: Outages, clock: _Clock) -> Json:
    return {
        "spans": [[clock(one.begin_ns), clock(one.end_ns), one.ended] for one in found.outages],
        "spacing_ms": round(found.spacing_ns / 1e6, 1),
        "limit_ms": round(found.limit_ns / 1e6),
        "total_ms": round(found.total_ns / 1e6),
    }


def _members(samples: Sequence[Mapping[str, Any]], nodes: Sequence[str], clock: _Clock) -> dict[str, list[list[Any]]]:
    """Runs of equal state per member: from, to, state, term. A pause in the samples leaves a hole."""
    by_node: dict[str, list[Mapping[str, Any]]] = {}
    for sample in samples:
        by_node.setdefault(str(sample.get("node", "")), []).append(sample)
    return {node: _runs(by_node[node], clock) for node in _order(by_node, nodes)}


def _runs(samples: Sequence[Mapping[str, Any]], clock: _Clock) -> list[list[Any]]:
    times = [int(sample["at_ns"]) for sample in samples]
    usual = statistics.median(b - a for a, b in pairwise(times)) if len(times) > 1 else 0.0
    runs: list[list[Any]] = []
    for index, sample in enumerate(samples):
        begin = times[index]
        end = times[index + 1] if index + 1 < len(times) else begin
        if usual and end - begin > SAMPLE_GAP * usual:
            end = begin + int(usual)
        state = _state(sample)
        term = sample.get("term") if state != SILENT else None
        if runs and runs[-1][2:] == [state, term] and runs[-1][1] == clock(begin):
            runs[-1][1] = clock(end)
        else:
            runs.append([clock(begin), clock(end), state, term])
    return runs


def _state(sample: Mapping[str, Any]) -> str:
    if not sample.get("ok"):
        return SILENT
    if sample.get("leader"):
        return LEADER
    return FOLLOWER if sample.get("leader_id") not in (None, 0, "0", "") else LOST


def _series(samples: Sequence[Mapping[str, Any]], nodes: Sequence[str], clock: _Clock, buckets: int) -> list[Json]:
    found = []
    for key, title in SERIES.items():
        having: dict[str, list[tuple[int, float]]] = {}
        for sample in samples:
            value = sample.get(key)
            if isinstance(value, int | float):
                having.setdefault(str(sample.get("node", "")), []).append((int(sample["at_ns"]), float(value)))
        for node in _order(having, nodes):
            times = [at for at, _ in having[node]]
            values = [value for _, value in having[node]]
            kept = [index for index, _ in thin(times, values, buckets)]
            found.append(
                {
                    "title": title,
                    "node": node,
                    "t": [clock(times[index]) for index in kept],
                    "v": [round(values[index] * 1000, 2) for index in kept],
                }
            )
    return found


def _chosen(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """As many events as are drawn, those that tell more before those that many loads give rise to."""
    weighed = sorted(events, key=lambda event: str(event.get("kind", "other")) in MINOR)
    return sorted(weighed[:EVENT_LIMIT], key=lambda event: int(event["at_ns"]))


def _text(event: Mapping[str, Any]) -> str:
    return str(event.get("text", ""))[:300]
