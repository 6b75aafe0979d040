"""Cuts at the lab's bridge: one nftables table of our own in the namespace that holds the bridge.

Each cut is a chain and a set of its own in the table, so that cuts come and go one by one. The set holds directed
pairs `source . destination` with a timeout: the kernel lifts a cut that nobody renews. A rule per directed pair
counts what it drops, which is the proof. Every change is one `nft -f`, so one atomic transaction for all pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from infra.manifest import Manifest
from machine.process import run

TABLE = "etcdlab_faults"
"""Our fixed name: what `./lab heal` looks for."""

Pair = tuple[str, str]
"""Source node, destination node."""


@dataclass(frozen=True, slots=True)
class CutState:
    """One cut as the kernel has it now."""

    pairs: frozenset[Pair]
    """Directed pairs that are dropped now (their set elements have not run out)."""
    dropped: Mapping[Pair, int]
    """Packets dropped so far, by directed pair."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """The lab's bridge: its namespace, the table's name there, and the nodes' addresses."""

    netns: str | None
    table: str
    addresses: Mapping[str, IPv4Address]

    @classmethod
    def of(cls, manifest: Manifest) -> Bridge:
        """The bridge of a lab. In a namespace that labs share, the table carries the lab's id."""
        netns = manifest.hypervisor.netns
        table = TABLE if netns is not None else f"{TABLE}_{manifest.lab_id}"
        return cls(netns, table, {node.name: node.address for node in manifest.nodes})

    def cut(self, name: str, pairs: Iterable[Pair], lease: int) -> None:
        """Drop what goes along `pairs` from now on, for `lease` seconds or until renewed; safe to repeat."""
        self._apply(render_cut(self.table, name, self._named(pairs), lease))

    def renew(self, name: str, pairs: Iterable[Pair], lease: int) -> None:
        """Start the lease of a cut anew; its counters stay. Raises ToolError when the cut is gone."""
        self._apply(render_renewal(self.table, name, self._named(pairs), lease))

    def mend(self, name: str) -> None:
        """Remove a cut, and the table with the last one; safe when there is none."""
        if name in self.cuts():
            self._apply(render_mend(self.table, name))
        if self.present() and not self.cuts():
            self._apply(f"delete table bridge {self.table}\n")

    def present(self) -> bool:
        """Whether our table is there."""
        return run(["nft", "list", "table", "bridge", self.table], netns=self.netns, check=False).ok

    def drop_table(self) -> None:
        """Remove every cut at once; safe when there is none."""
        self._apply(f"add table bridge {self.table}\ndelete table bridge {self.table}\n")

    def cuts(self) -> dict[str, CutState]:
        """Every cut there is, by name."""
        listed = run(["nft", "-j", "list", "table", "bridge", self.table], netns=self.netns, check=False)
        if not listed.ok:
            return {}
        return parse_table(json.loads(listed.stdout), {str(ip): name for name, ip in self.addresses.items()})

    def _named(self, pairs: Iterable[Pair]) -> list[tuple[str, str, str]]:
        return [(f"{a}>{b}", str(self.addresses[a]), str(self.addresses[b])) for a, b in pairs]

    def _apply(self, script: str) -> None:
        run(["nft", "-f", "-"], stdin=script, netns=self.netns, seconds=10, next="./lab heal mends what is left.")


def render_cut(table: str, name: str, pairs: Iterable[tuple[str, str, str]], lease: int) -> str:
    """nft transaction that makes the cut `name`; `pairs` are (comment, source, destination)."""
    pairs = list(pairs)
    where = f"bridge {table} {name}"
    lines = [
        f"add table bridge {table}",
        f"add set {where} {{ type ipv4_addr . ipv4_addr; flags timeout; }}",
        f"flush set {where}",
        # below every filter of the host's own, so that nothing accepts before us
        f"add chain {where} {{ type filter hook forward priority -300; policy accept; }}",
        f"flush chain {where}",
        _elements(where, pairs, lease),
    ]
    lines += [
        f"add rule {where} ip saddr {source} ip daddr {target} "
        f'ip saddr . ip daddr @{name} counter drop comment "{text}"'
        for text, source, target in pairs
    ]
    return "\n".join(lines) + "\n"


def render_renewal(table: str, name: str, pairs: Iterable[tuple[str, str, str]], lease: int) -> str:
    """nft transaction that starts the lease anew: an element cannot be updated, so out and in again at once."""
    where = f"bridge {table} {name}"
    return f"flush set {where}\n{_elements(where, list(pairs), lease)}\n"


def render_mend(table: str, name: str) -> str:
    """nft transaction that removes the cut `name`."""
    where = f"bridge {table} {name}"
    return f"flush chain {where}\ndelete chain {where}\ndelete set {where}\n"


def _elements(where: str, pairs: list[tuple[str, str, str]], lease: int) -> str:
    inside = ", ".join(f"{source} . {target} timeout {lease}s" for _, source, target in pairs)
    return f"add element {where} {{ {inside} }}"


def parse_table(listed: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, CutState]:
    """Cuts in what `nft -j list table` gives; `names` maps addresses to nodes."""
    pairs: dict[str, set[Pair]] = {}
    dropped: dict[str, dict[Pair, int]] = {}
    for entry in listed["nftables"]:
        if chain := entry.get("chain"):
            dropped.setdefault(chain["name"], {})
        elif found := entry.get("set"):
            for element in found.get("elem", ()):
                source, target = element["elem"]["val"]["concat"]
                pairs.setdefault(found["name"], set()).add((names.get(source, source), names.get(target, target)))
        elif rule := entry.get("rule"):
            source, _, target = rule.get("comment", "").partition(">")
            packets = sum(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)
            dropped.setdefault(rule["chain"], {})[(source, target)] = packets
    return {name: CutState(frozenset(pairs.get(name, ())), counts) for name, counts in dropped.items()}
