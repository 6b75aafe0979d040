"""Power faults: the plug pulled out of machines, the reset button pressed, a whole machine halted in mid-step."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Fault, Proof
from chaos.faults.oneshot import OneShot, changed, forget, recall, remember
from chaos.lab.guest_clock import offsets, restore
from chaos.lab.lab import Lab
from chaos.lab.probes import SILENCE_SECONDS, Reach, answers, from_here, linked, received_from, tcp_matrix
from chaos.lab.scripts import boot_ids
from infra.layout import SSH_PORT
from infra.manifest import CLIENT_PORT, PEER_PORT
from machine import libvirt_api
from machine.errors import LabError
from machine.waiting import Pending, wait_until

PEERS_SEE_SECONDS = 20.0
"""What is under way arrives within milliseconds; the rest is for a slow machine."""

METRICS_SECONDS = 3.0
"""Limit of one metrics page, which takes a member 0.3 s under TCG."""

BOOT_SECONDS = 240.0
"""A boot takes 35-60 s under TCG, three at once."""

RESUME_SECONDS = 40.0
"""A machine that goes on answers at once; with three at a time they share two processors."""


@dataclass(frozen=True)
class PowerFault(Fault):
    """What all power faults have in common: they are made on the hypervisor, on all their nodes at once."""

    family: ClassVar[str] = "power"
    occupies: ClassVar[str] = "power"

    def place(self, lab: Lab) -> str:  # noqa: ARG002
        """The hypervisor."""
        return "hypervisor"

    def each_domain(self, lab: Lab, call: Callable[[libvirt_api.Connection, str], None]) -> None:
        """Do it to every node's domain at once; connections kept open to them are dropped first."""
        for node in self.nodes:
            lab.forget(node)
        with lab.libvirt() as connection, ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda node: call(connection, lab.manifest.node(node).domain), self.nodes))

    def domains(self, lab: Lab, wanted: str) -> list[Proof]:
        """That every node's domain is in the state `wanted`."""
        states = lab.domain_states()
        return [
            Proof(f"domain of {node}", "libvirt", wanted, states[node], states[node] == wanted) for node in self.nodes
        ]

    def ports(self, lab: Lab, ports: Iterable[tuple[str, int]], *, silent: bool) -> list[Proof]:
        """Whether this host gets an answer to TCP on some ports of every node.

        A refusal is neither: a machine that refuses is there, and its program does not answer.
        """

        def one(node: str, what: str, port: int) -> Proof:
            address = lab.manifest.node(node).address
            if silent:
                reach = from_here(lab, address, port)
                return Proof(f"{what} of {node}", "this host", Reach.SILENT.value, reach.value, reach is Reach.SILENT)
            taken = answers(lab, address, port)
            return Proof(f"{what} of {node}", "this host", "opens", "opens" if taken else "does not open", taken)

        asked = [(node, what, port) for node in self.nodes for what, port in ports]
        with ThreadPoolExecutor(len(asked)) as pool:
            return list(pool.map(lambda words: one(*words), asked))


@dataclass(frozen=True)
class Gone(PowerFault):
    """Machines that do nothing any more: their state at the hypervisor, silence, and what the other members say."""

    @property
    @abstractmethod
    def state(self) -> str:
        """The domain's state while it is so."""

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """Domain state, an answer to TCP on the ssh and client ports, and what the other members say."""
        if not in_force:
            return self.domains(lab, "running") + self.ports(lab, [("ssh", SSH_PORT)], silent=False)
        silent = self.ports(lab, [("ssh", SSH_PORT), ("client port", CLIENT_PORT)], silent=True)
        return self.domains(lab, self.state) + silent + self._peers(lab)

    def shells(self, nodes: Sequence[str]) -> set[tuple[str, str]]:
        """The other nodes probe."""
        return {(node, "probe") for node in nodes if node not in self.nodes}

    def _peers(self, lab: Lab) -> list[Proof]:
        """No member that still runs and can be asked reaches any of these, or hears anything from them any more."""
        alive = linked(lab)
        ids = {f"{status.member_id:x}" for status in lab.cluster.status() if status.node in alive and status.ok}
        before = _heard_by(lab, alive)
        pairs = [(source, target) for source in alive for target in self.nodes]
        proof = [
            Proof(f"tcp {source} > {target}", source, Reach.SILENT.value, reach.value, reach is Reach.SILENT)
            for (source, target), reach in tcp_matrix(lab, pairs, PEER_PORT, SILENCE_SECONDS).items()
        ]
        expected = f"nothing from {', '.join(self.nodes)}"
        for node, now in _heard_by(lab, alive).items():
            then = before[node]
            if then is None or now is None:
                proof.append(Proof(f"what {node} hears", node, expected, "its metrics do not answer", holds=False))
                continue
            more = {sender: count - then.get(sender, 0) for sender, count in now.items()}
            gone = sum(count for sender, count in more.items() if sender not in ids)
            others = sum(count for sender, count in more.items() if sender in ids)
            seen = f"{gone:.0f} bytes from members that are {self.state}, {others:.0f} from others"
            proof.append(Proof(f"what {node} hears", node, expected, seen, gone == 0))
        return proof


@dataclass(frozen=True)
class PowerOff(Gone):
    """Cut the power (virDomainDestroy): nothing is flushed, nothing says goodbye. Heal: power on."""

    name: ClassVar[str] = "power-off"
    summary: ClassVar[str] = "cut the power of machines, hard; heal switches them on and waits for ssh"
    needs_power: ClassVar[bool] = False

    @property
    def state(self) -> str:
        """Off."""
        return "shutoff"

    def apply(self, lab: Lab) -> None:
        """Cut all at once."""
        self.each_domain(lab, libvirt_api.power_off)

    def lift(self, lab: Lab) -> None:
        """Switch all on at once."""
        self.each_domain(lab, libvirt_api.power_on)

    def proof_seconds(self, in_force: bool) -> float:
        """Until the peers notice, or until the machines have booted."""
        return PEERS_SEE_SECONDS if in_force else BOOT_SECONDS


@dataclass(frozen=True)
class Pause(Gone):
    """Stop the machine's processors (virDomainSuspend); its memory, and all it believes, stay as they are."""

    name: ClassVar[str] = "pause"
    summary: ClassVar[str] = "halt whole machines in mid-step; heal lets them go on and sets their clocks right"

    @property
    def state(self) -> str:
        """Paused."""
        return "paused"

    def shells(self, nodes: Sequence[str]) -> set[tuple[str, str]]:
        """Its own nodes tell their time before."""
        return {(node, "probe") for node in nodes}

    def baseline(self, lab: Lab) -> tuple[Proof, ...]:
        """Write down how the clocks stand: they must stand so again afterwards, which may be wrong by another fault."""
        stand = offsets(lab, self.nodes)
        remember(lab.paths, self.id, {node: f"{seconds:.3f}" for node, seconds in stand.items()})
        return tuple(
            Proof(f"clock of {node}", "this host", "known", f"{seconds:+.2f} s", holds=True)
            for node, seconds in stand.items()
        )

    def apply(self, lab: Lab) -> None:
        """Halt all at once."""
        self.each_domain(lab, libvirt_api.suspend)

    def lift(self, lab: Lab) -> None:
        """Let all go on at once, then set their clocks: they know nothing of the time they were halted."""
        self.each_domain(lab, libvirt_api.resume)
        stood = recall(lab.paths, self.id)
        running = set(lab.running())
        restore(lab, {node: float(stood.get(node, 0.0)) for node in self.nodes if node in running})
        forget(lab.paths, self.id)

    def proof_seconds(self, in_force: bool) -> float:
        """Until the peers notice, or until the machines answer again."""
        return PEERS_SEE_SECONDS if in_force else RESUME_SECONDS


@dataclass(frozen=True)
class Reset(PowerFault, OneShot):
    """Press the reset button (virDomainReset): the machine boots at once, nothing was flushed.

    Under emulation the power goes off and on instead, which is the same to the guest: qemu 7.2 keeps its translations
    of all code over a reset, and drops them one by one while the new kernel is unpacked over them. That was measured
    to take more than four minutes.
    """

    name: ClassVar[str] = "reset"
    summary: ClassVar[str] = "press the reset button of machines; they boot again by themselves"

    def place(self, lab: Lab) -> str:
        """The hypervisor, and how."""
        return "hypervisor" if lab.manifest.hypervisor.accelerator == "kvm" else "hypervisor (power off and on)"

    def shells(self, nodes: Sequence[str]) -> set[tuple[str, str]]:  # noqa: ARG002 - as the others take it
        """None: they would not live through it."""
        return set()

    def facts(self, lab: Lab) -> dict[str, str]:
        """The boots that are under way."""
        return {_boot_of(node): boot for node, boot in boot_ids(lab, self.nodes).items()}

    def apply(self, lab: Lab) -> None:
        """Press all at once, and see that nobody answers on ssh any more; a machine that boots may refuse."""
        self.each_domain(lab, libvirt_api.reset if lab.manifest.hypervisor.accelerator == "kvm" else _power_cycle)
        started = time.monotonic()

        def absent() -> None:
            there = [proof.what for proof in self.ports(lab, [("ssh", SSH_PORT)], silent=False) if proof.holds]
            if there:
                raise Pending(f"{', '.join(there)} answers")

        wait_until(absent, "machines that boot", seconds=PEERS_SEE_SECONDS, every=0.05)
        gone = {_absence_of(node): f"{time.monotonic() - started:.2f} s after the reset" for node in self.nodes}
        remember(lab.paths, self.id, {**recall(lab.paths, self.id), **gone})

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """The domain runs, ssh was absent, and the guest's boot is another one; or just that it is back."""
        proof = self.domains(lab, "running") + self.ports(lab, [("ssh", SSH_PORT)], silent=False)
        if not in_force or not all(one.holds for one in proof):
            return proof
        before = self.before(lab)
        for node, boot in boot_ids(lab, self.nodes).items():
            absent = before.get(_absence_of(node), "")
            proof.append(Proof(_absence_of(node), "this host", "seen", absent or "not seen", bool(absent)))
            proof.append(changed(_boot_of(node), node, before.get(_boot_of(node)), boot))
        return proof

    def proof_seconds(self, in_force: bool) -> float:  # noqa: ARG002
        """Until the machines have booted."""
        return BOOT_SECONDS


def _power_cycle(connection: libvirt_api.Connection, domain: str) -> None:
    libvirt_api.power_off(connection, domain)
    libvirt_api.power_on(connection, domain)


def _boot_of(node: str) -> str:
    return f"boot id of {node}"


def _absence_of(node: str) -> str:
    return f"absence of ssh on {node}"


def _heard_by(lab: Lab, nodes: Sequence[str]) -> dict[str, dict[str, float] | None]:
    """What each of these nodes has heard so far, all asked at once."""
    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        return dict(zip(nodes, pool.map(lambda node: _heard(lab, node), nodes), strict=True))


def _heard(lab: Lab, node: str) -> dict[str, float] | None:
    """Bytes received by sender; None when the member does not tell."""
    try:
        return received_from(lab.cluster.metrics(node, METRICS_SECONDS))
    except LabError:
        return None
