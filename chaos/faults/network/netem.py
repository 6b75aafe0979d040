"""Bad lines by netem in the sending guest: what the kinds in chaos.faults.network.impairments share.

A prio qdisc at the root of the guest's card sends packets to chosen peers through netem (tc-netem(8)), everything
else past it, so that ssh from this host is untouched. It works on what the first group sends to the second; round
trips and answers of both directions feel it. Proof: pings towards every chosen peer, before, during and after.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.faults.base import Proof
from chaos.faults.guest import GuestFault
from chaos.faults.network.flows import ANY_PORT, stopped
from chaos.faults.network.guest_nft import dropped
from chaos.faults.network.partitions import Partition, refuse_overlap
from chaos.faults.network.pings import Pings, read_pings, script_of
from chaos.faults.targets import Groups
from chaos.lab.lab import Lab
from chaos.lab.probes import linked
from chaos.lab.scripts import each
from infra.layout import NIC
from machine.errors import UsageError

"""The guest's only card."""

LIMIT = 10000
"""Packets that netem holds at most; its own default of 1000 would add loss to latency."""


def make_script(addresses: list[str], netem: str) -> str:
    """Script that sends packets to `addresses` through netem with these words; what was at the root before goes."""
    lines = [
        f"qdisc add dev {NIC} root handle 1: prio bands 4 priomap {' '.join('0' * 16)}",
        f"qdisc add dev {NIC} parent 1:4 handle 40: netem limit {LIMIT} {netem}",
        *(f"filter add dev {NIC} parent 1: protocol ip prio 1 u32 match ip dst {a}/32 flowid 1:4" for a in addresses),
    ]
    return f"{UNDO}\ntc -batch - <<'END'\n" + "\n".join(lines) + "\nEND"


UNDO = (
    f"tc qdisc del dev {NIC} root 2>/dev/null || case $(busybox ip link show dev {NIC}) in "
    f'*" qdisc prio "* | "") echo "{NIC} keeps its qdisc" >&2; false ;; esac'
)
"""Back to the kernel's own qdisc. tc fails where that is the root already, so busybox, which is quick, is asked too."""


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
        """Ping every chosen peer that is up and that no cut takes away, and read what netem says of itself."""
        return self._look(lab, in_force=in_force, when="during" if in_force else "after")

    def _look(self, lab: Lab, *, in_force: bool, when: str) -> list[Proof]:
        up = linked(lab)
        cut = dropped(lab, up)
        peers = {
            node: {
                str(lab.manifest.node(peer).address): peer
                for peer in self.groups[1]
                if peer in up and not stopped(cut, node, peer, ANY_PORT)
            }
            for node in self.nodes
            if node in up
        }

        def read(node: str) -> str:
            script = script_of(list(peers[node]), self.count, self.every, self.wait, self.size)
            return f"{script}\necho; tc -j -s qdisc show dev {NIC}"

        proof = []
        for node, done in each(lab, peers, read, check=False).items():
            told, _, qdiscs = done.stdout.rstrip().rpartition("\n")
            for address, pings in read_pings(told, list(peers[node])).items():
                expected, seen, holds = self.judge(pings, in_force=in_force)
                proof.append(Proof(f"ping {node} > {peers[node][address]}", f"{node}, {when}", expected, seen, holds))
            proof.append(self._qdisc(node, qdiscs, in_force=in_force, pinged=bool(peers[node])))
        return proof

    def _qdisc(self, node: str, told: str, *, in_force: bool, pinged: bool) -> Proof:
        """What netem says of itself; packets of ours went through it only where there was somebody to ping."""
        expected = f"netem{', packets pass' if pinged else ''}" if in_force else "no netem"
        try:
            sent, seen = read_netem(told)
        except ValueError:
            return Proof(f"qdisc of {node}", node, expected, f"cannot be read: {told[:80]!r}", holds=False)
        holds = (sent is not None and (sent > 0 or not pinged)) if in_force else sent is None
        return Proof(f"qdisc of {node}", node, expected, seen, holds)

    def proof_seconds(self, in_force: bool) -> float:  # noqa: ARG002
        """What is left to chance shows at the second or third look."""
        return 30.0


def read_netem(told: str) -> tuple[int | None, str]:
    """Packets through netem (None: there is no netem) and a word on it, from `tc -j -s qdisc show`; else ValueError."""
    qdiscs: list[dict[str, Any]] = json.loads(told)
    for one in qdiscs:
        if one.get("kind") == "netem":
            return int(one["packets"]), f"netem, {one['packets']} packets, {one.get('drops', 0)} dropped"
    return None, ", ".join(str(one.get("kind")) for one in qdiscs) or "none"
