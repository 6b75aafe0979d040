"""Network faults: cutting members off from each other at the bridge."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, ClassVar

from chaos.faults.base import Fault, Proof, describe
from chaos.faults.bridge import Bridge, Pair
from chaos.faults.targets import Groups
from chaos.probes import ANSWER_SECONDS, SILENCE_SECONDS, Reach, tcp_matrix
from infra.manifest import PEER_PORT
from machine.errors import RequirementError, UsageError
from machine.process import run

if TYPE_CHECKING:
    from chaos.lab import Lab


@dataclass(frozen=True)
class Partition(Fault):
    """Groups of nodes that cannot reach each other, either way; one group is cut off from all others.

    Established connections are cut too, as their packets are dropped. This host still reaches every node.
    """

    name: ClassVar[str] = "partition"
    family: ClassVar[str] = "network"
    summary: ClassVar[str] = "cut groups of nodes off from each other (one group: from the rest)"
    needs_power: ClassVar[bool] = False

    @classmethod
    def normalise(cls, groups: Groups, nodes: tuple[str, ...]) -> Groups:
        """Two groups or more: one group gets the rest as the other."""
        if len(groups) > 1:
            return groups
        return (groups[0], tuple(name for name in nodes if name not in groups[0]))

    def check(self, lab: Lab) -> None:
        """Refuse overlapping or empty groups, and a bridge that we may not touch."""
        names = [name for group in self.groups for name in group]
        if len(names) != len(set(names)) or not all(self.groups):
            raise UsageError(
                f"The groups {describe(self.groups)} overlap, or one is empty",
                where="--target",
                next="Name each node in one group at most, and leave nodes on the other side.",
            )
        if not run(["nft", "list", "tables"], netns=lab.manifest.hypervisor.netns, check=False).ok:
            raise RequirementError(
                "nftables cannot be changed where the lab's bridge is",
                where=f"bridge {lab.manifest.hypervisor.bridge}",
                next="Run as root on the hypervisor's host, or build the lab on the embedded hypervisor.",
            )

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Directed pairs that are cut: both ways between every two groups."""
        return tuple(
            (source, target) for one, other in permutations(self.groups, 2) for source in one for target in other
        )

    @property
    def cut_name(self) -> str:
        """Name of the chain and set of this cut."""
        return self.id.replace("-", "_")

    def place(self, lab: Lab) -> str:
        """The bridge."""
        return f"bridge {lab.manifest.hypervisor.bridge}"

    def apply(self, lab: Lab) -> None:
        """One nft transaction for all pairs."""
        Bridge.of(lab.manifest).cut(self.cut_name, self.pairs, self.lease)

    def renew(self, lab: Lab) -> None:
        """Start the lease of every pair anew."""
        Bridge.of(lab.manifest).renew(self.cut_name, self.pairs, self.lease)

    def lift(self, lab: Lab) -> None:
        """Remove the rules."""
        Bridge.of(lab.manifest).mend(self.cut_name)

    def baseline(self, lab: Lab) -> tuple[Proof, ...]:
        """Every pair that will be cut is reachable before, else the cut would prove nothing."""
        if self.cut_name in Bridge.of(lab.manifest).cuts():
            return ()
        return tuple(self._reachability(lab, in_force=False, when="before"))

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """Probe every directed pair over TCP from inside the guests, then read the rules and their counters."""
        proof = self._reachability(lab, in_force=in_force, when="during" if in_force else "after")
        cut = Bridge.of(lab.manifest).cuts().get(self.cut_name)
        place = self.place(lab)
        if not in_force:
            return [*proof, Proof("rules of the cut", place, "gone", "there" if cut else "gone", cut is None)]
        held = cut.pairs if cut else frozenset[Pair]()
        probed = {tuple(item.what.removeprefix("tcp ").split(" > ")) for item in proof}
        for pair in self.pairs:
            packets = cut.dropped.get(pair, 0) if cut else 0
            seen = f"{'in force' if pair in held else 'not in force'}, {packets} packets dropped"
            # a pair with a dead end sends nothing, so only the rule can be shown
            holds = pair in held and (packets > 0 or pair not in probed)
            proof.append(Proof(f"drop rule {pair[0]} > {pair[1]}", place, "in force, counter rising", seen, holds))
        return proof

    def _reachability(self, lab: Lab, *, in_force: bool, when: str) -> list[Proof]:
        alive = lab.running()
        cut = set(self.pairs) if in_force else set[Pair]()
        # pairs that another cut holds are that one's to prove
        others = {
            pair
            for name, state in Bridge.of(lab.manifest).cuts().items()
            if name != self.cut_name
            for pair in state.pairs
        }
        wanted = [pair for pair in permutations(alive, 2) if pair not in others]
        proof = []
        for (source, target), reach in tcp_matrix(
            lab, wanted, PEER_PORT, SILENCE_SECONDS if in_force else ANSWER_SECONDS
        ).items():
            should = Reach.SILENT if (source, target) in cut else Reach.ANSWERED
            proof.append(
                Proof(f"tcp {source} > {target}", f"{source}, {when}", should.value, reach.value, reach is should)
            )
        return proof

    def proof_seconds(self, in_force: bool) -> float:  # noqa: ARG002
        """Probes take a second or two; the rest is for a slow machine."""
        return 30.0
