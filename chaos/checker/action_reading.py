"""Lines with more than the columns hold, to actions; what cannot be judged is refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from chaos.checker.actions import (
    COMPACTED,
    FUTURE,
    NOT_FOUND,
    UNTOLD,
    Action,
    Compare,
    Part,
    Put,
    Read,
    Remove,
    Seen,
    Value,
)
from chaos.checker.fields import BOUNDS, COMMON, COMPARE, KV, MORE, PARTS, PLAIN, extra, refusal

BIGGEST = 2**40
"""Revisions from here on are taken for damage: at 10,000 writes a second that is three years."""

RESULTS = {"=": "=", "equal": "=", "!=": "!=", "not_equal": "!=", "<": "<", "less": "<", ">": ">", "greater": ">"}
TARGETS = ("value", "mod_revision", "create_revision", "version", "lease")
ALIASES = {"mod": "mod_revision", "create": "create_revision"}
NUMBERS = ("mod_revision", "create_revision", "version")
ANSWERS = {
    "put": (NOT_FOUND,),
    "get": (COMPACTED, FUTURE),
    "range": (COMPACTED, FUTURE),
    "txn": (COMPACTED, FUTURE, NOT_FOUND),
    "compact": (COMPACTED, FUTURE),
    "lease_revoke": (NOT_FOUND,),
    "lease_keepalive": (NOT_FOUND,),
    "lease_ttl": (NOT_FOUND,),
}


class Broken(Exception):  # noqa: N818 - becomes a HistoryError with file and line
    """What is wrong with one line."""


def refuse(where: str, name: str) -> NoReturn:
    """A field that is not covered."""
    raise Broken(refusal(where, name))


def only(line: Mapping[str, object], known: Iterable[str], where: str) -> None:
    """Refuse whatever else is asked for."""
    names = extra(line, known)
    if names:
        refuse(where, names[0])


def prefix_end(prefix: str) -> str:
    """First key after all that begin with `prefix` (etcd's clientv3.GetPrefixRangeEnd, here by code point)."""
    if not prefix:
        return "\0"
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def value_of(thing: object) -> Value:
    """A value, checked."""
    if thing is not None and type(thing) is not str and type(thing) is not int:
        raise Broken(f"value {thing!r} is neither a string, nor an integer, nor null")
    return thing


def _text(thing: object, name: str) -> str:
    if type(thing) is not str:
        raise Broken(f"{name} is not a string")
    return thing


def _number(line: Mapping[str, Any], name: str) -> int | None:
    number = line.get(name)
    if number is None:
        return None
    if type(number) is not int or not 0 <= number < BIGGEST:
        raise Broken(f"{name} is {number!r}, not a number from 0 to 2^40")
    return number


def _flag(line: Mapping[str, Any], name: str) -> bool | None:
    flag = line.get(name)
    if flag is not None and type(flag) is not bool:
        raise Broken(f"{name} is neither true nor false")
    return flag


def _lease(thing: object) -> str:
    return str(thing) if thing else ""


def action_of(op: dict[str, Any], *, ok: bool) -> Action:
    """The exact form of a line; what it answers counts only when it was acknowledged (`ok`). Raises Broken."""
    kind = op["op"]
    only(op, COMMON | PLAIN.get(kind, frozenset()) | MORE[kind], f"this {kind}")
    answer = op.get("answer") or ""
    if answer and answer not in ANSWERS[kind]:
        raise Broken(f"answer is {answer!r}; a {kind} may have {' or '.join(ANSWERS[kind])}")
    if answer and not ok:
        raise Broken("answer is for what etcd answered; then the outcome is ok")
    if answer and op.get("revision") is not None and kind not in ("lease_keepalive", "lease_ttl"):
        raise Broken("an error for an answer carries no revision")
    told = ok and not answer
    if kind == "txn":
        return _txn(op, answer, told=told)
    if kind == "compact":
        at = _number(op, "compact_revision")
        if not at:
            raise Broken("compact_revision is missing")
        return Action(kind=kind, compact=at, answer=answer)
    if kind == "cas":
        guard = Compare(_text(op["key"], "key"), "value", "=", value_of(op["expect"]))
        put = Put(guard.key, value_of(op["value"]), _lease(op.get("lease")))
        return Action((guard,), (put,), succeeded=_flag(op, "succeeded") if told else None, kind=kind)
    if kind.startswith("lease_"):
        lease = _lease(op["lease"])
        grant, revoke = kind == "lease_grant", kind == "lease_revoke"
        return Action(kind=kind, grant=lease if grant else "", revoke=lease if revoke else "", answer=answer)
    return Action(then=(part_of(op, told=told),), answer=answer, kind=kind)


def _txn(op: dict[str, Any], answer: str, *, told: bool) -> Action:
    if "then" in op and "ops" in op:
        raise Broken("a txn has ops or then, which are the same, not both")
    compares = tuple(_compare(one) for one in op.get("compare") or ())
    succeeded = _flag(op, "succeeded") if told else None
    if told and succeeded is None:
        if compares:
            raise Broken("an acknowledged txn with compare needs succeeded, true or false")
        succeeded = True
    if told and not compares and not succeeded:
        raise Broken("a txn without compare cannot have succeeded false")
    then = op["then"] if "then" in op else op["ops"]
    done, other = (
        tuple(_inner(one, told=told and succeeded is which) for one in parts)
        for parts, which in ((then, True), (op.get("else") or (), False))
    )
    return Action(compares, done, other, succeeded, answer, kind="txn")


def _inner(part: dict[str, Any], *, told: bool) -> Part:
    kind = part["op"]
    if kind == "txn":
        raise Broken("a txn inside of a txn is not covered")
    if kind not in ("put", "get", "delete", "range"):
        raise Broken(f"a txn cannot hold a {kind}")
    known = (PARTS.get(kind) or PLAIN["range"] - {"serializable"} | {"op"}) | (MORE[kind] - {"answer"})
    only(part, known, f"a {kind} in a txn")
    return part_of(part, told=told)


def _compare(one: dict[str, Any]) -> Compare:
    only(one, COMPARE, "a compare")
    key, result = _text(one["key"], "key"), one.get("result") or "="
    if result not in RESULTS:
        raise Broken(f"result is {result!r}; a compare may have =, !=, < or >")
    target = one.get("target")
    target = ALIASES.get(target, target) if type(target) is str else None
    named = [name for name in TARGETS if name in one]
    if target is None and len(named) == 1:
        target = named[0]
    if target not in TARGETS or named != [target]:
        raise Broken("a compare needs one of value, mod_revision, create_revision, version and lease")
    if target == "value":
        operand = value_of(one["value"])
        if operand is None and RESULTS[result] in ("<", ">"):
            raise Broken("a compare with null can only be = or !=")
    elif target == "lease":
        operand = _lease(one["lease"])
        if RESULTS[result] in ("<", ">"):
            operand = one["lease"]
            if type(operand) is not int:
                raise Broken("a lease compared by < or > is not an integer")
    else:
        operand = _number(one, target)
        if operand is None:
            raise Broken(f"a compare of {target} with null")
    return Compare(key, target, RESULTS[result], operand)


def part_of(part: dict[str, Any], *, told: bool) -> Part:
    """A put, get, range or delete, alone or in a transaction; its answer only when it gave one (`told`)."""
    kind = part["op"]
    if kind == "put":
        return _put(part, told=told)
    if kind == "delete":
        return _remove(part, told=told)
    return _read(part, told=told)


def _put(part: dict[str, Any], *, told: bool) -> Put:
    ignore = bool(_flag(part, "ignore_value"))
    value = value_of(part.get("value"))
    if ignore != (value is None):
        raise Broken("it writes null" if not ignore else "a put with ignore_value has no value")
    lease, keep = _lease(part.get("lease")), bool(_flag(part, "ignore_lease"))
    if lease and keep:
        raise Broken("a put with ignore_lease has no lease")
    previous = _previous(part) if told else None
    return Put(_text(part["key"], "key"), value, lease, ignore, keep, previous)


def _previous(part: dict[str, Any]) -> Seen | None:
    key = part["key"]
    if "prev_kv" in part and "prev_value" in part:
        raise Broken("prev_kv and prev_value are the same; one is enough")
    if "prev_kv" in part:
        kv = part["prev_kv"]
        return Seen(key, None) if kv is None else _seen({"key": key} | kv)
    return Seen(key, value_of(part["prev_value"])) if "prev_value" in part else None


def _seen(kv: dict[str, Any]) -> Seen:
    only(kv, KV, "an answered key")
    value: Any = value_of(kv["value"]) if "value" in kv else UNTOLD
    if value is None:
        raise Broken("an answered key has the value null")
    mod, create, version = _facts(kv)
    lease = kv.get("lease")
    return Seen(_text(kv["key"], "key"), value, mod, create, version, None if lease is None else _lease(lease))


def _facts(kv: Mapping[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Mod revision, create revision and version of a key that is there; a mod revision of 0 is none told."""
    mod, create, version = (_number(kv, name) for name in NUMBERS)
    if create == 0 or version == 0:
        raise Broken("create_revision or version is 0 of a key that is there")
    return mod or None, create, version


def _end(part: dict[str, Any], *, prefix: bool) -> str | None:
    end = part.get("range_end")
    if end is not None:
        return _text(end, "range_end")
    return prefix_end(part.get("key") or "") if prefix else None


def _remove(part: dict[str, Any], *, told: bool) -> Remove:
    key, end = _text(part["key"], "key"), _end(part, prefix=bool(_flag(part, "prefix")))
    if not told:
        return Remove(key, end)
    deleted, previous = _number(part, "deleted"), None
    if part.get("prev_kvs") is not None:
        previous = tuple(_seen(kv) for kv in part["prev_kvs"])
    elif "prev_kv" in part or "prev_value" in part:
        if end is not None:
            raise Broken("a delete of a range answers prev_kvs")
        one = _previous(part)
        previous = () if one is None or one.value is None else (one,)
    if previous is not None:
        _listed(previous, key, end)
        if deleted is not None and deleted != len(previous):
            raise Broken(f"deleted is {deleted}, and {len(previous)} previous keys are listed")
        deleted = len(previous)
    if deleted is None:
        raise Broken("a delete with a revision needs its count, deleted")
    if end is None and deleted > 1:
        raise Broken(f"deleted is {deleted}; a delete of one key removes 0 or 1")
    return Remove(key, end, deleted, previous)


def _listed(kvs: tuple[Seen, ...], key: str, end: str | None) -> None:
    names = [kv.key for kv in kvs]
    if len(set(names)) != len(names) or not all(covers(key, end, name) for name in names):
        raise Broken("a range returned a key twice, or one outside of it")


def covers(key: str, end: str | None, name: str) -> bool:
    """Whether a range has this key; an end of NUL means every key from the first (etcd's convention)."""
    return name == key if end is None else key <= name and (end == "\0" or name < end)


def _read(part: dict[str, Any], *, told: bool) -> Read:
    single = part["op"] == "get"
    key = _text(part["key"] if single else part.get("key") or "", "key")
    at, keys_only = _number(part, "at_revision") or 0, bool(_flag(part, "keys_only"))
    if single:
        return Read(key, at=at, kvs=_got(part, key, keys_only=keys_only) if told else None)
    end = _end(part, prefix=True)
    low_mod, high_mod, low_create, high_create = (_number(part, name) or 0 for name in BOUNDS)
    limit, count_only = _number(part, "limit") or 0, bool(_flag(part, "count_only"))
    asked = Read(key, end, at, limit, count_only, (low_mod, high_mod, low_create, high_create))
    if not told:
        return asked
    kvs, count, more = part.get("kvs"), _number(part, "count"), _flag(part, "more")
    found = None
    if kvs is not None:
        if keys_only:
            kvs = [{name: value for name, value in kv.items() if name != "value"} for kv in kvs]
        found = tuple(_seen(kv) for kv in kvs)
        _listed(found, key, end)
        if count_only and found:
            raise Broken("a range with count_only returned keys")
        if limit and len(found) > limit:
            raise Broken(f"a range with the limit {limit} returned {len(found)} keys")
        if more and not limit:
            raise Broken("a range that was cut short by a limit which is not there cannot be checked")
    return Read(key, end, at, limit, count_only, asked.bounds, None if count_only else found, count, more)


def _got(part: dict[str, Any], key: str, *, keys_only: bool) -> tuple[Seen, ...]:
    """What a get of one key returned: a key without value, or with null, is absent."""
    value = value_of(part.get("value"))
    if value is None if not keys_only else not part.get("mod_revision"):
        return ()
    return (Seen(key, UNTOLD if keys_only else value, *_facts(part)),)
