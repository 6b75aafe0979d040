"""A recorded history as columns: one row per operation, keys and values as small integers.

Columns keep a million operations within a few hundred MB and let numpy do the linear work; `History.operation` gives
one row back as words for an explanation. What an operation means is in `chaos.checker.specification`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from chaos.checker.actions import Action, Put, Remove

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NONE = -1
"""Not given: a revision, a mod revision, a count, a lease."""
NULL = 0
"""Value number of a key that is absent."""
NEVER = 2**62
"""Return time of an operation that never returned, in ns."""


class Kind(IntEnum):
    """What was asked of the store."""

    PUT = 0
    GET = 1
    DELETE = 2
    CAS = 3
    TXN = 4
    RANGE = 5
    LEASE_GRANT = 6
    LEASE_KEEPALIVE = 7
    LEASE_REVOKE = 8
    OTHER = 9
    """Told by its action alone; the row says no more than its revision."""


class Outcome(IntEnum):
    """What the client knows: it happened, it certainly did not, or either."""

    OK = 0
    FAIL = 1
    UNKNOWN = 2


@dataclass(frozen=True, slots=True)
class Meta:
    """First line of a history: where the store began, and whether others may have taken revisions.

    Other writers (closed_world false) take revisions but touch no key that the history names.
    """

    base_revision: int = 1
    """Revision of the store before the first operation; an empty etcd has 1."""
    closed_world: bool = False
    ledger: bool = False
    """Every put writes a value never written before to its key (a repeat is broken input)."""
    base_known: bool = True
    """False when `initial` came without a base revision: then initial keys may have any mod revision."""
    leases_gone_by_ns: int | None = None
    """When every lease of the history should have expired, whatever happened; None: nothing is asked."""
    etcd_version: str = ""
    """Which etcd it was; empty: not told, and what the supported versions promise is asked of it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One operation inside a transaction: a put, a get or a delete of one key."""

    kind: Kind
    key: int
    value: int = NULL
    mod: int = NONE
    deleted: int = NONE
    lease: int = NONE


@dataclass(frozen=True, slots=True)
class Txn:
    """A transaction: `parts` done in order when every (key, value) of `compare` holds, else nothing done."""

    compare: tuple[tuple[int, int], ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What a range from `start` up to, not including, `end` returned: key number -> (value, mod revision)."""

    start: str
    end: str
    found: dict[int, tuple[int, int]]

    def covers(self, key: str) -> bool:
        """Whether the range asked for this key; an end of NUL means every key from start (etcd's convention)."""
        return self.start <= key and (self.end == "\0" or key < self.end)


@dataclass(slots=True)
class History:
    """Operations in the order of the file, one array per column, all of the same length."""

    name: str
    meta: Meta
    keys: list[str]
    values: list[str | int | None]
    initial: dict[int, int]
    line: Ints
    process: Ints
    kind: Ints
    key: Ints
    value: Ints
    expect: Ints
    invoke: Ints
    ret: Ints
    outcome: Ints
    revision: Ints
    mod: Ints
    count: Ints
    """deleted of a delete; succeeded (0 or 1) of a cas or txn; ttl in seconds of a lease operation."""
    member: Ints
    lease: Ints
    serializable: Flags
    members: list[str] = field(default_factory=list)
    leases: list[str] = field(default_factory=list)
    txns: dict[int, Txn] = field(default_factory=dict)
    ranges: dict[int, Found] = field(default_factory=dict)
    actions: dict[int, Action] = field(default_factory=dict)
    """Exact forms of operations that the columns, `txns` and `ranges` do not hold whole."""
    vague: set[tuple[str, str | None]] = field(default_factory=set)
    """Keys and ranges that may have been written by operations of which the columns do not tell it."""
    facts: dict[int, dict[str, int | str]] = field(default_factory=dict)
    """Of initial keys, what meta tells besides the value: create_revision, mod_revision, version, lease."""

    def __len__(self) -> int:
        return len(self.line)

    @property
    def acknowledged(self) -> int:
        """Operations that were answered: all that a verdict can rest on."""
        return int((self.outcome == Outcome.OK).sum())

    def takes_revision(self) -> Flags:
        """Which acknowledged operations certainly took a revision (a revoke may or may not have)."""
        changed = (self.kind == Kind.PUT) | (((self.kind == Kind.DELETE) | (self.kind == Kind.CAS)) & (self.count > 0))
        for row, txn in self.txns.items():
            changed[row] = self.count[row] != 0 and any(
                part.kind == Kind.PUT or (part.kind == Kind.DELETE and part.deleted > 0) for part in txn.parts
            )
        for row, action in self.actions.items():
            changed[row] = not action.answer and any(
                isinstance(part, Put) or (isinstance(part, Remove) and bool(part.deleted)) for part in action.branch()
            )
        return np.asarray(changed & (self.outcome == Outcome.OK), dtype=np.bool_)

    def where(self, row: int) -> str:
        """File and line of an operation."""
        return f"{self.name}:{self.line[row]}"

    def show(self, value: int) -> str:
        """A value in words."""
        return "nothing" if value == NULL else repr(self.values[value])

    def operation(self, row: int) -> str:
        """One operation as a reader would say it: line, process, what it did, when, at which revision."""
        kind = Kind(int(self.kind[row]))
        key = self.keys[self.key[row]] if self.key[row] >= 0 else ""
        value, outcome = self.show(int(self.value[row])), Outcome(int(self.outcome[row]))
        ok, count = outcome == Outcome.OK, int(self.count[row])
        if row in self.actions:
            text = ("serializable " if self.serializable[row] else "") + self.actions[row].text()
        elif kind == Kind.PUT:
            text = f"put {key} = {value}"
        elif kind == Kind.GET:
            text = f"{'serializable ' if self.serializable[row] else ''}get {key}" + (f" -> {value}" if ok else "")
        elif kind == Kind.DELETE:
            text = f"delete {key}" + (f" -> {count} deleted" if ok and count >= 0 else "")
        elif kind == Kind.CAS:
            done = (" -> succeeded" if count else " -> did not succeed") if ok else ""
            text = f"cas {key} from {self.show(int(self.expect[row]))} to {value}{done}"
        elif kind == Kind.TXN:
            txn = self.txns[row]
            parts = "; ".join(self._part(part, ok) for part in txn.parts)
            guard = " and ".join(f"{self.keys[k]} is {self.show(v)}" for k, v in txn.compare)
            done = (" -> succeeded" if count else " -> did not succeed") if ok and guard else ""
            text = f"txn {'if ' + guard + ' ' if guard else ''}[{parts}]{done}"
        elif kind == Kind.RANGE:
            found = self.ranges.get(row)
            got = (
                ", ".join(f"{self.keys[k]}={self.show(v)}" for k, (v, _) in sorted(found.found.items()))
                if found
                else ""
            )
            text = f"range {key} -> [{got}]"
        else:
            text = f"{kind.name.lower()} {self.leases[self.lease[row]]}"
        when = f"{self.invoke[row]}..{'never returned' if self.ret[row] == NEVER else self.ret[row]} ns"
        seen = f", revision {self.revision[row]}" if self.revision[row] >= 0 else ""
        seen += f", mod revision {self.mod[row]}" if self.mod[row] > 0 else ""
        said = "" if ok else f", outcome {outcome.name.lower()}"
        return f"line {self.line[row]}: process {self.process[row]}, {text} ({when}{seen}{said})"

    def _part(self, part: Part, ok: bool) -> str:
        key = self.keys[part.key]
        if part.kind == Kind.PUT:
            return f"put {key} = {self.show(part.value)}"
        return f"{part.kind.name.lower()} {key}" + (
            f" -> {self.show(part.value)}" if ok and part.kind == Kind.GET else ""
        )
