"""Operations of etcd's whole KV API in their exact form, as the machine of `store` does them.

The columns of a History hold what is common; an operation that asks or answers more has an Action besides, and its row
says no more than follows from it. Keys and values are as in the file, not numbered.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

Value = str | int | None


class Untold(Enum):
    """A field that an answer does not have."""

    UNTOLD = "untold"


UNTOLD = Untold.UNTOLD

COMPACTED, FUTURE, NOT_FOUND = "compacted", "future", "not_found"
"""Answers of etcd by which nothing was done: mvcc's ErrCompacted and ErrFutureRev, lease and key not found
(E server/storage/mvcc/kv.go, api/v3rpc/rpctypes/error.go)."""


class Seen(NamedTuple):
    """A key as an answer tells of it; None or UNTOLD: not told. A lease of "" is none."""

    key: str
    value: Value | Untold = UNTOLD
    mod: int | None = None
    create: int | None = None
    version: int | None = None
    lease: str | None = None


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition of a transaction. `operand` of a value may be None: the key is absent."""

    key: str
    target: str
    """value, mod_revision, create_revision, version or lease."""
    result: str
    """=, !=, < or >."""
    operand: Value

    def text(self) -> str:
        """For a person."""
        shown = "nothing" if self.operand is None else repr(self.operand)
        return f"{self.target} of {self.key} {self.result} {shown}"


@dataclass(frozen=True, slots=True)
class Put:
    """`previous`: None: it was not told; a Seen of an absent key has the value None."""

    key: str
    value: Value
    lease: str = ""
    ignore_value: bool = False
    ignore_lease: bool = False
    previous: Seen | None = None

    def text(self) -> str:
        """For a person."""
        return f"put {self.key}" + ("" if self.ignore_value else f" = {self.value!r}")


@dataclass(frozen=True, slots=True)
class Read:
    """A get or a range; `end` None: the one key. `kvs` None: nothing told of them."""

    key: str
    end: str | None = None
    at: int = 0
    limit: int = 0
    count_only: bool = False
    bounds: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Least and greatest mod revision, least and greatest create revision; 0: none."""
    kvs: tuple[Seen, ...] | None = None
    count: int | None = None
    more: bool | None = None

    def text(self) -> str:
        """For a person."""
        what = f"get {self.key}" if self.end is None else f"range {self.key}"
        got = "" if self.kvs is None else f" -> {shown(self.kvs)}"
        return what + (f" at revision {self.at}" if self.at else "") + got


@dataclass(frozen=True, slots=True)
class Remove:
    """A delete of a key or a range."""

    key: str
    end: str | None = None
    deleted: int | None = None
    previous: tuple[Seen, ...] | None = None

    def text(self) -> str:
        """For a person."""
        what = f"delete {self.key}" + ("" if self.end is None else f" to {self.end!r}")
        return what + ("" if self.deleted is None else f" -> {self.deleted} deleted")


Part = Put | Read | Remove


@dataclass(frozen=True, slots=True)
class Action:
    """One operation. Of a single put, read or delete `then` is that one, without `compares`."""

    compares: tuple[Compare, ...] = ()
    then: tuple[Part, ...] = ()
    orelse: tuple[Part, ...] = ()
    succeeded: bool | None = None
    """None: not known (an unknown outcome, or an error for an answer)."""
    answer: str = ""
    """Empty, or why etcd did nothing."""
    compact: int = 0
    grant: str = ""
    revoke: str = ""
    kind: str = ""
    """The line's `op`."""

    def branch(self) -> tuple[Part, ...]:
        """What was done, as far as is known."""
        return self.orelse if self.succeeded is False else self.then

    @property
    def writes(self) -> bool:
        """Whether it may change the store."""
        return bool(self.revoke) or any(not isinstance(part, Read) for part in (*self.then, *self.orelse))

    def text(self) -> str:
        """For a person."""
        if self.answer:
            done = f" -> {self.answer.replace('_', ' ')}"
        elif self.succeeded is None or not self.compares:
            done = ""
        else:
            done = " -> succeeded" if self.succeeded else " -> did not succeed"
        if self.compact:
            return f"compact {self.compact}{done}"
        if self.grant or self.revoke or not (self.then or self.orelse or self.compares):
            return f"{self.kind} {self.grant or self.revoke}".rstrip() + done
        if self.kind != "txn" and len(self.then) == 1:
            return self.then[0].text() + done
        guard = " and ".join(one.text() for one in self.compares)
        parts = "; ".join(part.text() for part in self.then)
        other = f" else [{'; '.join(part.text() for part in self.orelse)}]" if self.orelse else ""
        return f"txn {'if ' + guard + ' ' if guard else ''}[{parts}]{other}{done}"


def shown(kvs: tuple[Seen, ...]) -> str:
    """Keys and values of an answer."""
    told = (one.key if one.value is UNTOLD else f"{one.key}={one.value!r}" for one in kvs)
    return f"[{', '.join(told)}]"
