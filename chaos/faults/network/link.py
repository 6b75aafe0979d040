"""The cable pulled out of a machine: link down, as the hypervisor sets it. Ssh to the node is lost with it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Fault, Proof
from chaos.faults.network.flows import stopped
from chaos.faults.network.guest_nft import dropped
from chaos.lab.lab import Lab
from chaos.lab.probes import SILENCE_SECONDS, Reach, answers, from_here, linked, tcp_matrix
from infra.layout import SSH_PORT
from infra.manifest import PEER_PORT
from machine import libvirt_api


@dataclass(frozen=True)
class LinkDown(Fault):
    """The network card of each node has no carrier (libvirt: `<link state="down"/>`); ssh to it is lost too.

    The kernel of the guest sees it at once, other than with a cut on the way: its routes go, etcd's sends fail.
    """

    name: ClassVar[str] = "link-down"
    family: ClassVar[str] = "network"
    summary: ClassVar[str] = "pull the network cable of nodes, seen by the guest; ssh is lost too"
    occupies: ClassVar[str] = "link"

    def place(self, lab: Lab) -> str:  # noqa: ARG002
        """The hypervisor."""
        return "hypervisor"

    def apply(self, lab: Lab) -> None:
        """Pull all at once."""
        self._set(lab, up=False)

    def lift(self, lab: Lab) -> None:
        """Put all in again; a machine that does not run starts with its cable in: the state is the live one's only."""
        self._set(lab, up=True)
        for node in self.nodes:
            lab.forget(node)  # connections from before are in long retransmission pauses

    def _set(self, lab: Lab, *, up: bool) -> None:
        running = set(lab.running())
        with lab.libvirt() as connection:
            for node in self.nodes:
                if node in running:
                    libvirt_api.set_link(connection, lab.manifest.node(node).domain, up=up)

    def shells(self, nodes: Sequence[str]) -> set[tuple[str, str]]:
        """The other nodes probe."""
        return {(node, "probe") for node in nodes if node not in self.nodes}

    def baseline(self, lab: Lab) -> tuple[Proof, ...]:
        """Every node answers before."""
        return () if set(self.nodes) - set(linked(lab)) else tuple(self._silence(lab, in_force=False, when="before"))

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """Link state in libvirt, this host's and the other nodes' way there, and what the guest itself tells after."""
        up = set(linked(lab))
        wanted = "down" if in_force else "up"
        proof = []
        for node in self.nodes:
            seen = "up" if node in up else "down"
            proof.append(Proof(f"link of {node}", "libvirt", wanted, seen, seen == wanted))
        return proof + self._silence(lab, in_force=in_force, when="during" if in_force else "after")

    def _silence(self, lab: Lab, *, in_force: bool, when: str) -> list[Proof]:
        should = Reach.SILENT if in_force else Reach.ANSWERED
        up = linked(lab)
        cut = dropped(lab, up)  # what a cut holds is that one's to prove
        pairs = [
            (source, node)
            for source in up
            for node in self.nodes
            if source != node and not stopped(cut, source, node, PEER_PORT)
        ]

        def ssh(node: str) -> Reach:
            address = lab.manifest.node(node).address
            if in_force:  # a refusal comes from the node too
                return from_here(lab, address, SSH_PORT)
            return Reach.ANSWERED if answers(lab, address, SSH_PORT) else Reach.SILENT

        with ThreadPoolExecutor(len(self.nodes) + 1) as pool:
            probed = pool.submit(tcp_matrix, lab, pairs, PEER_PORT, SILENCE_SECONDS if in_force else 8.0)
            found = {("host", node): reach for node, reach in zip(self.nodes, pool.map(ssh, self.nodes), strict=True)}
            found |= probed.result()
        return [
            Proof(f"tcp {source} > {node}", f"{source}, {when}", should.value, reach.value, reach is should)
            for (source, node), reach in found.items()
        ]

    def proof_seconds(self, in_force: bool) -> float:  # noqa: ARG002
        """Silence takes a second; the rest is for a slow machine."""
        return 30.0
