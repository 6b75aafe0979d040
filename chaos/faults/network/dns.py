"""Faults of the name service: gone, slow, or wrong. For labs whose members name each other (`peers: dns`).

The name service is libvirt's dnsmasq, at this host's address on the lab's network, port 53. Proof: lookups from
inside the guests, before, during and after.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import ClassVar

from chaos.faults.base import Fault, Proof
from chaos.faults.guest import GuestFault
from chaos.faults.network.cut import Cut
from chaos.faults.network.flows import HOST, Flow, service, stopped
from chaos.faults.network.netem import LIMIT, UNDO, read_netem
from chaos.faults.parameters import Parameter
from chaos.lab.lab import Lab
from chaos.lab.probes import linked
from chaos.lab.scripts import each
from infra.layout import NIC
from machine import libvirt_api
from machine.errors import UsageError

DNS_PORT = 53

LOOKUP_SECONDS = 8
"""How long an answer is waited for where one must come."""

SILENT_SECONDS = 2
"""How long a lookup must stay without an answer: the resolver's own timeout (resolv.conf, `timeout:2`)."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a guest was told about a name: `address` is None when it has none, `answered` False when nobody spoke."""

    answered: bool
    address: str | None
    seconds: float

    def __str__(self) -> str:
        if not self.answered:
            return f"no answer within {self.seconds:.1f} s"
        return f"{self.address or 'no such name'} after {self.seconds:.2f} s"


def lookup_script(name: str, server: str, seconds: int) -> str:
    """Script (bash) that asks the server for a name, once, and says how that went and how long it took.

    busybox itself would give up after 5 s (networking/nslookup.c: default_timeout), before an answer that is slow.
    """
    ask = f"busybox nslookup -type=a -timeout={seconds} {name} {server}"
    return (
        f"s=$EPOCHREALTIME; said=$(timeout {seconds} {ask} 2>&1); status=$?\n"
        'echo "status $status $s $EPOCHREALTIME"; echo "$said"'
    )


def read_lookup(text: str) -> Lookup:
    """What the script said; an answer names the server first, then name and address."""
    begun = re.search(r"^status (\d+) ([\d.]+) ([\d.]+)$", text, re.M)
    seconds = float(begun[3]) - float(begun[2]) if begun else 0.0
    silent = begun is None or begun[1] in {"124", "143"} or "timed out" in text or "no servers" in text
    found = re.search(r"^Name:.*\nAddress(?: \d+)?: ([\d.]+)", text, re.M)
    return Lookup(not silent, found[1] if found else None, seconds)


def lookups(lab: Lab, nodes: list[str], name: str, seconds: int) -> dict[str, Lookup]:
    """Ask for a name on several nodes at once."""
    script = lookup_script(name, str(lab.manifest.gateway), seconds)
    return {node: read_lookup(done.stdout) for node, done in each(lab, nodes, script, check=False).items()}


def refuse_without_names(fault: Fault, lab: Lab) -> None:
    """Raise UsageError on a lab whose members do not use the name service."""
    if lab.manifest.peers != "dns":
        raise UsageError(
            f"{fault.name} means nothing here: the members name each other by {lab.manifest.peers}",
            where="etcd-lab:peers",
            next="Build a lab with peers: dns.",
        )


@dataclass(frozen=True)
class DnsGone(Cut):
    """The name service answers nobody of these nodes: packets to and from its port are dropped."""

    name: ClassVar[str] = "dns-gone"
    family: ClassVar[str] = "names"
    summary: ClassVar[str] = "the name service does not answer these nodes (peers: dns)"
    ports: ClassVar[tuple[int, ...]] = ()

    @property
    def flows(self) -> tuple[Flow, ...]:
        """What these nodes and the name service say to each other."""
        return tuple(flow for node in self.nodes for flow in service(node, HOST, DNS_PORT))

    def check(self, lab: Lab) -> None:
        """Refuse a lab without names."""
        refuse_without_names(self, lab)
        super().check(lab)

    def shells(self, nodes: Sequence[str]) -> set[tuple[str, str]]:
        """Lookups are scripts."""
        return super().shells(nodes) | {(node, "run") for node in self.nodes}

    def _asking(self, nodes: Sequence[str], others: Sequence[Flow]) -> list[str]:
        return [node for node in self.nodes if node in nodes and not stopped(others, node, HOST, DNS_PORT)]

    def sent(self, nodes: Sequence[str], others: Sequence[Flow]) -> set[Flow]:
        """Lookups go from each node to the name service."""
        asking = self._asking(nodes, others)
        return {flow for flow in self.flows if flow.target == HOST and flow.source in asking}

    def further(self, lab: Lab, nodes: Sequence[str], others: Sequence[Flow], *, in_force: bool) -> list[Proof]:
        """A lookup from each node: answered or not."""
        asking = self._asking(nodes, others)
        name = lab.manifest.node_names[0]
        expected = "no answer" if in_force else "an answer"
        found = lookups(lab, asking, name, SILENT_SECONDS if in_force else LOOKUP_SECONDS)
        return [
            Proof(f"lookup of {name}", node, expected, str(seen), seen.answered is not in_force)
            for node, seen in found.items()
        ]


@dataclass(frozen=True)
class DnsSlow(GuestFault):
    """Questions to the name service are held back for a time, in each guest."""

    name: ClassVar[str] = "dns-slow"
    family: ClassVar[str] = "names"
    summary: ClassVar[str] = "lookups of these nodes take long (peers: dns)"
    occupies: ClassVar[str] = "netem"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("ms", "number", 1500, "milliseconds that a question waits", low=200, high=10000),
    )

    def check(self, lab: Lab) -> None:
        """Refuse a lab without names."""
        refuse_without_names(self, lab)

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Datagrams to port 53 of this host go through netem, all else past it."""
        match = f"match ip dst {lab.manifest.gateway}/32 match ip protocol 17 0xff match ip dport {DNS_PORT} 0xffff"
        lines = (
            f"qdisc add dev {NIC} root handle 1: prio bands 4 priomap {' '.join('0' * 16)}",
            f"qdisc add dev {NIC} parent 1:4 handle 40: netem limit {LIMIT} delay {self.value('ms'):g}ms",
            f"filter add dev {NIC} parent 1: protocol ip prio 1 u32 {match} flowid 1:4",
        )
        return f"{UNDO}\ntc -batch - <<'END'\n" + "\n".join(lines) + "\nEND"

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Back to the kernel's own qdisc."""
        return UNDO

    def baseline(self, lab: Lab) -> tuple[Proof, ...]:
        """Lookups are quick before."""
        return tuple(self._lookups(lab, self._up(lab), in_force=False))

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """A lookup from each node and its time, and what netem says of itself."""
        up = self._up(lab)
        proof = self._lookups(lab, up, in_force=in_force)
        for node, done in each(lab, up, f"tc -j -s qdisc show dev {NIC}", check=False).items():
            packets, seen = read_netem(done.stdout)
            holds = bool(packets) if in_force else packets is None
            proof.append(Proof(f"qdisc of {node}", node, "netem" if in_force else "no netem", seen, holds))
        return proof

    def _up(self, lab: Lab) -> list[str]:
        reachable = linked(lab)
        return [node for node in self.nodes if node in reachable]

    def _lookups(self, lab: Lab, up: list[str], *, in_force: bool) -> list[Proof]:
        seconds = float(self.value("ms")) / 1000
        name = lab.manifest.node_names[0]
        expected = f"an answer after {seconds:g} s or more" if in_force else f"an answer under {seconds:g} s"
        return [
            Proof(
                f"lookup of {name}",
                node,
                expected,
                str(seen),
                seen.answered and (seen.seconds >= seconds) is in_force,
            )
            for node, seen in lookups(lab, up, name, LOOKUP_SECONDS + round(seconds)).items()
        ]

    def proof_seconds(self, in_force: bool) -> float:  # noqa: ARG002
        """A lookup or two."""
        return 40.0


def wrong_names(lab: Lab) -> dict[str, str]:
    """Nodes whose names lead elsewhere than the manifest says, and where to; none where members use no names."""
    if lab.manifest.peers != "dns":
        return {}
    found = {}
    with lab.libvirt() as connection:
        for node in lab.manifest.nodes:
            names = libvirt_api.names_of(connection, libvirt_api.network_of(connection, node.domain))
            if (seen := names.get(node.name, [])) != [str(node.address)]:
                found[node.name] = ", ".join(seen) or "nowhere"
    return found


def point(connection: libvirt_api.Connection, lab: Lab, node: str, address: IPv4Address) -> None:
    """Let a node's name lead to `address` alone; nothing when it does. Raises HypervisorError."""
    network = libvirt_api.network_of(connection, lab.manifest.node(node).domain)
    there = libvirt_api.names_of(connection, network).get(node, [])
    for other in there:
        if other != str(address):
            libvirt_api.set_name(connection, network, node, other, present=False)
    if str(address) not in there:
        libvirt_api.set_name(connection, network, node, str(address), present=True)


@dataclass(frozen=True)
class DnsWrong(Fault):
    """The name service gives this host's address for these nodes, where no etcd listens.

    Its entries are changed live in libvirt (virNetworkUpdate); nothing but healing puts them back.
    """

    name: ClassVar[str] = "dns-wrong"
    family: ClassVar[str] = "names"
    summary: ClassVar[str] = "the names of these nodes lead to a wrong address (peers: dns)"
    needs_power: ClassVar[bool] = False
    occupies: ClassVar[str] = "name"

    def place(self, lab: Lab) -> str:  # noqa: ARG002
        """The hypervisor's name service."""
        return "name service"

    def check(self, lab: Lab) -> None:
        """Refuse a lab without names."""
        refuse_without_names(self, lab)

    def apply(self, lab: Lab) -> None:
        """Exchange the entries."""
        self._set(lab, wrong=True)

    def lift(self, lab: Lab) -> None:
        """Put the entries back."""
        self._set(lab, wrong=False)

    def _set(self, lab: Lab, *, wrong: bool) -> None:
        with lab.libvirt() as connection:
            for node in self.nodes:
                point(connection, lab, node, lab.manifest.gateway if wrong else lab.manifest.node(node).address)

    def baseline(self, lab: Lab) -> tuple[Proof, ...]:
        """Names are right before."""
        return tuple(self.look(lab, in_force=False))

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """A lookup of each of these names, from every node."""
        proof = []
        for name in self.nodes:
            wanted = str(lab.manifest.gateway if in_force else lab.manifest.node(name).address)
            for node, seen in lookups(lab, linked(lab), name, LOOKUP_SECONDS).items():
                proof.append(Proof(f"lookup of {name}", node, wanted, str(seen), seen.address == wanted))
        return proof

    def proof_seconds(self, in_force: bool) -> float:  # noqa: ARG002
        """The name service reads its entries anew within a moment."""
        return 20.0
