"""Power faults: the plug pulled out of one member's machine, of several, of all."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from chaos.faults.base import Fault, Proof
from chaos.probes import active_peers, answers, metrics
from infra.manifest import CLIENT_PORT
from machine import libvirt_api

if TYPE_CHECKING:
    from chaos.lab import Lab

SSH_PORT = 22

PEERS_SEE_SECONDS = 20.0
"""A peer's stream reader gives up after 5 s without a byte (E rafthttp, ConnReadTimeout); the rest is for TCG."""

BOOT_SECONDS = 240.0
"""A boot takes 35-60 s under TCG, three at once."""


@dataclass(frozen=True)
class PowerOff(Fault):
    """Cut the power (virDomainDestroy): nothing is flushed, nothing says goodbye. Heal: power on."""

    name: ClassVar[str] = "power-off"
    family: ClassVar[str] = "power"
    summary: ClassVar[str] = "cut the power of machines, hard; heal switches them on and waits for ssh"

    def place(self, lab: Lab) -> str:  # noqa: ARG002
        """The hypervisor."""
        return "hypervisor"

    def apply(self, lab: Lab) -> None:
        """Cut all at once."""
        for node in self.nodes:
            lab.forget_shell(node)
        self._each(lab, libvirt_api.power_off)

    def lift(self, lab: Lab) -> None:
        """Switch all on at once."""
        for node in self.nodes:
            lab.forget_shell(node)
        self._each(lab, libvirt_api.power_on)

    def _each(self, lab: Lab, call: Callable[[libvirt_api.Connection, str], None]) -> None:
        with lab.libvirt() as connection, ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda node: call(connection, lab.manifest.node(node).domain), self.nodes))

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """Domain state, an answer to TCP on the ssh and client ports, and what the other members say."""
        states = lab.domain_states()
        wanted = "shutoff" if in_force else "running"
        proof = [
            Proof(f"domain of {node}", "libvirt", wanted, states[node], states[node] == wanted) for node in self.nodes
        ]
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            proof += [
                item for items in pool.map(lambda node: self._ports(lab, node, in_force), self.nodes) for item in items
            ]
        return proof + (self._peers(lab, states) if in_force else [])

    @staticmethod
    def _ports(lab: Lab, node: str, in_force: bool) -> list[Proof]:
        address = lab.manifest.node(node).address
        ports = {"ssh": SSH_PORT, "client port": CLIENT_PORT} if in_force else {"ssh": SSH_PORT}
        proof = []
        for what, port in ports.items():
            taken = answers(lab, address, port)
            expected, seen = ("silent" if in_force else "answers"), ("answers" if taken else "silent")
            proof.append(Proof(f"{what} of {node}", "this host", expected, seen, expected == seen))
        return proof

    def _peers(self, lab: Lab, states: dict[str, str]) -> list[Proof]:
        """Every member that still runs holds connections to running members only."""
        alive = [name for name, state in states.items() if state == "running"]
        ids = {f"{status.member_id:x}" for status in lab.cluster.status() if status.node in alive and status.ok}
        expected = f"no connection to {', '.join(self.nodes)}"
        proof = []
        for node in alive:
            try:
                gone = active_peers(metrics(lab, node)) - ids
                seen = f"still connected to {', '.join(sorted(gone))}" if gone else expected
            except OSError as error:
                gone, seen = {"?"}, f"metrics: {error}"
            proof.append(Proof(f"peers of {node}", node, expected, seen, not gone))
        return proof

    def proof_seconds(self, in_force: bool) -> float:
        """Until the peers notice, or until the machines have booted."""
        return PEERS_SEE_SECONDS if in_force else BOOT_SECONDS
