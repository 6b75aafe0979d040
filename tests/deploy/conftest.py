"""A lab of three nodes and its certificates, as data."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from deploy.certificates import issue, make_authority
from deploy.plan import NodePki, PkiBundle
from infra.manifest import Manifest
from tests.manifests import manifest


@pytest.fixture(name="manifest")
def _manifest() -> Manifest:
    return manifest()


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
