"""A figure of a scenario held against its rule, a wait against its bound; and the measurement that excuses a miss."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from chaos.evidence.sources import Missing, lacking, without_rule
from chaos.harness.context import ScenarioContext
from chaos.measure.calibration import probe
from chaos.measure.events import Event, Kind, late_heartbeat, rounds
from chaos.oracle.context import Context
from chaos.oracle.delays import Machine
from chaos.oracle.judge import Judgement, compare, interval, told_interval
from chaos.oracle.rules import rule
from chaos.oracle.timing import Timing
from chaos.workload.outcome import Op
from machine.errors import DeadlineError, InconclusiveError

LOG_AGAIN = "Set etcd-extra.log-level to info, run ./lab up, and play it again."


def expect(
    play: ScenarioContext,
    name: str,
    observed: float,
    *,
    window: tuple[int, int] | None,
    **case: Any,  # noqa: ANN401
) -> Judgement:
    """Compare; on a miss look closer: at rounds in etcd's logs within `window` (ns), and at the machine as it is now.

    Raises AssertionError outside of what is allowed, InconclusiveError where the machine was too slow to tell, or where
    the logs are missing that would tell of further rounds.
    """
    by = rule(name)
    context = Context(timing=Timing.of(play.lab.manifest), machine=play.machine, **case)
    low, high = interval(by, context)
    with play.step(by.title, f"{told_interval(low, high, by.unit)}: {by.formula}") as step:
        found = compare(observed, by, context)
        if not found.good and window and play.measures:
            seen = play.measures.collect()
            context = replace(
                context, rounds=rounds(seen, *window), machine=context.machine.beside(_late(seen, window))
            )
            found = compare(observed, by, context)
        if found.verdict == "outside" and by.excused:
            found = compare(observed, by, replace(context, machine=context.machine.beside(_now(play))))
        if found.verdict == "outside" and (gone := without_rule(missing(play), name, play.lab.manifest.node_names)):
            found = replace(found, verdict="inconclusive", why=f"{found.why}, but {gone}")
        step.observed(found.why)
        told = play.recorder.scenario.metrics.get("judgements", [])
        play.metric("judgements", [*told, found.as_json()])
        if found.verdict == "inconclusive":
            raise InconclusiveError(found.why, where=f"rule {name}", next="The report's calibration says more.")
        assert found.good, found.why  # noqa: S101 - a scenario's verdict
    return found


@contextmanager
def patience(play: ScenarioContext) -> Iterator[None]:
    """Around a wait for etcd's own bound and some seconds for a slow machine: whose fault it is when that runs out.

    A DeadlineError becomes an InconclusiveError where a measurement shows that T is too short
    for this machine: calibration's, heartbeats that a leader sent late meanwhile, or the machine's as it is now. It
    stays a fail where none does.
    """
    begun_ns = time.monotonic_ns()
    try:
        yield
    except DeadlineError as error:
        timing = Timing.of(play.lab.manifest)
        if not (slow := play.machine.too_slow_for(timing)):
            seen = play.measures.collect() if play.measures else []
            slow = _late(seen, (begun_ns, time.monotonic_ns())).too_slow_for(timing) or _now(play).too_slow_for(timing)
        if not slow and (gone := lacking(missing(play), "warnings", play.lab.manifest.node_names)):
            raise InconclusiveError(f"{error.what}, but {gone}", where=error.where, next=LOG_AGAIN) from error
        if not slow:
            raise
        raise InconclusiveError(
            f"{error.what}, but the machine was too slow to tell: {'; '.join(slow)}",
            where=error.where,
            next="The report's calibration says more.",
        ) from error


def in_time(op: Op, seconds: float) -> Op:
    """An operation that must be answered within its deadline of `seconds`.

    Raises DeadlineError, for `patience`, when nobody answered in time, AssertionError when it was refused.
    """
    if op.code == "DEADLINE_EXCEEDED" or "timed out" in op.error:
        raise DeadlineError(f"{op.op} {op.key} on {op.member}", seconds=seconds, last=str(op))
    assert op.ok, op  # noqa: S101 - a scenario's verdict
    return op


def _late(seen: Iterable[Event], window: tuple[int, int]) -> Machine:
    """What etcd's own logs say of the machine between two times."""
    return Machine(late_heartbeat=late_heartbeat(seen, *window))


def _now(play: ScenarioContext) -> Machine:
    """The machine as it is now, and as it was at its worst until now."""
    play.machine = play.machine.beside(probe(play.lab))
    return play.machine


def first_event(play: ScenarioContext, kind: Kind, begin_ns: int, *, node: str = "", text: str = "") -> Event:
    """The first event of a kind after a time, by etcd's own log. Raises InconclusiveError when there is none."""
    seen = play.measures.collect() if play.measures else []
    for event in seen:
        if event.kind == kind and event.at_ns >= begin_ns and node in ("", event.node) and text in event.text:
            return event
    raise InconclusiveError(
        f"etcd's log does not show {kind} {text}".rstrip() + unseen(play, node),
        where=node or "all nodes",
        next="./lab logs NODE shows it.",
    )


def missing(play: ScenarioContext) -> list[Missing]:
    """Sources of evidence that are missing in this scenario, from the start or as found until now."""
    return play.measures.missing if play.measures else list(play.missing)


def unseen(play: ScenarioContext, node: str = "") -> str:
    """Why etcd's log may not show something, to be added to a sentence; "" where all of it was read."""
    gone = lacking(missing(play), "log", [node] if node else play.lab.manifest.node_names)
    return f", but {gone}" if gone else ""


def own_term(play: ScenarioContext, node: str, begin_ns: int, end_ns: int, known: int) -> int:
    """The term that a member had reached between two times: the highest of its campaigns in its own log, else `known`.

    Maintenance.Status does not tell it: its raftTerm is the term of the last entry applied (E etcdserver/server.go,
    setTerm), which stays still on a member that is alone, with pre-vote or without. So raises InconclusiveError where
    that log is not there to be read: without it every member would seem to stay where it was.
    """
    seen = play.measures.collect() if play.measures else []
    if why := play.measures.unread(node) if play.measures else "nothing is measured":
        raise InconclusiveError(f"The term of {node} cannot be known: {why}", where=node, next=LOG_AGAIN)
    campaigns = (
        event.term or 0
        for event in seen
        if event.node == node and "became candidate" in event.text and begin_ns <= event.at_ns <= end_ns
    )
    return max([known, *campaigns])
