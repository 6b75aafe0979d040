"""Kinds of bad lines (see `network.netem`): latency, jitter, loss, duplicates, wrong order, corruption, low rate."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.network.netem import Netem
from chaos.faults.network.pings import Pings
from chaos.faults.parameters import Parameter
from chaos.lab.lab import Lab
from machine.errors import UsageError

_LATENCY = Parameter("ms", "number", 100, "milliseconds that every packet is held back", low=1, high=5000)
_JITTER = Parameter("jitter_ms", "number", 0, "milliseconds by which that varies, up and down", high=5000)


@dataclass(frozen=True)
class Latency(Netem):
    """Packets are held back for a time."""

    name: ClassVar[str] = "latency"
    summary: ClassVar[str] = "hold packets of the first group towards the second back (one group: to the rest)"
    parameters: ClassVar[tuple[Parameter, ...]] = (_LATENCY, _JITTER)

    def check(self, lab: Lab) -> None:
        """Refuse jitter beyond the latency: packets cannot be early."""
        super().check(lab)
        if self.value("jitter_ms") > self.value("ms"):
            raise UsageError(
                f"jitter_ms is {self.value('jitter_ms'):g}, more than the latency of {self.value('ms'):g} ms",
                where=f"--set jitter_ms={self.value('jitter_ms'):g}",
                next="Give less jitter, or more ms.",
            )

    @property
    def netem(self) -> str:
        """`delay MS [JITTER]`."""
        jitter = self.value("jitter_ms")
        return f"delay {self.value('ms'):g}ms" + (f" {jitter:g}ms" if jitter else "")

    @property
    def wait(self) -> int:
        """Longer than the latency."""
        return 2 + math.ceil(2 * float(self.value("ms")) / 1000)

    def judge(self, pings: Pings, *, in_force: bool) -> tuple[str, str, bool]:
        """No packet comes sooner than the latency; without it, the quickest does."""
        least = self.value("ms") - self.value("jitter_ms")
        quickest, spread = min(pings.times, default=None), max(pings.times, default=0.0) - min(pings.times, default=0.0)
        jitter = self.value("jitter_ms")
        if quickest is None:
            return "answers", str(pings), False
        if not in_force:
            return f"quickest under {self.value('ms'):g} ms", str(pings), quickest < self.value("ms")
        words = f"none under {least:g} ms" + (f", {jitter:g} ms apart" if jitter else "")
        return words, str(pings), quickest >= least and spread >= jitter


@dataclass(frozen=True)
class Jitter(Latency):
    """Packets are held back for a time that varies."""

    name: ClassVar[str] = "jitter"
    summary: ClassVar[str] = "as latency, but for times that vary"
    count: ClassVar[int] = 20
    parameters: ClassVar[tuple[Parameter, ...]] = (
        _LATENCY,
        Parameter("jitter_ms", "number", 50, "milliseconds by which that varies, up and down", low=5, high=5000),
    )


def percent(default: int, what: str) -> tuple[Parameter, ...]:
    """The parameter of faults that hit some packets."""
    return (Parameter("percent", "number", default, f"percent of packets that are {what}", low=1, high=100),)


@dataclass(frozen=True)
class _Share(Netem):
    """Base of faults that hit a share of the packets; `hits` says how many of the pings were."""

    every: ClassVar[float] = 0.02
    word: ClassVar[str]
    seen: ClassVar[float] = 1.0
    """Least part of what is hit that shows in pings."""
    unseen: ClassVar[int] = 0
    """Pings at the end of which nothing shows."""

    @property
    def share(self) -> float:
        """Part of the packets that is hit, from 0 to 1."""
        return float(self.value("percent")) / 100

    @property
    def rare(self) -> float:
        """Part of the packets that makes the difference, from 0 to 1."""
        return self.share

    @property
    def count(self) -> int:  # type: ignore[override]
        """So many that about a dozen are hit."""
        return min(400, max(40, math.ceil(12 / self.rare)))

    @abstractmethod
    def hits(self, pings: Pings) -> int:
        """Pings that were hit."""

    def judge(self, pings: Pings, *, in_force: bool) -> tuple[str, str, bool]:
        """Within four standard deviations of what chance gives, and one at the least."""
        hits = self.hits(pings)
        seen = f"{hits} of {pings.sent} {self.word}; {pings}"
        if not in_force:
            return f"none {self.word}", seen, hits == 0 and pings.sent > 0
        mean = pings.sent * self.share
        around = 4 * math.sqrt(mean * (1 - self.share * self.seen))
        low = max(1, math.floor(mean * self.seen - around) - self.unseen)
        high = min(pings.sent, math.ceil(mean + around))
        return f"{low} to {high} of {pings.sent} {self.word}", seen, low <= hits <= high


@dataclass(frozen=True)
class Loss(_Share):
    """Packets are lost."""

    name: ClassVar[str] = "loss"
    summary: ClassVar[str] = "lose packets of the first group towards the second"
    parameters: ClassVar[tuple[Parameter, ...]] = percent(30, "lost")
    word: ClassVar[str] = "lost"

    @property
    def netem(self) -> str:
        """`loss P%`."""
        return f"loss {self.value('percent'):g}%"

    def hits(self, pings: Pings) -> int:
        """Pings without an answer."""
        return pings.lost


@dataclass(frozen=True)
class Corrupt(Loss):
    """Packets have one bit flipped; checksums catch it, so they are lost late and at the receiver.

    A flip in the sender's hardware address (6 of 98 bytes) goes unnoticed.
    """

    name: ClassVar[str] = "corrupt"
    summary: ClassVar[str] = "flip a bit in packets of the first group towards the second"
    parameters: ClassVar[tuple[Parameter, ...]] = percent(20, "corrupted")
    seen: ClassVar[float] = 0.9

    @property
    def netem(self) -> str:
        """`corrupt P%`."""
        return f"corrupt {self.value('percent'):g}%"


@dataclass(frozen=True)
class Duplicate(_Share):
    """Packets arrive twice."""

    name: ClassVar[str] = "duplicate"
    summary: ClassVar[str] = "send packets of the first group towards the second twice"
    parameters: ClassVar[tuple[Parameter, ...]] = percent(30, "sent twice")
    word: ClassVar[str] = "twice"
    unseen: ClassVar[int] = 1  # ping ends with the first answer to its last question

    @property
    def netem(self) -> str:
        """`duplicate P%`."""
        return f"duplicate {self.value('percent'):g}%"

    def hits(self, pings: Pings) -> int:
        """Pings that were answered twice."""
        return pings.duplicates


MOST_AT_ONCE = 0.98
"""Share of packets sent at once beyond which chance decides whether any other is among the pings (at most 400)."""


@dataclass(frozen=True)
class Reorder(_Share):
    """Packets are held back, but for some that overtake the others."""

    name: ClassVar[str] = "reorder"
    summary: ClassVar[str] = "let packets of the first group towards the second overtake others"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        *percent(25, "sent at once, before those that wait"),
        Parameter("ms", "number", 100, "milliseconds that the others wait", low=20, high=5000),
    )
    word: ClassVar[str] = "overtaken"
    seen: ClassVar[float] = 0.3

    def check(self, lab: Lab) -> None:
        """Refuse what leaves nobody to be overtaken."""
        super().check(lab)
        if self.share > MOST_AT_ONCE:
            raise UsageError(
                f"percent of {self.name} is {self.value('percent'):g}: hardly a packet waits, and none is overtaken",
                where=f"--set percent={self.value('percent'):g}",
                next=f"Give a number from 1 to {100 * MOST_AT_ONCE:g}.",
            )

    @property
    def rare(self) -> float:
        """It takes one that waits and one that overtakes it."""
        return min(self.share, 1 - self.share)

    @property
    def every(self) -> float:  # type: ignore[override]
        """Seconds; the next one leaves before one that waits does."""
        return float(min(0.02, self.value("ms") / 2000))

    @property
    def netem(self) -> str:
        """`delay MS reorder P%`."""
        return f"delay {self.value('ms'):g}ms reorder {self.value('percent'):g}%"

    @property
    def wait(self) -> int:
        """Longer than what they wait."""
        return 2 + math.ceil(2 * float(self.value("ms")) / 1000)

    def hits(self, pings: Pings) -> int:
        """Answers that came after one of a later ping."""
        return pings.disordered

    def judge(self, pings: Pings, *, in_force: bool) -> tuple[str, str, bool]:
        """How many are overtaken depends on how many wait, so only the order and at least a few."""
        if not in_force:
            return super().judge(pings, in_force=False)
        least = max(1, math.floor(pings.sent * self.rare * self.seen))
        hits = self.hits(pings)
        return f"at least {least} of {pings.sent} {self.word}", f"{hits} {self.word}; {pings}", hits >= least


@dataclass(frozen=True)
class Rate(Netem):
    """Packets leave no faster than a slow line would take them."""

    name: ClassVar[str] = "rate"
    summary: ClassVar[str] = "a slow line from the first group towards the second"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("kbit", "number", 512, "kilobits a second, of all packets with their headers", low=32, high=10000),
    )
    count: ClassVar[int] = 5
    every: ClassVar[float] = 0.3

    @property
    def netem(self) -> str:
        """`rate R`."""
        return f"rate {self.value('kbit'):g}kbit"

    @property
    def size(self) -> int:
        """So many bytes that the line takes a fifth of a second for a ping, where one packet may be so large."""
        return int(min(8000, max(200, self.value("kbit") * 1000 / 8 * 0.2)))

    @property
    def least_ms(self) -> float:
        """Milliseconds that the line needs for a ping's data alone."""
        return float(self.size * 8 / self.value("kbit"))

    def judge(self, pings: Pings, *, in_force: bool) -> tuple[str, str, bool]:
        """No ping of this size passes a line of this rate sooner than its bits do."""
        quickest = min(pings.times, default=None)
        if quickest is None:
            return "answers", str(pings), False
        seen = f"{pings}, {self.size} bytes each: at most {self.size * 8 / quickest:.0f} kbit/s"
        if in_force:
            return f"none under {self.least_ms:.0f} ms", seen, quickest >= self.least_ms
        return f"quickest under {self.least_ms:.0f} ms", seen, quickest < self.least_ms
