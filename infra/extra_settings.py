"""Which settings of etcd `etcd-extra` may hold, as far as that is the lab's own business.

What etcd itself refuses or ignores is not here: its program is asked (deploy.trial).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_KEY: Final = re.compile(r"[a-z][a-z0-9-]*")

_OURS: Final[Mapping[str, str]] = {
    "name": "names",
    "heartbeat-interval": "heartbeat-ms",
    "election-timeout": "election-ms",
}
"""etcd's setting -> the lab's own for it."""
_ADDRESSES: Final = "the lab gives each member its addresses, which faults and proofs rely on"
_SECURITY: Final = "the lab makes certificates for every member and client"
_WAY_IN: Final = "the lab names all members to each other (initial-cluster), and etcd takes one way alone"
_NOT_OURS: Final[Mapping[str, str]] = {
    "data-dir": "the data volume of the node is there, and disk faults work on it",
    "wal-dir": "the log belongs on the data volume, which disk faults work on",
    "listen-peer-urls": _ADDRESSES,
    "listen-client-urls": _ADDRESSES,
    "listen-client-http-urls": _ADDRESSES,
    "listen-metrics-urls": _ADDRESSES,
    "initial-advertise-peer-urls": _ADDRESSES,
    "advertise-client-urls": _ADDRESSES,
    "initial-cluster": _WAY_IN,
    "initial-cluster-token": "the lab gives each cluster its own",
    "initial-cluster-state": "the lab knows whether a member founds the cluster or joins it",
    "client-transport-security": _SECURITY,
    "peer-transport-security": _SECURITY,
    "discovery": _WAY_IN,
    "discovery-config": _WAY_IN,
    "discovery-srv": _WAY_IN,
    "discovery-srv-name": _WAY_IN,
    "discovery-proxy": _WAY_IN,
    "discovery-fallback": _WAY_IN,
    "proxy": "every node of a lab is a member, and none a proxy",
    "force-new-cluster": "every member would make itself a cluster of its own",
    "enable-grpc-gateway": "the lab's own calls go through that gateway",
}
"""Keys of etcd's file that are not for `etcd-extra`, with the reason."""


def against(extra: Mapping[object, object]) -> str:
    """Why these settings cannot be; "" when they can."""
    for key, item in extra.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            return f"holds {key!r}, which is not how etcd spells a setting"
        if key in _OURS:
            return f"holds {key!r}, which the lab sets from etcd-lab:{_OURS[key]}"
        if reason := _not_ours(key):
            return f"holds {key!r}, which is not to be set: {reason}"
        if not _sayable(item):
            return f"holds {key!r} with no value, or with none in it"
    return ""


def _not_ours(key: str) -> str:
    """Why a key is not for `etcd-extra`; "" when it is. etcd also takes some names of fields (`DataDir`) for keys."""
    bare = key.replace("-", "")
    return next((why for name, why in _NOT_OURS.items() if bare == name.replace("-", "")), "")


def _sayable(item: object) -> bool:
    """Whether a file can say it: texts, numbers, truth values, and lists and mappings of them."""
    if isinstance(item, Mapping):
        return all(isinstance(key, str) and _sayable(value) for key, value in item.items())
    if isinstance(item, list | tuple):
        return all(map(_sayable, item))
    return isinstance(item, str | int | float | bool)
