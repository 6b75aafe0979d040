"""Which fields a line may have: what is asked for and not covered would make the verdict wrong, so it is refused.

A field counts as not there when it is null or false. Fields that begin with `x_` change nothing and are never looked
at; any other name that is not known here ends the reading with file, line and the field's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

FREE = "x_"
"""Prefix of fields that change nothing."""

COMMON = frozenset({"process", "op", "invoke_ns", "return_ns", "outcome", "revision", "member", "error", "gave_up_ns"})
"""Of every operation; the last two are what the recording client noted, and change nothing."""

PLAIN: dict[str, frozenset[str]] = {
    "put": frozenset({"key", "value", "lease", "mod_revision"}),
    "get": frozenset({"key", "value", "mod_revision", "serializable"}),
    "delete": frozenset({"key", "deleted"}),
    "cas": frozenset({"key", "value", "expect", "succeeded", "lease", "mod_revision"}),
    "txn": frozenset({"ops", "compare", "succeeded"}),
    "range": frozenset({"key", "range_end", "kvs", "serializable"}),
    "lease_grant": frozenset({"lease", "ttl"}),
    "lease_keepalive": frozenset({"lease", "ttl"}),
    "lease_revoke": frozenset({"lease"}),
}
"""Of each operation, what the columns of a History hold."""

ANSWER = frozenset({"answer"})
BOUNDS = ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision")
PREVIOUS = frozenset({"prev_kv", "prev_value"})
MORE: dict[str, frozenset[str]] = {
    "put": PREVIOUS | {"ignore_value", "ignore_lease"} | ANSWER,
    "get": frozenset({"at_revision", "create_revision", "version", "keys_only"}) | ANSWER,
    "delete": PREVIOUS | {"range_end", "prefix", "prev_kvs"},
    "cas": frozenset(),
    "txn": frozenset({"then", "else"}) | ANSWER,
    "range": frozenset({"at_revision", "limit", "more", "keys_only", "count_only", "count", *BOUNDS}) | ANSWER,
    "lease_grant": frozenset(),
    "lease_keepalive": ANSWER,
    "lease_revoke": ANSWER,
    "lease_ttl": frozenset({"lease", "ttl", "granted_ttl"}) | ANSWER,
    "compact": frozenset({"compact_revision"}) | ANSWER,
}
"""Of each operation, what only its exact form holds (`actions`)."""

PARTS = {
    "put": (PLAIN["put"] - {"mod_revision"}) | {"op"},
    "get": (PLAIN["get"] - {"serializable"}) | {"op"},
    "delete": PLAIN["delete"] | {"op"},
}
"""Of each part of a transaction, what the columns hold; the rest is as in MORE, without `answer`."""

COMPARE = frozenset({"key", "target", "result", "value", "mod_revision", "create_revision", "version", "lease"})
KV = frozenset({"key", "value", "mod_revision", "create_revision", "version", "lease"})
META = frozenset({"base_revision", "initial", "closed_world", "ledger", "etcd_version", "leases_gone_by_ns"})
KEPT = frozenset({"ops", "compare", "then", "else", "kvs", "prev_kv", "prev_value", "prev_kvs"})
"""Asked for by being there at all, whatever they hold."""


def extra(line: Mapping[str, object], known: Iterable[str]) -> list[str]:
    """Fields that say something and are not among the known ones."""
    known = frozenset(known)
    return [
        name
        for name, value in line.items()
        if name not in known
        and not name.startswith(FREE)
        and (name in KEPT or (value is not None and value is not False))
    ]


def refusal(where: str, name: str) -> str:
    """What to say of a field that is not covered."""
    return (
        f"{where} has the field {name!r}, which is not covered; if it changes nothing for the store, "
        f"call it {FREE}{name}"
    )
