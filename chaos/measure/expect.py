"""A figure of a scenario held against its rule: a step of the report, and the measurement that excuses a miss."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chaos.measure.events import rounds
from chaos.oracle.calibration import probe
from chaos.oracle.judge import Judgement, compare, interval, told_interval
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
        if not found.good and window and play.measures and "rounds" not in case:
            seen = rounds(play.measures.collect(), *window)
            context = replace(context, rounds=seen)
            found = compare(observed, by, context)
        if found.verdict == "outside" and by.excused:
            play.machine = play.machine.beside(probe(play.lab))
            found = compare(observed, by, replace(context, machine=play.machine))
        step.observed(found.why)
        told = play.recorder.scenario.metrics.get("judgements", [])
        play.metric("judgements", [*told, found.as_json()])
        if found.verdict == "inconclusive":
            raise InconclusiveError(found.why, where=f"rule {name}", next="The report's calibration says more.")
        assert found.good, found.why  # noqa: S101 - a scenario's verdict
    return found
