"""Comparison of what was observed with what a rule allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from chaos.oracle.context import Context
from chaos.oracle.rules import Rule, rule

Verdict = Literal["inside", "better", "outside", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Where an observed figure lies; `why` is a sentence for the report."""

    rule: str
    verdict: Verdict
    observed: float
    allowed_low: float
    allowed_high: float
    why: str

    @property
    def good(self) -> bool:
        """Inside, or better than that."""
        return self.verdict in ("inside", "better")

    def as_json(self) -> dict[str, object]:
        """For report.json; an interval without upper end has null there."""
        high = None if math.isinf(self.allowed_high) else round(self.allowed_high, 3)
        return {
            "rule": self.rule,
            "verdict": self.verdict,
            "observed": round(self.observed, 3),
            "allowed_low": round(self.allowed_low, 3),
            "allowed_high": high,
            "why": self.why,
        }


def compare(observed: float, by: Rule | str, context: Context) -> Judgement:
    """Judge `observed` (in the rule's unit) by a rule. Raises UsageError for an unknown one.

    A miss becomes inconclusive when the version was never checked, or at an end that the rule excuses on a machine that
    is too slow for T, by measurement.
    """
    by = rule(by) if isinstance(by, str) else by
    low, high = interval(by, context)
    said = f"{told(observed, by.unit)}, allowed {told_interval(low, high, by.unit)} by {by.formula}"

    def judged(verdict: Verdict, why: str) -> Judgement:
        return Judgement(by.name, verdict, observed, low, high, why)

    if not by.holds_for(context.timing.version):
        version = ".".join(map(str, context.timing.version))
        return judged("inconclusive", f"{said}: the rule was not checked for etcd {version}")
    if math.isnan(observed):
        return judged("inconclusive", f"nothing was observed, allowed {told_interval(low, high, by.unit)}")
    if low <= observed <= high:
        return judged("inside", said)
    if observed < low and by.early == "better":
        return judged("better", f"{said}: sooner than that")
    end = "low" if observed < low else "high"
    slow = context.machine.too_slow_for(context.timing) if end in by.excused else []
    if slow:
        return judged("inconclusive", f"{said}: missed, but the machine was too slow to tell: {'; '.join(slow)}")
    return judged("outside", f"{said}: {'too little' if end == 'low' else 'too much'}")


def interval(by: Rule, context: Context) -> tuple[float, float]:
    """What a rule allows here, widened by the resolution of the measurement where it is a time."""
    spread = context.resolution if by.unit == "s" else 0.0
    return max(0.0, by.low(context) - spread), by.high(context) + spread


def told(value: float, unit: str) -> str:
    """A figure with its unit."""
    return f"{value:.2f} s" if unit == "s" else f"{value:g} {unit}"


def told_interval(low: float, high: float, unit: str) -> str:
    """An interval in words."""
    if math.isinf(high):
        return f"{told(low, unit)} or more"
    if low == high:
        return f"exactly {told(low, unit)}"
    return f"{low:.2f} to {told(high, unit)}" if unit == "s" else f"{low:g} to {told(high, unit)}"
