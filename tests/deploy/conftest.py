"""A lab of three nodes and its certificates, as data."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from deploy.certificates import issue, make_authority
from deploy.plan import NodePki, PkiBundle
from infra.manifest import Hypervisor, Manifest, Node, Timeouts


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        lab_id="0a1b2c3d",
        stack="lab",
        nodes=tuple(
            Node(
                name=f"etcd{number}",
                address=IPv4Address(f"192.168.93.1{number}"),
                mac=f"52:54:00:00:00:0{number}",
                domain=f"etcdlab-0a1b2c3d-etcd{number}",
                memory_mib=512,
                vcpus=1,
            )
            for number in (1, 2, 3)
        ),
        subnet=IPv4Network("192.168.93.0/24"),
        gateway=IPv4Address("192.168.93.1"),
        hypervisor=Hypervisor(
            kind="embedded", uri="qemu+unix:///system", netns=None, bridge="el0a1b2c3d", accelerator="tcg"
        ),
        etcd_version="3.6.16",
        timeouts=Timeouts(heartbeat_ms=300, election_ms=3000),
        peers="address",
    )


@pytest.fixture(scope="session")
def pki() -> PkiBundle:
    authority = make_authority("test")
    nodes = {}
    for number in (1, 2, 3):
        name, address = f"etcd{number}", IPv4Address(f"192.168.93.1{number}")
        server = issue(authority, name, names=[name], addresses=[address])
        peer = issue(authority, name, names=[name], addresses=[address])
        nodes[name] = NodePki(
            server_certificate=server.certificate,
            server_key=server.key,
            peer_certificate=peer.certificate,
            peer_key=peer.key,
        )
    client = issue(authority, "root")
    return PkiBundle(
        ca_certificate=authority.certificate,
        client_certificate=client.certificate,
        client_key=client.key,
        nodes=nodes,
    )
