"""Cuts as nftables rules: a table of our own, at the lab's bridge or inside a guest.

Each cut is a set and chains of its own in the table, so that cuts come and go one by one. The set holds directed
pairs `source . destination` with a timeout: the kernel lifts a cut that nobody renews. A rule per flow counts what
it drops, which is the proof. Every change is one `nft -f`, so one atomic transaction for all flows.

At the bridge, packets between guests pass its forward hook, those between a guest and this host its input and output
hooks. What this host asks from the ports infra.manifest.OBSERVER_PORTS passes every cut of the client port.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Literal

from chaos.faults.network.flows import HOST, Flow, Pair
from infra.manifest import CLIENT_PORT, OBSERVER_PORTS, Manifest
from machine.errors import HypervisorError
from machine.netns import exists
from machine.process import run

TABLE = "etcdlab_faults"
"""Our fixed name: what `./lab heal` looks for."""

Family = Literal["bridge", "inet"]
"""nftables family: at the bridge, inside a guest."""

_SUFFIX = {"forward": "", "input": "__in", "output": "__out"}


@dataclass(frozen=True, slots=True)
class CutState:
    """One cut as the kernel has it now."""

    pairs: frozenset[Pair]
    """Directed pairs whose flows are dropped now (their set elements have not run out)."""
    dropped: Mapping[Flow, int]
    """Packets dropped so far, by flow."""

    @property
    def flows(self) -> frozenset[Flow]:
        """Flows that are dropped now."""
        return frozenset(flow for flow in self.dropped if flow.pair in self.pairs)


@dataclass(frozen=True, slots=True)
class Bridge:
    """The lab's bridge: its namespace, the table's name there, and the machines' addresses."""

    netns: str | None
    table: str
    addresses: Mapping[str, IPv4Address]

    @classmethod
    def of(cls, manifest: Manifest) -> Bridge:
        """The bridge of a lab. In a namespace that labs share, the table carries the lab's id."""
        netns = manifest.hypervisor.netns
        table = TABLE if netns is not None else f"{TABLE}_{manifest.lab_id}"
        return cls(netns, table, addresses_of(manifest))

    @property
    def rules(self) -> Rules:
        """How its rules are rendered."""
        return Rules("bridge", self.table, self.addresses)

    def ours(self) -> bool:
        """Whether rules can be made where the bridge is."""
        return run(["nft", "list", "tables"], netns=self.netns, check=False).ok

    def cut(self, name: str, flows: Iterable[Flow], lease: int) -> None:
        """Drop `flows` from now on, for `lease` seconds or until renewed; safe to repeat."""
        self._apply(render_cut(self.rules, name, flows, lease))

    def renew(self, name: str, flows: Iterable[Flow], lease: int) -> None:
        """Start the lease of a cut anew; its counters stay. Raises ToolError when the cut is gone, or has run out."""
        self._apply(render_renewal(self.rules, name, flows, lease))

    def mend(self, name: str) -> None:
        """Remove a cut, and the table with the last one; safe when there is none.

        Raises HypervisorError where the bridge is, and may not be asked: no answer is not an empty table.
        """
        chains = self.chains()
        ours = [chain for chain in chains if chain.partition("__")[0] == name]
        if ours and len(ours) < len(chains):
            self._apply(render_mend(self.rules, name, ours))
        elif len(ours) == len(chains) and self.present():
            self._apply(f"delete table bridge {self.table}\n")
        elif not chains and (self.netns is None or exists(self.netns)) and not self.ours():
            raise HypervisorError(
                f"The cut {name} cannot be lifted: nftables cannot be changed where the lab's bridge is",
                where=f"table {self.table}",
                next="Run ./lab heal as root on the hypervisor's host; a cut that nobody renews runs out.",
            )

    def present(self) -> bool:
        """Whether our table is there."""
        return run(["nft", "list", "table", "bridge", self.table], netns=self.netns, check=False).ok

    def drop_table(self) -> None:
        """Remove every cut at once; safe when there is none."""
        self._apply(f"add table bridge {self.table}\ndelete table bridge {self.table}\n")

    def cuts(self) -> dict[str, CutState]:
        """Every cut there is, by name."""
        return parse_table(self._listed(), self.addresses)

    def chains(self) -> list[str]:
        """Every chain of our table."""
        return [entry["chain"]["name"] for entry in self._listed()["nftables"] if "chain" in entry]

    def _listed(self) -> dict[str, Any]:
        listed = run(["nft", "-j", "list", "table", "bridge", self.table], netns=self.netns, check=False)
        found: dict[str, Any] = json.loads(listed.stdout) if listed.ok else {"nftables": []}
        return found

    def _apply(self, script: str) -> None:
        run(["nft", "-f", "-"], stdin=script, netns=self.netns, seconds=10, next="./lab heal mends what is left.")


@dataclass(frozen=True, slots=True)
class Rules:
    """Whose rules are rendered: the nftables family, the table, and the machines' addresses."""

    family: Family
    table: str
    addresses: Mapping[str, IPv4Address]


def addresses_of(manifest: Manifest) -> dict[str, IPv4Address]:
    """Address of every node and of this host."""
    return {HOST: manifest.gateway} | {node.name: node.address for node in manifest.nodes}


def render_cut(rules: Rules, name: str, flows: Iterable[Flow], lease: int) -> str:
    """nft transaction that makes the cut `name`, or makes it anew."""
    flows, family, table, addresses = list(flows), rules.family, rules.table, rules.addresses
    where = f"{family} {table} {name}"
    lines = [
        f"add table {family} {table}",
        f"add set {where} {{ type ipv4_addr . ipv4_addr; flags timeout; }}",
        f"flush set {where}",
    ]
    lines += [f"{line}\nflush chain {chain}" for chain, line in _chains(family, where, flows).items()]
    lines.append(_elements(where, flows, addresses, lease))
    lines += [
        f"add rule {where}{_SUFFIX[_hook(family, flow)]} ip saddr {addresses[flow.source]} "
        f"ip daddr {addresses[flow.target]} {_ports(flow)}"
        f'ip saddr . ip daddr @{name} counter drop comment "{flow}"'
        for flow in flows
    ]
    return "\n".join(lines) + "\n"


def _chains(family: Family, where: str, flows: Iterable[Flow]) -> dict[str, str]:
    """The line that adds each chain, by its name; below every filter of the host's own, so that none accepts first."""
    return {
        where + _SUFFIX[hook]: f"add chain {where}{_SUFFIX[hook]} "
        f"{{ type filter hook {hook} priority -300; policy accept; }}"
        for hook in dict.fromkeys(_hook(family, flow) for flow in flows)
    }


def render_undo(rules: Rules, name: str, flows: Iterable[Flow]) -> str:
    """nft transaction that removes the cut `name` whether it is there or not: what is added first can be deleted."""
    family, table = rules.family, rules.table
    where = f"{family} {table} {name}"
    lines = [f"add table {family} {table}", f"add set {where} {{ type ipv4_addr . ipv4_addr; flags timeout; }}"]
    for chain, line in _chains(family, where, flows).items():
        lines += [line, f"flush chain {chain}", f"delete chain {chain}"]
    return "\n".join([*lines, f"delete set {where}"]) + "\n"


def _hook(family: Family, flow: Flow) -> str:
    """Inside a guest packets are dropped as they come in: their sender learns nothing, as with a cut on the way."""
    if family == "inet":
        return "output" if flow.target == HOST else "input"
    return "input" if flow.target == HOST else "output" if flow.source == HOST else "forward"


def _ports(flow: Flow) -> str:
    """Match of a flow's port; calls of this host that only observe are exempt."""
    text = ""
    for word, other, port in (("dport", "sport", flow.to_port), ("sport", "dport", flow.from_port)):
        if port:
            text += f"meta l4proto {{ tcp, udp }} th {word} {port} "
        if port == CLIENT_PORT and HOST in flow.pair:
            text += f"th {other} != {OBSERVER_PORTS.start}-{OBSERVER_PORTS.stop - 1} "
    return text


def render_renewal(rules: Rules, name: str, flows: Iterable[Flow], lease: int) -> str:
    """nft transaction that starts the lease anew: an element cannot be updated, so out and in again at once.

    It fails where an element has run out, as there is then nothing to delete (a flush would not mind): a cut that was
    lifted for a while must not come back as if it had held all the time.
    """
    where, known, addresses = f"{rules.family} {rules.table} {name}", list(flows), rules.addresses
    out = f"delete element {where} {{ {_pairs(known, addresses)} }}"
    return f"{out}\n{_elements(where, known, addresses, lease)}\n"


def render_mend(rules: Rules, name: str, chains: Iterable[str]) -> str:
    """nft transaction that removes the cut `name` with its `chains`."""
    table = f"{rules.family} {rules.table}"
    gone = [f"{word} chain {table} {chain}" for chain in chains for word in ("flush", "delete")]
    return "\n".join([*gone, f"delete set {table} {name}"]) + "\n"


def _elements(where: str, flows: list[Flow], addresses: Mapping[str, IPv4Address], lease: int) -> str:
    return f"add element {where} {{ {_pairs(flows, addresses, f' timeout {lease}s')} }}"


def _pairs(flows: list[Flow], addresses: Mapping[str, IPv4Address], more: str = "") -> str:
    """The directed pairs of `flows` as elements of a set, each with `more` after it."""
    pairs = dict.fromkeys(flow.pair for flow in flows)
    return ", ".join(f"{addresses[source]} . {addresses[target]}{more}" for source, target in pairs)


def parse_table(listed: Mapping[str, Any], addresses: Mapping[str, IPv4Address]) -> dict[str, CutState]:
    """Cuts in what `nft -j list table` gives."""
    names = {str(address): name for name, address in addresses.items()}
    pairs: dict[str, set[Pair]] = {}
    dropped: dict[str, dict[Flow, int]] = {}
    for entry in listed["nftables"]:
        if chain := entry.get("chain"):
            dropped.setdefault(chain["name"].partition("__")[0], {})
        elif found := entry.get("set"):
            for element in found.get("elem", ()):
                source, target = element["elem"]["val"]["concat"]
                pairs.setdefault(found["name"], set()).add((names.get(source, source), names.get(target, target)))
        elif (rule := entry.get("rule")) and (flow := Flow.parse(rule.get("comment", ""))):
            packets = sum(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)
            dropped.setdefault(rule["chain"].partition("__")[0], {})[flow] = packets
    return {name: CutState(frozenset(pairs.get(name, ())), counts) for name, counts in dropped.items()}
