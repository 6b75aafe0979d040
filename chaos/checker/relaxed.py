"""Rows of operations that the columns do not hold whole: they say less, and nothing that does not follow.

What looks at columns alone (the revision path, watches, the logs' evidence) so never says too much. Where a row cannot
tell which keys an operation may have written, these are `vague`, and nothing is concluded from their columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from chaos.checker.action_reading import Broken
from chaos.checker.actions import UNTOLD, Action, Put, Read, Remove
from chaos.checker.actions import Part as Exact
from chaos.checker.model import NONE, Kind, Outcome, Part


class Numbers(dict[Any, int]):
    """Numbers things in the order they are first seen, from `first`."""

    def __init__(self, first: int = 0) -> None:
        super().__init__()
        self.first = first

    def __missing__(self, thing: Any) -> int:  # noqa: ANN401 - any hashable of JSON
        self[thing] = number = len(self) + self.first
        return number


class Values(Numbers):
    """Numbers values: strings, integers, or null (which is 0)."""

    def __missing__(self, thing: Any) -> int:  # noqa: ANN401
        if type(thing) is not str and type(thing) is not int:
            raise Broken(f"value {thing!r} is neither a string, nor an integer, nor null")
        return super().__missing__(thing)


class Row(NamedTuple):
    """Of one operation; `parts` where it becomes a transaction."""

    kind: Kind = Kind.OTHER
    key: int = NONE
    value: int = 0
    told: int = NONE
    mod: int | None = None
    parts: tuple[Part, ...] | None = None


LEASES = {
    "lease_grant": Kind.LEASE_GRANT,
    "lease_keepalive": Kind.LEASE_KEEPALIVE,
    "lease_revoke": Kind.LEASE_REVOKE,
    "lease_ttl": Kind.OTHER,
}


class Relaxed:
    """Makes the rows of one history; numbers its keys, values and leases."""

    def __init__(self, keys: Numbers, values: Values, leases: Numbers) -> None:
        self.keys, self.values, self.leases = keys, values, leases
        self.vague: set[tuple[str, str | None]] = set()

    def row(self, action: Action, op: Mapping[str, Any], outcome: int) -> Row:
        """The row of an action; `op` is its line."""
        self._name(action)
        if action.kind in LEASES:
            ttl = op.get("ttl")
            told = 0 if action.answer else NONE if ttl is None else max(ttl, 0)
            kind = Kind.OTHER if action.answer and action.revoke else LEASES[action.kind]
            return Row(kind, told=NONE if action.revoke else told)
        if action.answer or action.compact:
            return Row()
        if outcome != Outcome.OK:
            return self._unsure(action, outcome)
        parts = action.branch()
        if action.kind != "txn":
            found = self._alone(parts[0], op)
            if found is not None:
                return found
        return Row(Kind.TXN, told=1, parts=tuple(one for part in parts for one in self._kept(part)))

    def _name(self, action: Action) -> None:
        """Every key that it names is one of the history's."""
        for compare in action.compares:
            self.keys[compare.key]
        for part in (*action.then, *action.orelse):
            if isinstance(part, Put) or part.end is None:
                self.keys[part.key]
            told = part.kvs if isinstance(part, Read) else part.previous if isinstance(part, Remove) else None
            for seen in told or ():
                self.keys[seen.key]

    def _unsure(self, action: Action, outcome: int) -> Row:
        """One that perhaps was not done, or certainly not."""
        for part in (*action.then, *action.orelse):
            if isinstance(part, Read):
                continue
            if action.kind != "txn" and isinstance(part, Put) and not part.ignore_value:
                return Row(Kind.PUT, self.keys[part.key], self.values[part.value])
            if action.kind != "txn" and isinstance(part, Remove) and part.end is None:
                return Row(Kind.DELETE, self.keys[part.key])
            if outcome == Outcome.UNKNOWN:
                self.vague.add((part.key, part.end if isinstance(part, Remove) else None))
        return Row()

    def _alone(self, part: Exact, op: Mapping[str, Any]) -> Row | None:
        """The row of a single put, get or delete, if one says it."""
        if isinstance(part, Put) and not part.ignore_value:
            return Row(Kind.PUT, self.keys[part.key], self.values[part.value], mod=op.get("mod_revision"))
        if isinstance(part, Remove) and part.end is None:
            return Row(Kind.DELETE, self.keys[part.key], told=NONE if part.deleted is None else part.deleted)
        if isinstance(part, Read) and part.end is None and not part.at and not op.get("keys_only"):
            return Row(Kind.GET, self.keys[part.key], self.values[op.get("value")], mod=op.get("mod_revision"))
        return None

    def _kept(self, part: Exact) -> Iterator[Part]:
        """What of one part the columns can say."""
        if isinstance(part, Put):
            if part.ignore_value:
                self.vague.add((part.key, None))
            else:
                lease = self.leases[part.lease] if part.lease else NONE
                yield Part(Kind.PUT, self.keys[part.key], self.values[part.value], lease=lease)
        elif isinstance(part, Remove):
            if part.previous is not None:
                yield from (Part(Kind.DELETE, self.keys[kv.key], deleted=1) for kv in part.previous)
                if part.end is None and not part.previous:
                    yield Part(Kind.DELETE, self.keys[part.key], deleted=0)
            elif part.end is None:
                yield Part(Kind.DELETE, self.keys[part.key], deleted=part.deleted or 0)
            elif part.deleted:
                self.vague.add((part.key, part.end))
        elif not part.at and part.kvs is not None:
            for kv in part.kvs:
                if kv.value is not UNTOLD:
                    yield Part(Kind.GET, self.keys[kv.key], self.values[kv.value], kv.mod or NONE)
            if part.end is None and not part.kvs:
                yield Part(Kind.GET, self.keys[part.key])
