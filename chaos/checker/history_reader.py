"""Lines of JSON to a History, or a HistoryError with file and line: broken input never becomes a verdict.

The fields are those of the history contract (docs/checker.md has them all). The loop over a million lines is the
dearest part of a check, so the common operations touch each field once and the rest is checked on whole columns.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from chaos.checker.action_reading import BIGGEST, Broken, action_of, only, prefix_end
from chaos.checker.actions import Action
from chaos.checker.errors import HistoryError
from chaos.checker.fields import COMMON, KV, META, MORE, PARTS, PLAIN, extra
from chaos.checker.model import NEVER, NONE, Found, History, Kind, Meta, Outcome, Part, Txn
from chaos.checker.relaxed import Numbers, Relaxed, Values

__all__ = ["NEXT", "Reader", "from_operations", "prefix_end", "read_history"]

KINDS = {name: int(Kind[name.upper()]) if name in PLAIN else int(Kind.OTHER) for name in MORE}
OUTCOMES = {outcome.name.lower(): int(outcome) for outcome in Outcome}
NEXT = "Record it again, or cut the file before that line."


SINGLE, READ, REMOVAL, SWAP, UNKNOWN = 3, int(Kind.GET), int(Kind.DELETE), int(Kind.CAS), int(Outcome.UNKNOWN)
"""Plain numbers for the loop over a million lines; kinds up to SINGLE are of one key."""


def _missing(name: object) -> str:
    """What a KeyError means here."""
    if name in ("op", "outcome", "process", "key", "expect", "invoke_ns", "lease", "ops"):
        return f"{name} is missing"
    return f"{name!r} is not an operation or outcome known here"


def _revision(revision: int) -> int:
    if not 0 < revision < BIGGEST:
        raise Broken(f"revision {revision} is not between 1 and 2^40")
    return revision


class Reader:
    """Collects operations line by line; `history` checks the whole and gives it out."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.meta = Meta()
        self.initial: dict[int, int] = {}
        self.keys, self.members, self.leases = Numbers(), Numbers(), Numbers()
        self.values = Values(first=0)
        self.values[None] = 0
        self.txns: dict[int, Txn] = {}
        self.ranges: dict[int, Found] = {}
        self.flat = array("q")
        self.rows = 0
        self.shapes: dict[tuple[Any, ...], bool] = {}
        """Whether an operation with just these fields, in this order, is certainly one of the columns' own."""
        self.actions: dict[int, Action] = {}
        self.relaxed = Relaxed(self.keys, self.values, self.leases)
        self.facts: dict[int, dict[str, int | str]] = {}

    def read(self, lines: Iterable[bytes]) -> None:
        """Take in all lines.

        Raises HistoryError at the first broken one.
        """
        number = 0
        loads, extend, operation = orjson.loads, self.flat.extend, self._operation
        try:
            for number, line in enumerate(lines, 1):
                op = loads(line)
                if "op" in op:
                    extend(operation(op, number))
                    self.rows += 1
                else:
                    self._meta(op, number)
        except orjson.JSONDecodeError as error:
            raise self._error(number, f"this line is not JSON, or was cut off ({error})") from None
        except Broken as error:
            raise self._error(number, str(error)) from None
        except KeyError as error:
            raise self._error(number, _missing(error.args[0])) from None
        except (TypeError, AttributeError, OverflowError, ValueError) as error:
            raise self._error(number, f"a field has the wrong type or size ({error})") from None

    def take(self, operations: Iterable[Mapping[str, object]], meta: Mapping[str, object] | None) -> None:
        """Take in operations that are mappings already.

        Raises HistoryError at the first broken one.
        """
        number = 0
        try:
            if meta is not None:
                self._meta({"meta": dict(meta)}, 1)
            for number, op in enumerate(operations, 1):
                self.flat.extend(self._operation(dict(op), number))
                self.rows += 1
        except Broken as error:
            raise self._error(number, str(error)) from None
        except KeyError as error:
            raise self._error(number, _missing(error.args[0])) from None
        except (TypeError, AttributeError, OverflowError, ValueError) as error:
            raise self._error(number, f"a field has the wrong type or size ({error})") from None

    def _operation(self, op: dict[str, Any], number: int) -> tuple[int, ...]:
        """One operation as a row of numbers, in the order of History's columns."""
        get = op.get
        kind, outcome = KINDS[op["op"]], OUTCOMES[op["outcome"]]
        invoke, ret = op["invoke_ns"], get("return_ns")
        if outcome == UNKNOWN:
            ret = NEVER
        elif ret is None:
            raise Broken("return_ns is missing though the outcome is known")
        elif ret < invoke:
            raise Broken(f"it returns ({ret}) before it is invoked ({invoke})")
        shape = (kind, *op)
        plain = self.shapes.get(shape)
        if plain is None:
            plain = kind <= SINGLE and not set(op) - COMMON - PLAIN[op["op"]]
            self.shapes[shape] = plain
        revision, mod = get("revision"), get("mod_revision")
        expect = 0
        if not plain and self._odd(op):
            kind, key, value, count, mod = self._exact(op, outcome)
            revision = None if op["op"] == "lease_ttl" else revision
        elif kind <= SINGLE:
            key = op["key"]
            if type(key) is not str:
                raise Broken("key is not a string")
            key, value, count = self.keys[key], self.values[get("value")], NONE
            if kind != READ:
                if value == 0 and kind != REMOVAL:
                    raise Broken("it writes null")
                if kind == SWAP:
                    expect = self.values[op["expect"]]
                if outcome == 0:
                    count = self._count(kind, op)
        else:
            key, value, count = self._complex(Kind(kind), op, outcome)
        member, lease = get("member"), get("lease")
        return (
            number,
            op["process"],
            kind,
            key,
            value,
            expect,
            invoke,
            ret,
            outcome,
            NONE if revision is None else _revision(revision),
            NONE if mod is None else mod,
            count,
            NONE if member is None else self.members[member],
            self.leases[str(lease)] if lease else NONE,
            1 if get("serializable") else 0,
        )

    @staticmethod
    def _odd(op: dict[str, Any]) -> bool:
        """Whether the columns do not hold all that it asks and answers."""
        kind = op["op"]
        if kind not in PLAIN or extra(op, COMMON | PLAIN[kind]):
            return True
        if kind == "txn":
            parts = op["ops"]
            return any(one.get("op") not in PARTS or bool(extra(one, PARTS[one["op"]])) for one in parts) or not all(
                "value" in one and not extra(one, ("key", "value")) for one in op.get("compare") or ()
            )
        if kind == "range":
            kvs = op.get("kvs") or ()
            return not all("value" in kv and not extra(kv, ("key", "value", "mod_revision")) for kv in kvs)
        return False

    def _exact(self, op: dict[str, Any], outcome: int) -> tuple[int, int, int, int, int | None]:
        """Keep an operation's exact form; its row (kind, key, value, count, mod) says no more than follows from it."""
        self.actions[self.rows] = action = action_of(op, ok=outcome == Outcome.OK)
        row = self.relaxed.row(action, op, outcome)
        if row.parts is not None:
            self.txns[self.rows] = Txn((), row.parts)
        return int(row.kind), row.key, row.value, row.told, row.mod

    def _error(self, number: int, what: str) -> HistoryError:
        return HistoryError(f"Broken history: {what}", where=f"{self.name}:{number}", next=NEXT)

    def _meta(self, line: dict[str, Any], number: int) -> None:
        if type(line) is not dict:
            raise Broken("this line is not an object")
        if "meta" not in line:
            raise Broken("op is missing")
        if number != 1:
            raise Broken("meta may only be the first line")
        meta = line["meta"]
        only(meta, META, "meta")
        by = meta.get("leases_gone_by_ns")
        if by is not None and type(by) is not int:
            raise Broken("leases_gone_by_ns is not an integer")
        base, initial = meta.get("base_revision"), meta.get("initial") or {}
        if base is not None and (type(base) is not int or base < 1):
            raise Broken("base_revision is not a positive integer")
        for key, value in initial.items():
            if value is not None:
                self.initial[self.keys[key]] = self.values[self._initial(key, value)]
        self.meta = Meta(
            1 if base is None else base,
            bool(meta.get("closed_world", False)),
            bool(meta.get("ledger", False)),
            base is not None or not self.initial,
            leases_gone_by_ns=by,
            etcd_version=str(meta.get("etcd_version") or ""),
        )

    def _initial(self, key: str, value: Any) -> Any:  # noqa: ANN401 - of JSON
        """The value of an initial key, which may be told with the rest of what it holds."""
        if type(value) is not dict:
            return value
        only(value, KV - {"key"}, "an initial key")
        facts = {name: fact for name, fact in value.items() if name in KV and name != "value" and fact is not None}
        if any(name != "lease" and (type(fact) is not int or fact < 1) for name, fact in facts.items()):
            raise Broken("mod_revision, create_revision or version of an initial key is not a positive integer")
        self.facts[self.keys[key]] = facts
        return value["value"]

    @staticmethod
    def _count(kind: int, op: dict[str, Any]) -> int:
        """Deleted of a delete, succeeded of a cas; both are needed to know what an acknowledged operation did."""
        if kind == Kind.DELETE:
            deleted = op.get("deleted")
            if deleted is None:
                if op.get("revision") is not None:
                    raise Broken("a delete with a revision needs its count, deleted")
                return NONE
            if type(deleted) is not int or not 0 <= deleted <= 1:
                raise Broken(f"deleted is {deleted!r}; a delete of one key removes 0 or 1")
            return deleted
        if kind == Kind.CAS:
            if type(op.get("succeeded")) is not bool:
                raise Broken("an acknowledged cas needs succeeded, true or false")
            return int(op["succeeded"])
        return NONE

    def _complex(self, kind: Kind, op: dict[str, Any], outcome: int) -> tuple[int, int, int]:
        """Side tables of txn, range and lease operations: key, value and count columns."""
        if kind == Kind.TXN:
            compare = tuple((self.keys[one["key"]], self.values[one.get("value")]) for one in op.get("compare") or ())
            succeeded = op.get("succeeded", not compare or None) if outcome == Outcome.OK else True
            # of a txn that did nothing, the parts have no answers
            answered = outcome == Outcome.OK and succeeded
            parts = tuple(self._part(part, Outcome.OK if answered else Outcome.UNKNOWN) for part in op["ops"])
            if type(succeeded) is not bool:
                raise Broken("an acknowledged txn with compare needs succeeded, true or false")
            if not succeeded and not compare:
                raise Broken("a txn without compare cannot have succeeded false")
            self.txns[self.rows] = Txn(compare, parts)
            return NONE, 0, int(succeeded)
        if kind == Kind.RANGE:
            start = op.get("key") or ""
            if outcome == Outcome.OK and op.get("kvs") is not None:
                self.ranges[self.rows] = self._found(start, op)
            return self.keys[start], 0, NONE
        if not op["lease"]:
            raise Broken("a lease operation needs its lease")
        ttl = op.get("ttl")
        return NONE, 0, NONE if ttl is None else ttl

    def _found(self, start: str, op: dict[str, Any]) -> Found:
        """What a range returned; one without kvs tells no more than its revision."""
        end, names = op.get("range_end"), [kv["key"] for kv in op["kvs"]]
        found = {self.keys[kv["key"]]: (self.values[kv["value"]], kv.get("mod_revision") or NONE) for kv in op["kvs"]}
        result = Found(start, prefix_end(start) if end is None else end, found)
        if len(found) != len(names) or not all(map(result.covers, names)):
            raise Broken("a range returned a key twice, or one outside of it")
        if op.get("more"):
            raise Broken("a range that was cut short by a limit cannot be checked")
        return result

    def _part(self, part: dict[str, Any], outcome: int) -> Part:
        kind = Kind(KINDS[part["op"]])
        key, value = self.keys[part["key"]], self.values[part.get("value")]
        if kind not in (Kind.PUT, Kind.GET, Kind.DELETE):
            raise Broken(f"a txn cannot hold a {part['op']}")
        if kind == Kind.PUT and value == 0:
            raise Broken("it writes null")
        deleted = NONE
        if kind == Kind.DELETE and outcome == Outcome.OK:
            deleted = self._count(Kind.DELETE, {"revision": 0, **part})
        lease = part.get("lease")
        return Part(
            kind, key, value, part.get("mod_revision") or NONE, deleted, NONE if not lease else self.leases[str(lease)]
        )

    def history(self) -> History:
        """All that was read.

        Raises HistoryError for what only the whole shows: overlapping operations of one process, a repeated value in a
        ledger, a revision below the base.
        """
        flat = np.frombuffer(self.flat, dtype=np.int64).reshape(-1, 15) if self.flat else np.zeros((0, 15), np.int64)
        columns = [np.ascontiguousarray(flat[:, n]) for n in range(15)]
        del flat
        self.flat = array("q")
        kind, value, mod = columns[2], columns[4], columns[10]
        big = np.flatnonzero((mod >= BIGGEST) | (mod < NONE))
        if len(big):
            raise self._error(int(columns[0][big[0]]), "mod_revision is not between 1 and 2^40")
        mod[(mod == 0) | ((kind == Kind.GET) & (value == 0))] = NONE  # an absent key has none
        names = (
            "line",
            "process",
            "kind",
            "key",
            "value",
            "expect",
            "invoke",
            "ret",
            "outcome",
            "revision",
            "mod",
            "count",
            "member",
            "lease",
        )
        history = History(
            name=self.name,
            meta=self.meta,
            keys=list(self.keys),
            values=list(self.values),
            initial=self.initial,
            **dict(zip(names, columns, strict=False)),
            serializable=columns[14] != 0,
            members=list(map(str, self.members)),
            leases=list(self.leases),
            txns=self.txns,
            ranges=self.ranges,
            actions=self.actions,
            vague=self.relaxed.vague,
            facts=self.facts,
        )
        self._overlaps(history)
        if self.meta.ledger:
            self._repeats(history)
        return history

    def _overlaps(self, history: History) -> None:
        order = np.lexsort((history.ret, history.invoke, history.process))
        process, invoke, ret = history.process[order], history.invoke[order], history.ret[order]
        bad = np.flatnonzero((process[1:] == process[:-1]) & (invoke[1:] < ret[:-1]))
        if len(bad):
            first, second = order[bad[0]], order[bad[0] + 1]
            raise self._error(
                int(history.line[second]),
                f"process {history.process[second]} invokes an operation while that of line {history.line[first]} "
                "is still running (an unknown outcome ends its process)",
            )

    def _repeats(self, history: History) -> None:
        seen: dict[tuple[int, int], int] = {}
        for row in np.flatnonzero(history.kind == Kind.PUT).tolist():
            one = (int(history.key[row]), int(history.value[row]))
            if one in seen:
                raise self._error(
                    int(history.line[row]),
                    f"the ledger value {history.show(one[1])} of key {history.keys[one[0]]} was already written in "
                    f"line {history.line[seen[one]]}",
                )
            seen[one] = row


def read_history(lines: Iterable[bytes], name: str = "history") -> History:
    """A History from lines of JSON; `name` is used in errors.

    Raises HistoryError with file and line for broken input.
    """
    reader = Reader(name)
    reader.read(lines)
    return reader.history()


def from_operations(
    operations: Iterable[Mapping[str, object]], meta: Mapping[str, object] | None = None, *, name: str = "history"
) -> History:
    """A History from operations that are not lines of a file, each with the fields of a line (docs/checker.md).

    `meta` has the fields of a first line's `meta`. Operations count from line 1 in what is said of them.

    Raises HistoryError, with `name` and the operation's number, for a field that is broken or not covered.
    """
    reader = Reader(name)
    reader.take(operations, meta)
    return reader.history()
