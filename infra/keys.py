"""The lab's ssh keys: one to log in with, and one host key per node, made once and kept in the state.

The host keys reach the guests at first boot, and known_hosts is written from them, so that
checking is strict from the first connection on.
"""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from infra.dynamic import Props, Provider, mapping, text


def new_key() -> str:
    """A fresh ed25519 private key as OpenSSH writes it."""
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
        .decode()
    )


def public_key(private: str) -> str:
    """The public half, `ssh-ed25519 AAAA…` without comment."""
    key = serialization.load_ssh_private_key(private.encode(), password=None)
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def _outs(nodes: object, login: str, hosts: dict[str, str]) -> dict[str, object]:
    return {
        "nodes": nodes,
        "login_private": login,
        "login_public": public_key(login),
        "host_private": hosts,
        "host_public": {node: public_key(key) for node, key in hosts.items()},
    }


class _KeysProvider(Provider):
    inputs = ("nodes",)

    def create(self, props: Props) -> CreateResult:
        hosts = {node: new_key() for node in _names(props)}
        return CreateResult("ssh-keys", _outs(props["nodes"], new_key(), hosts))

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        known = mapping(_olds, "host_private")
        hosts = {node: known.get(node) or new_key() for node in _names(_news)}
        return UpdateResult(_outs(_news["nodes"], text(_olds, "login_private"), hosts))


def _names(props: Props) -> list[str]:
    nodes = props["nodes"]
    assert isinstance(nodes, list)  # noqa: S101 - our own class below passes a list
    return [str(node) for node in nodes]


class SshKeys(Resource, module="lab", name="SshKeys"):
    """Login key and host keys; a node added later gets a key of its own and the others keep theirs."""

    login_private: pulumi.Output[str]
    """Secret."""
    login_public: pulumi.Output[str]
    host_private: pulumi.Output[dict[str, str]]
    """Secret; node -> private host key."""
    host_public: pulumi.Output[dict[str, str]]
    """Node -> public host key."""

    def __init__(self, name: str, *, nodes: Sequence[str], opts: pulumi.ResourceOptions | None = None) -> None:
        empty = dict.fromkeys(("login_private", "login_public", "host_private", "host_public"))
        secret = pulumi.ResourceOptions(additional_secret_outputs=["login_private", "host_private"])
        super().__init__(
            _KeysProvider(), name, {"nodes": list(nodes), **empty}, pulumi.ResourceOptions.merge(opts, secret)
        )


def known_hosts(public: dict[str, str], addresses: dict[str, str]) -> str:
    """known_hosts lines for `public` (node -> key); each node is known by name and by address.

    Sorted, since the engine gives mappings back in any order.
    """
    return "".join(f"{node},{addresses[node]} {key}\n" for node, key in sorted(public.items()))
