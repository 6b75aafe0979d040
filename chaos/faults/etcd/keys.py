"""Keys that faults write and ask for, over one member's JSON gateway; all of them begin with PREFIX."""

from __future__ import annotations

import base64

from chaos.lab.lab import Lab
from machine.errors import LabError
from machine.waiting import Pending, wait_until

PREFIX = "etcd-lab/"
"""Keys of faults begin so; they are no part of any workload."""

CALL_SECONDS = 20.0
"""Limit of one call: an emulated member does a TLS handshake for each."""


def text64(text: str) -> str:
    """Bytes as the gateway wants them (proto3's JSON mapping)."""
    return base64.b64encode(text.encode()).decode()


def put(lab: Lab, node: str, key: str, value: str) -> int:
    """Write a key through `node`; gives the revision. Raises LabError with etcd's words when it is refused."""
    body = {"key": text64(PREFIX + key), "value": text64(value)}
    header = lab.cluster.call(node, "kv/put", body, CALL_SECONDS).get("header")
    return int(str(header["revision"])) if isinstance(header, dict) else 0


def put_until_taken(lab: Lab, node: str, key: str, value: str, seconds: float) -> int:
    """As `put`, again and again for `seconds`.

    For a member that has only just started: its gateway is told that its own client port refuses for a moment.
    """

    def taken() -> int:
        try:
            return put(lab, node, key, value)
        except LabError as error:
            raise Pending(str(error)) from error

    return wait_until(taken, f"a put through {node}", seconds=seconds)


def read_at(lab: Lab, node: str, key: str, revision: int) -> str:
    """What `node` itself says about a key at an old revision: "there", "absent", or etcd's refusal."""
    body = {"key": text64(PREFIX + key), "revision": str(revision), "serializable": True}
    try:
        return "there" if lab.cluster.call(node, "kv/range", body, CALL_SECONDS).get("kvs") else "absent"
    except LabError as error:
        return str(error)


def attempt(lab: Lab, node: str, key: str, value: str) -> str:
    """Try to write through `node`: "accepted", or the refusal in etcd's words."""
    try:
        put(lab, node, key, value)
    except LabError as error:
        return str(error)
    return "accepted"
