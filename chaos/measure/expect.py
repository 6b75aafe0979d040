"""A figure of a scenario held against its rule: a step of the report, and the measurement that excuses a miss."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chaos.measure.events import Event, Kind, late_heartbeat, rounds
from chaos.oracle.calibration import probe
from chaos.oracle.judge import Judgement, compare, interval, told_interval
from chaos.oracle.machine import Machine
from chaos.oracle.rules import Context, rule
from chaos.oracle.timing import Timing
from machine.errors import InconclusiveError

if TYPE_CHECKING:
    from chaos.play import Play


def expect(play: Play, name: str, observed: float, *, window: tuple[int, int] | None, **case: Any) -> Judgement:  # noqa: ANN401
    """Compare; on a miss look closer: at rounds in etcd's logs within `window` (ns), and at the machine as it is now.

    Raises AssertionError outside of what is allowed, InconclusiveError where the machine was too slow to tell.
    """
    by = rule(name)
    context = Context(timing=Timing.of(play.lab.manifest), machine=play.machine, **case)
    low, high = interval(by, context)
    with play.step(by.title, f"{told_interval(low, high, by.unit)}: {by.formula}") as step:
        found = compare(observed, by, context)
        if not found.good and window and play.measures:
            seen = play.measures.collect()
            late = Machine(late_heartbeat=late_heartbeat(seen, *window))
            context = replace(context, rounds=rounds(seen, *window), machine=context.machine.beside(late))
            found = compare(observed, by, context)
        if found.verdict == "outside" and by.excused:
            play.machine = play.machine.beside(probe(play.lab))
            found = compare(observed, by, replace(context, machine=context.machine.beside(play.machine)))
        step.observed(found.why)
        told = play.recorder.scenario.metrics.get("judgements", [])
        play.metric("judgements", [*told, found.as_json()])
        if found.verdict == "inconclusive":
            raise InconclusiveError(found.why, where=f"rule {name}", next="The report's calibration says more.")
        assert found.good, found.why  # noqa: S101 - a scenario's verdict
    return found


def first_event(play: Play, kind: Kind, begin_ns: int, *, node: str = "", text: str = "") -> Event:
    """The first event of a kind after a time, by etcd's own log. Raises InconclusiveError when there is none."""
    seen = play.measures.collect() if play.measures else []
    for event in seen:
        if event.kind == kind and event.at_ns >= begin_ns and node in ("", event.node) and text in event.text:
            return event
    raise InconclusiveError(
        f"etcd's log does not show {kind} {text}".rstrip(), where=node or "all nodes", next="./lab logs NODE shows it."
    )


def own_term(play: Play, node: str, begin_ns: int, end_ns: int, known: int) -> int:
    """The term that a member had reached between two times: the highest of its campaigns in its own log, else `known`.

    Maintenance.Status does not tell it: its raftTerm is the term of the last entry applied (E etcdserver/server.go,
    setTerm), which stays still on a member that is alone, with pre-vote or without.
    """
    seen = play.measures.collect() if play.measures else []
    campaigns = (
        event.term or 0
        for event in seen
        if event.node == node and "became candidate" in event.text and begin_ns <= event.at_ns <= end_ns
    )
    return max([known, *campaigns])
