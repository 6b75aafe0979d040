"""Bad lines: latency, jitter, loss, duplicates, wrong order, corruption, a low rate, by netem in the sending guest.

A prio qdisc at the root of the guest's card sends packets to chosen peers through netem (tc-netem(8)), everything
else past it, so that ssh from this host is untouched. It works on what the first group sends to the second; round
trips and answers of both directions feel it. Proof: pings towards every chosen peer, before, during and after.
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from chaos.faults.base import Proof
from chaos.faults.guest import GuestFault, each
from chaos.faults.network import Partition, refuse_overlap
from chaos.faults.parameters import Parameter
from chaos.faults.pings import Pings, read_pings, script_of
from chaos.faults.targets import Groups
from chaos.probes import linked
from machine.errors import UsageError

if TYPE_CHECKING:
    from chaos.lab import Lab

DEVICE = "eth0"
"""The guest's only card."""

LIMIT = 10000
"""Packets that netem holds at most; its own default of 1000 would add loss to latency."""


def make_script(addresses: list[str], netem: str) -> str:
    """Script that sends packets to `addresses` through netem with these words; what was at the root before goes."""
    lines = [
        f"qdisc add dev {DEVICE} root handle 1: prio bands 4 priomap {' '.join('0' * 16)}",
        f"qdisc add dev {DEVICE} parent 1:4 handle 40: netem limit {LIMIT} {netem}",
        *(
            f"filter add dev {DEVICE} parent 1: protocol ip prio 1 u32 match ip dst {a}/32 flowid 1:4"
            for a in addresses
        ),
    ]
    return f"{UNDO}\ntc -batch - <<'END'\n" + "\n".join(lines) + "\nEND"


UNDO = f"tc qdisc del dev {DEVICE} root 2>/dev/null || :"
"""Back to the kernel's own qdisc."""


@dataclass(frozen=True)
class Netem(GuestFault):
    """Base: first group's nodes, whose packets towards the second group's nodes (all others) go a bad way."""

    family: ClassVar[str] = "network"
    occupies: ClassVar[str] = "netem"
    count: ClassVar[int] = 10
    """Pings per probe."""
    every: ClassVar[float] = 0.05

    @classmethod
    def normalise(cls, groups: Groups, nodes: tuple[str, ...]) -> Groups:
        """Two groups: whose packets, and towards whom; one group: towards the rest."""
        return Partition.normalise(groups, nodes)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Where it is made: the senders."""
        return self.groups[0]

    def check(self, lab: Lab) -> None:  # noqa: ARG002
        """Refuse other than two separate groups."""
        if len(self.groups) != 2:
            raise UsageError(f"{self.name} takes two groups: whose packets, and towards whom", where="--target")
        refuse_overlap(self.groups)

    @property
    @abstractmethod
    def netem(self) -> str:
        """Words for netem."""

    @abstractmethod
    def judge(self, pings: Pings, *, in_force: bool) -> tuple[str, str, bool]:
        """Expected, seen and whether it holds, from pings to one peer."""

    @property
    def size(self) -> int:
        """Bytes of data in a ping."""
        return 56

    @property
    def wait(self) -> int:
        """Seconds that the last ping is waited for."""
        return 2

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Replace the root qdisc."""
        return make_script([str(lab.manifest.node(peer).address) for peer in self.groups[1]], self.netem)

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Remove the root qdisc: the kernel puts its own there."""
        return UNDO

    def baseline(self, lab: Lab) -> tuple[Proof, ...]:
        """The lines are good before."""
        return tuple(self._look(lab, in_force=False, when="before"))

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """Ping every chosen peer, and read what netem says of itself."""
        return self._look(lab, in_force=in_force, when="during" if in_force else "after")

    def _look(self, lab: Lab, *, in_force: bool, when: str) -> list[Proof]:
        up = linked(lab)
        peers = {str(lab.manifest.node(peer).address): peer for peer in self.groups[1] if peer in up}
        script = script_of(list(peers), self.count, self.every, self.wait, self.size)
        read = f"{script}\necho; tc -j -s qdisc show dev {DEVICE}"
        proof = []
        for node, done in each(lab, [node for node in self.nodes if node in up], read, check=False).items():
            told, _, qdiscs = done.stdout.rstrip().rpartition("\n")
            for address, pings in read_pings(told, list(peers)).items():
                expected, seen, holds = self.judge(pings, in_force=in_force)
                proof.append(Proof(f"ping {node} > {peers[address]}", f"{node}, {when}", expected, seen, holds))
            proof.append(self._qdisc(node, qdiscs, in_force=in_force))
        return proof

    def _qdisc(self, node: str, told: str, *, in_force: bool) -> Proof:
        sent, seen = read_netem(told)
        holds = (sent is not None and sent > 0) if in_force else sent is None
        return Proof(f"qdisc of {node}", node, "netem, packets pass" if in_force else "no netem", seen, holds)

    def proof_seconds(self, in_force: bool) -> float:  # noqa: ARG002
        """What is left to chance shows at the second or third look."""
        return 30.0


def read_netem(told: str) -> tuple[int | None, str]:
    """Packets through netem (None: there is no netem) and a word on it, from `tc -j -s qdisc show`."""
    try:
        qdiscs: list[dict[str, Any]] = json.loads(told)
    except ValueError:
        return None, f"cannot be read: {told[:80]!r}"
    for one in qdiscs:
        if one.get("kind") == "netem":
            return int(one["packets"]), f"netem, {one['packets']} packets, {one.get('drops', 0)} dropped"
    return None, ", ".join(str(one.get("kind")) for one in qdiscs) or "none"


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

    @property
    def share(self) -> float:
        """Part of the packets that is hit, from 0 to 1."""
        return float(self.value("percent")) / 100

    @property
    def count(self) -> int:  # type: ignore[override]
        """So many that about a dozen are hit."""
        return min(400, max(40, math.ceil(12 / self.share)))

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
        around = 4 * math.sqrt(mean * (1 - self.share))
        low, high = max(1, math.floor(mean * self.seen - around)), math.ceil(mean + around)
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

    @property
    def netem(self) -> str:
        """`duplicate P%`."""
        return f"duplicate {self.value('percent'):g}%"

    def hits(self, pings: Pings) -> int:
        """Pings that were answered twice."""
        return pings.duplicates


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
        least = max(1, math.floor(pings.sent * self.share * self.seen))
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
