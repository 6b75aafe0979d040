"""What sampling may take of a guest's processor, in samples and in pages of metrics, through a whole run.

What the samples leave of the share is saved up, and pays for the pages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

SHARE: Final = 0.02
"""Of one processor of a guest: what all sampling together may take."""

SAVED: Final = 4
"""Pages that may be saved up for at most: what three phases need."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a guest's processor, measured: `bench.sampling` for the samples; the page in proportion."""

    sample: float
    page: float


COSTS: Final[Mapping[str, Cost]] = {"tcg": Cost(0.017, 0.3), "kvm": Cost(0.0005, 0.008)}
"""By the hypervisor's accelerator."""


class SamplingBudget:
    """What sampling may still take of a guest's processor: SHARE of all time, less what samples and pages took.

    A scenario begins when nothing is owed; what its pages cost beyond that is saved before the next one has any.
    """

    def __init__(self, cost: Cost, period: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`period`: seconds from one sample to the next."""
        self._cost = cost
        self._samples = cost.sample / period
        self._clock = clock
        self._sampling = False
        self._at = clock()
        self._left = 0.0

    def sampling(self, on: bool) -> None:
        """Say that samples begin, or end."""
        self._settle()
        self._sampling = on

    def enough(self) -> bool:
        """Whether nothing is owed."""
        self._settle()
        return self._left >= 0

    def page(self) -> None:
        """Pay for one page of every member."""
        self._settle()
        self._left -= self._cost.page

    def _settle(self) -> None:
        now = self._clock()
        earned = (SHARE - (self._samples if self._sampling else 0.0)) * (now - self._at)
        self._at, self._left = now, min(self._left + earned, SAVED * self._cost.page)
