"""The manifest: what building, deploying and breaking a lab agree on.

Plain, frozen data that serialises to JSON. It holds no secret (key files lie beside it, see
machine.paths.StackPaths) and no member id (members may be replaced).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from machine.errors import NotBuiltError
from machine.paths import StackPaths
from machine.process import write_private

CLIENT_PORT: Final = 2379
PEER_PORT: Final = 2380
METRICS_PORT: Final = 2381

OBSERVER_PORTS: Final = range(20000, 30000)
"""Local TCP ports of this host's calls that only observe (status, health): cuts of the client port let them pass.
Below the ephemeral ports (32768 and up, ip-sysctl.rst), so that no other connection has one of them."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Node(_Frozen):
    """One virtual machine with one etcd member."""

    name: str
    """Host name, etcd member name, and the word users type."""
    address: IPv4Address
    mac: str
    domain: str
    """libvirt domain name, unique on the hypervisor."""
    memory_mib: int
    vcpus: int


class Hypervisor(_Frozen):
    """Where the machines run and how they are reached."""

    kind: Literal["embedded", "system"]
    uri: str
    """libvirt connection URI."""
    netns: str | None
    """Network namespace that holds the lab's bridge; None where it is the host's own."""
    bridge: str
    """Name of the lab's bridge in that namespace."""
    accelerator: Literal["kvm", "tcg"]


class Timeouts(_Frozen):
    """etcd's raft timing, in milliseconds."""

    heartbeat_ms: int
    election_ms: int


class Manifest(_Frozen):
    """One lab as built."""

    version: Literal[1] = 1
    lab_id: str
    """Random, 8 hex digits: tells a leftover of another lab."""
    stack: str
    nodes: tuple[Node, ...] = Field(min_length=1, max_length=9)
    subnet: IPv4Network
    gateway: IPv4Address
    """The host's own address on the lab's network (first of the subnet)."""
    hypervisor: Hypervisor
    etcd_version: str
    timeouts: Timeouts
    peers: Literal["address", "hosts", "dns"]
    """How members name each other."""
    etcd_extra: dict[str, JsonValue] = Field(default_factory=dict)
    """Further etcd settings from `etcd-extra`, as etcd's config file spells them."""

    @property
    def node_names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(node.name for node in self.nodes)

    @property
    def quorum(self) -> int:
        """Members that must agree: more than half."""
        return len(self.nodes) // 2 + 1

    def node(self, name: str) -> Node:
        """The node called `name`; raises NotBuiltError naming those there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise NotBuiltError(
            f"There is no node {name!r} in this lab", next=f"The nodes are {', '.join(self.node_names)}."
        )

    def save(self, paths: StackPaths) -> None:
        """Write it where commands look for it."""
        write_private(paths.manifest, self.model_dump_json(indent=2) + "\n", mode=0o644)


def load(paths: StackPaths) -> Manifest:
    """Read the manifest of a lab; raises NotBuiltError when there is none or it cannot be read."""
    return load_file(paths.manifest, paths.stack)


def load_file(path: Path, stack: str) -> Manifest:
    """Read a manifest file; see `load`."""
    try:
        return Manifest.model_validate_json(path.read_text())
    except FileNotFoundError as error:
        raise NotBuiltError(
            f"There is no lab {stack!r} here", where=str(path), next="Build one with ./lab up."
        ) from error
    except ValidationError as error:
        raise NotBuiltError(
            f"The manifest of lab {stack!r} cannot be read: {error.errors()[0]['msg']}",
            where=str(path),
            next="./lab up writes it anew.",
        ) from error
