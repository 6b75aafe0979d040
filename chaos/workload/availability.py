"""When writes did not go through, from the operations of a background writer."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from chaos.workload.outcome import Op

SLOW_SECONDS = 0.5
"""A put that takes longer counts as a gap; the calm median times ten where the machine is slower than that."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which no put went through promptly; nanoseconds of CLOCK_MONOTONIC."""

    begin_ns: int
    end_ns: int
    ended: bool
    """False: still so when the writer stopped."""
    errors: tuple[str, ...]
    """What clients were told meanwhile, each text once."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end_ns - self.begin_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Availability:
    """What a writer saw in all."""

    gaps: tuple[Gap, ...]
    slow_seconds: float
    """Limit that was used."""
    attempted: int
    acknowledged: int

    @property
    def longest(self) -> float:
        """Seconds of the longest gap; 0 without one."""
        return max((gap.seconds for gap in self.gaps), default=0.0)

    @property
    def total(self) -> float:
        """Seconds without prompt writes, in all."""
        return sum(gap.seconds for gap in self.gaps)

    def within(self, begin_ns: int, end_ns: int) -> tuple[Gap, ...]:
        """The gaps that touch an interval."""
        return tuple(gap for gap in self.gaps if gap.begin_ns <= end_ns and gap.end_ns >= begin_ns)

    def as_metrics(self) -> dict[str, object]:
        """For the report."""
        return {
            "puts": self.attempted,
            "acknowledged": self.acknowledged,
            "unavailable_seconds": round(self.total, 3),
            "longest_gap_seconds": round(self.longest, 3),
            "gaps": [
                {"begin_ns": gap.begin_ns, "seconds": round(gap.seconds, 3), "ended": gap.ended, "errors": gap.errors}
                for gap in self.gaps
            ],
            "slow_limit_seconds": round(self.slow_seconds, 3),
        }

    def __str__(self) -> str:
        share = f"{self.acknowledged} of {self.attempted} puts acknowledged"
        if not self.gaps:
            return f"{share}, none took over {self.slow_seconds:.2f} s"
        spans = ", ".join(f"{gap.seconds:.2f} s{'' if gap.ended else ' and going on'}" for gap in self.gaps)
        return f"{share}, without prompt writes for {spans}"


def slow_limit(calm: Sequence[Op]) -> float:
    """What counts as slow on this machine, from puts in calm: SLOW_SECONDS, or ten times their median."""
    times = [op.seconds for op in calm if op.ok]
    return max(SLOW_SECONDS, 10 * statistics.median(times)) if times else SLOW_SECONDS


def measure(ops: Sequence[Op], slow_seconds: float = SLOW_SECONDS) -> Availability:
    """Gaps in a sequence of puts that one client made one after the other.

    A put is prompt when it was acknowledged within `slow_seconds`. A gap begins with the call of the first put that
    is not, and ends when the next acknowledgement of any put comes.
    """
    gaps: list[Gap] = []
    begin: int | None = None
    errors: list[str] = []
    for op in ops:
        if begin is None and (not op.ok or op.seconds > slow_seconds):
            begin, errors = op.invoke_ns, []
        if begin is None:
            continue
        if op.ok:
            gaps.append(Gap(begin, op.return_ns, ended=True, errors=tuple(dict.fromkeys(errors))))
            begin = None
        else:
            errors.append(f"{op.code}: {op.error}")
    if begin is not None:
        gaps.append(Gap(begin, ops[-1].return_ns, ended=False, errors=tuple(dict.fromkeys(errors))))
    return Availability(tuple(gaps), slow_seconds, len(ops), sum(op.ok for op in ops))
