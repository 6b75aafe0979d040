"""The lab's certificates as Pulumi resources: made once, kept in the state, keys encrypted there.

One authority per lab, one resource per node and one for the client. A node's certificates are made
anew only when its name, its address or the authority changes, so that adding a node leaves the
certificates of the others as they are.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from deploy.certificates import KeyPair, fingerprint, issue, make_authority
from infra.dynamic import differs, mappings

Props = dict[str, Any]

_IDENTITY: Final = ("name", "address", "ca_certificate")
"""What a node's certificates depend on."""


def new_id(kind: str) -> str:
    """A resource id that no earlier resource had."""
    return f"{kind}-{secrets.token_hex(4)}"


class AuthorityProvider(ResourceProvider):
    """Makes the certificate authority once; nothing about it can change."""

    serialize_as_secret_always = False

    def create(self, props: Props) -> CreateResult:
        """A new authority called as `props` says."""
        pair = make_authority(props["common_name"])
        outs = {"common_name": props["common_name"], "certificate": pair.certificate, "key": pair.key}
        return CreateResult(new_id("ca"), outs)

    def diff(self, _id: str, _olds: Props, _news: Props) -> DiffResult:
        """Never: a lab keeps its authority for life."""
        return DiffResult(changes=False)


class LeafProvider(ResourceProvider):
    """Makes the certificates of one node, or of the client, from an authority."""

    serialize_as_secret_always = False

    def create(self, props: Props) -> CreateResult:
        """New certificates for the identity in `props`."""
        return CreateResult(new_id(f"certificates-{props['name']}"), _leaf(props))

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Whether name, address or authority are others than before."""
        before, after = mappings(olds), mappings(news)
        return DiffResult(changes=any(differs(before.get(key), after.get(key)) for key in _IDENTITY))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """New certificates for the new identity."""
        return UpdateResult(_leaf(news))


def _leaf(given: Props) -> Props:
    props: Props = mappings(given)
    authority = KeyPair(props["ca_certificate"], props["ca_key"])
    outs: Props = {key: props[key] for key in _IDENTITY}
    outs["ca_fingerprint"] = fingerprint(authority.certificate)
    name, address = props["name"], props["address"]
    for role in props["roles"]:
        pair = issue(
            authority,
            name,
            names=[name] if address else [],
            addresses=[IPv4Address(address)] if address else [],
        )
        outs[f"{role}_certificate"] = pair.certificate
        outs[f"{role}_key"] = pair.key
    return outs


class Authority(Resource, module="etcdlab", name="Authority"):
    """The lab's certificate authority."""

    certificate: pulumi.Output[str]
    key: pulumi.Output[str]

    def __init__(self, name: str, common_name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            AuthorityProvider(),
            name,
            {"common_name": common_name, "certificate": None, "key": None},
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=["key"])),
        )


class NodeCertificates(Resource, module="etcdlab", name="NodeCertificates"):
    """Server and peer certificates of one node."""

    server_certificate: pulumi.Output[str]
    server_key: pulumi.Output[str]
    peer_certificate: pulumi.Output[str]
    peer_key: pulumi.Output[str]

    def __init__(
        self, name: str, *, node: str, address: str, authority: Authority, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        props = _leaf_inputs(node, address, authority, ["server", "peer"])
        secret = pulumi.ResourceOptions(additional_secret_outputs=["server_key", "peer_key"])
        super().__init__(LeafProvider(), name, props, pulumi.ResourceOptions.merge(opts, secret))


class ClientCertificate(Resource, module="etcdlab", name="ClientCertificate"):
    """The certificate with which people, programs and the nodes' own etcdctl call etcd."""

    client_certificate: pulumi.Output[str]
    client_key: pulumi.Output[str]

    def __init__(self, name: str, *, authority: Authority, opts: pulumi.ResourceOptions | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["client_key"])
        props = _leaf_inputs("root", "", authority, ["client"])
        super().__init__(LeafProvider(), name, props, pulumi.ResourceOptions.merge(opts, secret))


def _leaf_inputs(name: str, address: str, authority: Authority, roles: list[str]) -> Props:
    props: Props = {
        "name": name,
        "address": address,
        "roles": roles,
        "ca_certificate": authority.certificate,
        "ca_key": pulumi.Output.secret(authority.key),
    }
    # Outputs that are no inputs must still be named, or the SDK does not resolve them.
    props |= {f"{role}_{part}": None for role in roles for part in ("certificate", "key")}
    return props


@dataclass(frozen=True, slots=True)
class Pki:
    """All certificates of a lab."""

    authority: Authority
    client: ClientCertificate
    nodes: Mapping[str, NodeCertificates]

    @property
    def bundle(self) -> pulumi.Output[dict[str, Any]]:
        """Everything as one secret value, shaped as deploy.plan.PkiBundle."""
        return pulumi.Output.secret(
            pulumi.Output.all(
                ca_certificate=self.authority.certificate,
                client_certificate=self.client.client_certificate,
                client_key=self.client.client_key,
                nodes={
                    name: {
                        "server_certificate": node.server_certificate,
                        "server_key": node.server_key,
                        "peer_certificate": node.peer_certificate,
                        "peer_key": node.peer_key,
                    }
                    for name, node in self.nodes.items()
                },
            )
        )


def make_pki(nodes: Mapping[str, str], *, stack: str, parent: pulumi.Resource | None = None) -> Pki:
    """Declare the certificates of a lab whose nodes are `nodes` (name to address)."""
    opts = pulumi.ResourceOptions(parent=parent)
    authority = Authority("authority", f"etcd-lab {stack}", opts)
    return Pki(
        authority=authority,
        client=ClientCertificate("client-certificate", authority=authority, opts=opts),
        nodes={
            name: NodeCertificates(f"{name}-certificates", node=name, address=address, authority=authority, opts=opts)
            for name, address in nodes.items()
        },
    )
