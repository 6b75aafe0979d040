"""Network faults that cut: groups from each other, one way, two majorities with one node between, clients, peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

from chaos.faults.base import Proof, describe
from chaos.faults.network.cut import Cut
from chaos.faults.network.flows import HOST, Flow, both_ways, service
from chaos.faults.targets import Groups, named
from chaos.lab.lab import Lab
from chaos.lab.probes import datagrams
from infra.manifest import CLIENT_PORT, PEER_PORT
from machine.errors import UsageError


@dataclass(frozen=True)
class Partition(Cut):
    """Groups of nodes that cannot reach each other, either way; one group is cut off from all others.

    Established connections are cut too, as their packets are dropped. This host still reaches every node.
    """

    name: ClassVar[str] = "partition"
    summary: ClassVar[str] = "cut groups of nodes off from each other (one group: from the rest)"

    @classmethod
    def normalise(cls, groups: Groups, nodes: tuple[str, ...]) -> Groups:
        """Two groups or more: one group gets the rest as the other."""
        return groups if len(groups) > 1 else (groups[0], _rest(groups[0], nodes))

    def check(self, lab: Lab) -> None:
        """Refuse overlapping or empty groups."""
        refuse_overlap(self.groups)
        super().check(lab)

    @property
    def flows(self) -> tuple[Flow, ...]:
        """Both ways between every two groups."""
        return tuple(Flow(a, b) for one, other in permutations(self.groups, 2) for a in one for b in other)


@dataclass(frozen=True)
class Isolate(Partition):
    """Each of the named nodes on its own: cut off from all others, the named ones too."""

    name: ClassVar[str] = "isolate"
    summary: ClassVar[str] = "cut each named node off from all others"

    @classmethod
    def normalise(cls, groups: Groups, nodes: tuple[str, ...]) -> Groups:
        """A group for each named node, and one for the rest, if there is a rest."""
        alone = named(groups)
        rest = _rest(alone, nodes)
        return (*((name,) for name in alone), *((rest,) if rest else ()))

    def check(self, lab: Lab) -> None:
        """Refuse a lab of one node."""
        if len(self.groups) < 2:
            raise UsageError(f"{describe(self.groups)} has no others to be cut off from", where="--target")
        super().check(lab)


@dataclass(frozen=True)
class BridgeCut(Cut):
    """Two groups that share exactly one node and cannot reach each other otherwise.

    With an odd number of nodes each half is a majority together with the shared node, which sees everybody.
    """

    name: ClassVar[str] = "bridge"
    summary: ClassVar[str] = "two halves that only see one node in common (one target: that node)"

    @classmethod
    def normalise(cls, groups: Groups, nodes: tuple[str, ...]) -> Groups:
        """One node: it is the shared one, and the others are halved."""
        if len(groups) != 1 or len(groups[0]) != 1:
            return groups
        rest = _rest(groups[0], nodes)
        half = len(rest) // 2
        return ((*rest[:half], *groups[0]), (*groups[0], *rest[half:]))

    def check(self, lab: Lab) -> None:
        """Refuse groups that do not share exactly one node, or leave a node out."""
        left_out = _rest(self.nodes, lab.manifest.node_names)
        shared = set(self.groups[0]) & set(self.groups[-1])
        enough = all(len(group) > 1 for group in self.groups)
        if len(self.groups) != 2 or len(shared) != 1 or left_out or not enough:
            raise UsageError(
                f"The groups {describe(self.groups)} are not two halves with exactly one node in common",
                where="--target",
                next="Name the node that both see, or two groups of all nodes that overlap in one, "
                "as --target etcd1,etcd2 --target etcd2,etcd3.",
            )
        super().check(lab)

    @property
    def flows(self) -> tuple[Flow, ...]:
        """Both ways between nodes that are in one half only."""
        one, other = (
            tuple(n for n in group if n not in set(self.groups[0]) & set(self.groups[1])) for group in self.groups
        )
        return tuple(flow for a in one for b in other for flow in both_ways(a, b))


@dataclass(frozen=True)
class OneWay(Partition):
    """What the first group sends does not reach the second; the other way packets pass. One group: to the rest.

    No TCP connection opens either way, as each needs both ways; datagrams show the direction.
    """

    name: ClassVar[str] = "one-way"
    summary: ClassVar[str] = "the first group cannot send to the second (one group: to the rest)"

    def check(self, lab: Lab) -> None:
        """Refuse other than two separate groups."""
        if len(self.groups) != 2:
            raise UsageError(f"{self.name} takes two groups: who cannot send, and to whom", where="--target")
        super().check(lab)

    @property
    def flows(self) -> tuple[Flow, ...]:
        """From the first group to the second."""
        return tuple(Flow(source, target) for source in self.groups[0] for target in self.groups[1])

    def further(self, lab: Lab, nodes: Sequence[str], others: Sequence[Flow], *, in_force: bool) -> list[Proof]:
        """A datagram along each direction between the groups: heard at the target, or not."""
        ways = [way.pair for flow in self.flows for way in both_ways(*flow.pair) if set(flow.pair) <= set(nodes)]
        pairs = [pair for pair in ways if not any(other.drops(*pair) for other in others)]
        cut = {flow.pair for flow in self.flows} if in_force else set()
        expected = {pair: pair not in cut for pair in pairs}
        words = {True: "heard", False: "not heard", None: "could not be probed"}
        return [
            Proof(
                f"datagram {pair[0]} > {pair[1]}", pair[1], words[expected[pair]], words[seen], seen is expected[pair]
            )
            for pair, seen in datagrams(lab, expected).items()
        ]


@dataclass(frozen=True)
class CutClients(Cut):
    """Nobody reaches the client port of these nodes, neither this host nor other nodes; peers go on.

    Calls of this host that only observe (infra.manifest.OBSERVER_PORTS) still pass.
    """

    name: ClassVar[str] = "cut-clients"
    summary: ClassVar[str] = "cut the client port of nodes (2379) off from everybody; peers go on"
    ports: ClassVar[tuple[int, ...]] = (PEER_PORT, CLIENT_PORT)
    from_host: ClassVar[bool] = True

    @classmethod
    def normalise(cls, groups: Groups, nodes: tuple[str, ...]) -> Groups:
        """The named nodes, and the rest."""
        cut = named(groups)
        rest = _rest(cut, nodes)
        return (cut, rest) if rest else (cut,)

    @property
    def flows(self) -> tuple[Flow, ...]:
        """What this host and other nodes exchange with the client ports."""
        return tuple(
            flow
            for server in self.groups[0]
            for client in (HOST, *self.nodes)
            if client != server
            for flow in service(client, server, CLIENT_PORT)
        )


@dataclass(frozen=True)
class CutPeers(Isolate):
    """These nodes and all others do not reach each other's peer port; clients reach everybody."""

    name: ClassVar[str] = "cut-peers"
    summary: ClassVar[str] = "cut the peer port (2380) between the named nodes and all others; clients go on"
    ports: ClassVar[tuple[int, ...]] = (PEER_PORT, CLIENT_PORT)
    from_host: ClassVar[bool] = True

    @property
    def flows(self) -> tuple[Flow, ...]:
        """What peers exchange between every two groups."""
        return tuple(
            flow
            for one, other in permutations(self.groups, 2)
            for client in one
            for server in other
            for flow in service(client, server, PEER_PORT)
        )


def refuse_overlap(groups: Groups) -> None:
    """Raise UsageError when a node is in two groups, or a group is empty."""
    names = [name for group in groups for name in group]
    if len(names) != len(set(names)) or not all(groups):
        raise UsageError(
            f"The groups {describe(groups)} overlap, or one is empty",
            where="--target",
            next="Name each node in one group at most, and leave nodes on the other side.",
        )


def _rest(chosen: tuple[str, ...], nodes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in nodes if name not in chosen)
