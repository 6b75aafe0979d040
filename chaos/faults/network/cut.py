"""What all cuts share: flows that are dropped at the bridge or in the guests, and the proof by probes and counters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

from chaos.faults import records
from chaos.faults.base import Fault, Proof
from chaos.faults.network.flows import HOST, Flow, Pair, stopped
from chaos.faults.network.guest_nft import Guests, any_inside, guest_cuts, share
from chaos.faults.network.nft import Bridge, CutState
from chaos.faults.parameters import Parameter
from chaos.lab.guest_shell import ANSWER_SECONDS
from chaos.lab.lab import Lab
from chaos.lab.probes import SILENCE_SECONDS, Reach, from_here, linked, meaning, tcp_attempts
from infra.manifest import CLIENT_PORT, PEER_PORT
from machine.errors import UsageError

WHERE = Parameter(
    "where",
    "word",
    "auto",
    "where packets are dropped: bridge, guest, or auto (at the bridge where it is ours)",
    choices=("auto", "bridge", "guest"),
)

SKEW_SECONDS = 1.0
"""How far apart the rules of two guests may come."""

Probe = tuple[str, str, int]
"""Source, target, TCP port."""


@dataclass(frozen=True)
class Cut(Fault):
    """Flows between machines that are dropped, those of open connections too. Ssh from this host goes on."""

    family: ClassVar[str] = "network"
    parameters: ClassVar[tuple[Parameter, ...]] = (WHERE,)
    needs_power: ClassVar[bool] = False
    ports: ClassVar[tuple[int, ...]] = (PEER_PORT,)
    """Ports that every directed pair of nodes is probed at."""
    from_host: ClassVar[bool] = False
    """Whether this host's way to the client ports is probed too."""

    @property
    @abstractmethod
    def flows(self) -> tuple[Flow, ...]:
        """What is dropped."""

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Directed pairs that something is dropped between."""
        return tuple(dict.fromkeys(flow.pair for flow in self.flows))

    @property
    def cut_name(self) -> str:
        """Name of the chains and the set of this cut."""
        return self.id.replace("-", "_")

    # -- where ---------------------------------------------------------------------------------------------

    def in_guests(self, lab: Lab) -> bool:
        """Whether the rules are made inside the guests. Chosen once: what was made is undone and seen where it is."""
        where = self.value("where")
        if where == "auto" and (record := records.find(lab.paths, self.id)) and record.lab_id == lab.manifest.lab_id:
            where = "guest" if record.place == "guest" else "bridge"
        return where == "guest" or (where == "auto" and not Bridge.of(lab.manifest).ours())

    def check(self, lab: Lab) -> None:
        """Refuse a bridge that we may not touch, and guests that do not run."""
        if self.value("where") == "bridge" and not Bridge.of(lab.manifest).ours():
            raise UsageError(
                "nftables cannot be changed where the lab's bridge is",
                where=f"bridge {lab.manifest.hypervisor.bridge}",
                next="Run as root on the hypervisor's host, or take --set where=guest.",
            )
        if self.in_guests(lab) and (off := sorted(set(share(self.flows)) - set(lab.running()))):
            raise UsageError(f"{self.name} inside the guests needs machines that run: {', '.join(off)} does not")

    def place(self, lab: Lab) -> str:
        """The bridge, or the guests."""
        return "guest" if self.in_guests(lab) else f"bridge {lab.manifest.hypervisor.bridge}"

    def apply(self, lab: Lab) -> None:
        """At the bridge one nft transaction for all flows; in the guests one in each, at the same time."""
        if self.in_guests(lab):
            Guests(lab, self.id).cut(self.cut_name, self.flows, self.lease)
        else:
            Bridge.of(lab.manifest).cut(self.cut_name, self.flows, self.lease)

    def renew(self, lab: Lab) -> None:
        """Start the lease of every pair anew."""
        if self.in_guests(lab):
            Guests(lab, self.id).renew(self.cut_name, self.flows, self.lease)
        else:
            Bridge.of(lab.manifest).renew(self.cut_name, self.flows, self.lease)

    def lift(self, lab: Lab) -> None:
        """Remove the rules."""
        if self.in_guests(lab):
            Guests(lab, self.id).mend(self.cut_name, self.flows)
        else:
            Bridge.of(lab.manifest).mend(self.cut_name)

    @property
    def inside(self) -> tuple[str, ...]:
        """The guests that have rules."""
        return tuple(share(self.flows))

    def shells(self, nodes: Sequence[str]) -> set[tuple[str, str]]:
        """All nodes probe, where connections are tried; rules inside the guests are scripts."""
        inside = self.inside if self.value("where") == "guest" else ()
        return {(node, "probe") for node in nodes if self.ports} | {(node, "run") for node in inside}

    # -- proof ---------------------------------------------------------------------------------------------

    def baseline(self, lab: Lab) -> tuple[Proof, ...]:
        """Every pair that will be cut is reachable before, else the cut would prove nothing."""
        cuts, _ = self._cuts(lab, lab.running())
        if self.cut_name in cuts:
            return ()
        nodes, others = linked(lab), self._others(cuts)
        return tuple(self._probed(lab, nodes, others, in_force=False, when="before"))

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """Probe every directed pair from inside the guests, then read the rules and their counters."""
        alive = lab.running()
        nodes, others = linked(lab), self._others(self._cuts(lab, alive)[0])
        proof = self._probed(lab, nodes, others, in_force=in_force, when="during" if in_force else "after")
        cuts, unasked = self._cuts(lab, alive)
        cut, place = cuts.get(self.cut_name), self.place(lab)
        if not in_force:
            silent = [node for node in self.inside if node in unasked]
            seen = "there" if cut else f"unknown on {', '.join(silent)}" if silent else "gone"
            return [*proof, Proof("rules of the cut", place, "gone", seen, seen == "gone")]
        sent = self.sent(nodes, others)
        return proof + [self._rule(flow, cut, place, sent=flow in sent) for flow in self.flows]

    def _prove(self, lab: Lab, *, in_force: bool) -> tuple[Proof, ...]:
        """Also how close together the rules came, once they are made: later, clocks that ran otherwise would tell."""
        proof = super()._prove(lab, in_force=in_force)
        return (*proof, *self._skew(lab)) if in_force and self.in_guests(lab) else proof

    def further(
        self,
        lab: Lab,  # noqa: ARG002 - most have no more
        nodes: Sequence[str],  # noqa: ARG002 - as above
        others: Sequence[Flow],  # noqa: ARG002 - as above
        *,
        in_force: bool,  # noqa: ARG002 - as above
    ) -> list[Proof]:
        """What a kind of cut probes beside TCP: from and to `nodes`, where the `others` drop nothing."""
        return []

    def _rule(self, flow: Flow, cut: CutState | None, place: str, *, sent: bool) -> Proof:
        held = cut is not None and flow in cut.flows
        packets = cut.dropped.get(flow, 0) if cut else 0
        expected = "in force, counter rising" if sent else "in force"
        seen = f"{'in force' if held else 'not in force'}, {packets} packets dropped"
        if held and not sent and not packets:  # weaker, and the reader must know
            seen += "; shown by the rule alone, as no probe goes along it"
        return Proof(f"drop rule {flow}", place, expected, seen, held and (packets > 0 or not sent))

    def sent(self, nodes: Sequence[str], others: Sequence[Flow]) -> set[Flow]:
        """The flows that a probe of ours goes along, so that their rules must have counted packets.

        Answers may be none, a dead end (`nodes` have power and a link) sends nothing, and what another cut stops as
        well may never come as far as this one's rule: there only the rule can be shown.
        """
        return {
            flow
            for source, target, port in self._probes(nodes, others)
            for flow in self.flows
            if flow.pair == (source, target) and flow.stops(source, target, port)
        }

    def _others(self, cuts: Mapping[str, CutState]) -> list[Flow]:
        """What other cuts drop."""
        return [flow for name, state in cuts.items() if name != self.cut_name for flow in state.flows]

    def _probes(self, nodes: Sequence[str], others: Sequence[Flow]) -> list[Probe]:
        """Connections to try between `nodes`, but for those that another cut stops: these are that one's to prove."""
        probes = [(source, target, port) for source, target in permutations(nodes, 2) for port in self.ports]
        probes += [(HOST, node, CLIENT_PORT) for node in nodes if self.from_host]
        return [probe for probe in probes if not stopped(others, *probe)]

    def _skew(self, lab: Lab) -> list[Proof]:
        running = lab.running()
        skew = Guests(lab, self.id).skew([node for node in share(self.flows) if node in running])
        seen = "unknown" if skew is None else f"{skew:.2f} s"
        expected = f"at most {SKEW_SECONDS:g} s"
        return [Proof("first to last guest", "guest", expected, seen, skew is not None and skew <= SKEW_SECONDS)]

    def _cuts(self, lab: Lab, alive: Iterable[str]) -> tuple[dict[str, CutState], list[str]]:
        """Every cut in force, ours and others', and the guests that could not be asked for rules of ours."""
        found = Bridge.of(lab.manifest).cuts()
        if self.in_guests(lab):
            inside, unasked = guest_cuts(lab, alive)
            return found | inside, unasked
        if any_inside(lab):
            return found | guest_cuts(lab, linked(lab))[0], []
        return found, []

    def _probed(
        self, lab: Lab, nodes: Sequence[str], others: Sequence[Flow], *, in_force: bool, when: str
    ) -> list[Proof]:
        """All that is probed from and to `nodes`, at once."""
        with ThreadPoolExecutor(1) as pool:
            more = pool.submit(self.further, lab, nodes, others, in_force=in_force)
            proof = self._reachability(lab, self._probes(nodes, others), in_force=in_force, when=when)
            return proof + more.result()

    def _reachability(self, lab: Lab, probes: Sequence[Probe], *, in_force: bool, when: str) -> list[Proof]:
        expected = {
            probe: Reach.SILENT if in_force and stopped(self.flows, *probe) else Reach.ANSWERED for probe in probes
        }
        seconds = SILENCE_SECONDS if in_force else ANSWER_SECONDS
        proof = []
        for probe, (reach, took) in reached(lab, probes, seconds).items():
            source, target, port = probe
            should = expected[probe]
            seen = reach.value + (f" in {1000 * took:.0f} ms" if took is not None else "")
            proof.append(
                Proof(f"tcp {source} > {target}:{port}", f"{source}, {when}", should.value, seen, reach is should)
            )
        return proof

    def proof_seconds(self, in_force: bool) -> float:  # noqa: ARG002
        """Probes take a second or two; the rest is for a slow machine."""
        return 30.0


def reached(lab: Lab, probes: Iterable[Probe], seconds: float) -> dict[Probe, tuple[Reach, float | None]]:
    """Make all probes at once, from guests and from this host; with the seconds that a connection took."""
    probes = list(probes)
    here = [probe for probe in probes if probe[0] == HOST]

    def one(probe: Probe) -> tuple[Reach, None]:
        address = lab.manifest.node(probe[1]).address
        return from_here(lab, address, probe[2]), None

    with ThreadPoolExecutor(len(here) + 1) as pool:
        found = pool.submit(tcp_attempts, lab, [probe for probe in probes if probe[0] != HOST], seconds)
        mine: dict[Probe, tuple[Reach, float | None]] = dict(zip(here, pool.map(one, here), strict=True))
        return {probe: (meaning(attempt), attempt.seconds) for probe, attempt in found.result().items()} | mine
