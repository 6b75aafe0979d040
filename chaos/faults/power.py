"""Power faults: the plug pulled out of one member's machine, of several, of all."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from chaos.faults.base import Fault, Proof
from chaos.probes import SILENCE_SECONDS, Reach, answers, metrics, received_from, tcp_matrix
from infra.manifest import CLIENT_PORT, PEER_PORT
from machine import libvirt_api

if TYPE_CHECKING:
    from chaos.lab import Lab

SSH_PORT = 22

PEERS_SEE_SECONDS = 20.0
"""What is under way arrives within milliseconds; the rest is for a slow machine."""

BOOT_SECONDS = 240.0
"""A boot takes 35-60 s under TCG, three at once."""


@dataclass(frozen=True)
class PowerOff(Fault):
    """Cut the power (virDomainDestroy): nothing is flushed, nothing says goodbye. Heal: power on."""

    name: ClassVar[str] = "power-off"
    family: ClassVar[str] = "power"
    summary: ClassVar[str] = "cut the power of machines, hard; heal switches them on and waits for ssh"
    occupies: ClassVar[str] = "power"
    needs_power: ClassVar[bool] = False

    def place(self, lab: Lab) -> str:  # noqa: ARG002
        """The hypervisor."""
        return "hypervisor"

    def apply(self, lab: Lab) -> None:
        """Cut all at once."""
        for node in self.nodes:
            lab.forget(node)
        self._each(lab, libvirt_api.power_off)

    def lift(self, lab: Lab) -> None:
        """Switch all on at once."""
        for node in self.nodes:
            lab.forget(node)
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
        """No member that still runs reaches any of these, or hears anything from them any more."""
        alive = [name for name, state in states.items() if state == "running"]
        ids = {f"{status.member_id:x}" for status in lab.cluster.status() if status.node in alive and status.ok}
        before = {node: _heard(lab, node) for node in alive}
        pairs = [(source, target) for source in alive for target in self.nodes]
        proof = [
            Proof(f"tcp {source} > {target}", source, Reach.SILENT.value, reach.value, reach is Reach.SILENT)
            for (source, target), reach in tcp_matrix(lab, pairs, PEER_PORT, SILENCE_SECONDS).items()
        ]
        expected = f"nothing from {', '.join(self.nodes)}"
        for node in alive:
            then, now = before[node], _heard(lab, node)
            if then is None or now is None:
                proof.append(Proof(f"what {node} hears", node, expected, "its metrics do not answer", holds=False))
                continue
            more = {sender: count - then.get(sender, 0) for sender, count in now.items()}
            gone = sum(count for sender, count in more.items() if sender not in ids)
            others = sum(count for sender, count in more.items() if sender in ids)
            seen = f"{gone:.0f} bytes from members without power, {others:.0f} from others"
            proof.append(Proof(f"what {node} hears", node, expected, seen, gone == 0))
        return proof

    def proof_seconds(self, in_force: bool) -> float:
        """Until the peers notice, or until the machines have booted."""
        return PEERS_SEE_SECONDS if in_force else BOOT_SECONDS


def _heard(lab: Lab, node: str) -> dict[str, float] | None:
    """Bytes received by sender; None when the member does not tell."""
    try:
        return received_from(metrics(lab, node))
    except OSError:
        return None
