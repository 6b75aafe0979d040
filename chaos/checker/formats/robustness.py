"""The report of etcd's own robustness tests: a folder of `client-N/operations.json` and `client-N/watch.json`.

Sources: etcd, tests/robustness: report/client.go (files: JSON objects one after the other), model/types.go and
model/watch.go (fields), model/history.go (what is recorded of an error), client/client.go (watches). The format is
declared unstable; these are of release 3.6 and main. Times are ns since the test's begin, one clock for all clients.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chaos.checker.actions import COMPACTED, FUTURE
from chaos.checker.formats.broken import BrokenLineError
from chaos.checker.formats.elle import objects
from chaos.checker.formats.foreign import Choices, Foreign, Operation

NAME = "etcd-robustness"
CLIENT = "client-"
OPERATIONS, WATCH = "operations.json", "watch.json"
FILES = (OPERATIONS, WATCH)
HASHED = 20
"""A value of so many bytes or more is told as its hash (model.ToValueOrHash)."""
HASH, PLAIN = "fnv32a:", "text:"
DROPPED = ("defragment",)
"""Requests that do nothing to the store."""

ERRORS = {"compacted": COMPACTED, "future rev": FUTURE}
"""Parts of what etcd's errors say (mvcc.ErrCompacted, mvcc.ErrFutureRev) -> the answer in our words."""


def clients(folder: Path) -> list[Path]:
    """Files of all clients, in the order of their numbers."""
    found = [path for path in folder.iterdir() if re.fullmatch(r"client-\d+", path.name) and path.is_dir()]
    found.sort(key=lambda path: int(path.name.removeprefix(CLIENT)))
    return [path / name for path in found for name in FILES if (path / name).is_file()]


def read_report(files: Mapping[str, bytes], choices: Choices) -> Foreign:
    """A history of all clients, with their watches; `files` are by their path in the folder.

    Raises BrokenLineError.
    """
    del choices  # the model is etcd's, and it begins empty
    calls: list[tuple[int, str, int, Operation]] = []
    watch: list[dict[str, Any]] = []
    for name, content in files.items():
        kind = name.rpartition("/")[2]
        at = 1
        try:
            for at, one in objects(content):
                if kind == OPERATIONS:
                    calls += ((op["invoke_ns"], name, at, op) for op in _operation(one))
                else:
                    watch += _watch(one, f"{name}:{at}")
        except BrokenLineError as error:
            raise BrokenLineError(error.line, error.what, file=name) from None
        except KeyError as error:
            raise BrokenLineError(at, f"{error.args[0]} is missing", file=name) from None
        except (TypeError, ValueError, AttributeError) as error:
            raise BrokenLineError(at, f"a field has the wrong type ({error})", file=name) from None
    calls.sort(key=lambda call: call[:3])
    found = Foreign(NAME, "etcd", meta={"base_revision": 1, "closed_world": False}, watch=watch, files=[])
    found.operations = [op for _, _, _, op in calls]
    found.lines = [line for _, _, line, _ in calls]
    found.files = [name for _, name, _, _ in calls]
    return found


def value_of(value: Mapping[str, Any] | None) -> str:
    """A ValueOrHash: long values become their hash, so that those asked with and those answered are one."""
    value = value or {}
    text, hashed = value.get("Value", ""), value.get("Hash", 0)
    if hashed:
        return f"{HASH}{_integer(hashed)}"
    if not isinstance(text, str):
        raise TypeError("Value is not a string")
    if len(text.encode()) >= HASHED:
        return f"{HASH}{fnv32a(text.encode())}"
    return PLAIN + text if text.startswith((HASH, PLAIN)) else text


def fnv32a(data: bytes) -> int:
    """FNV-1a of 32 bits, as Go's hash/fnv.New32a: offset 2166136261, prime 16777619."""
    found = 2166136261
    for byte in data:
        found = (found ^ byte) * 16777619 & 0xFFFFFFFF
    return found


def _integer(number: object) -> int:
    if type(number) is not int:
        raise TypeError(f"{number!r} is not an integer")
    return number


def _operation(one: Mapping[str, Any]) -> Iterator[Operation]:
    """One porcupine.Operation: what was asked, what was answered."""
    asked, answered = one["Input"], one["Output"]
    kind = asked["Type"]
    if kind in DROPPED:
        return
    invoke, ret = _integer(one["Call"]), _integer(one["Return"])
    base: Operation = {"process": _integer(one["ClientId"]), "invoke_ns": invoke, "return_ns": ret, "outcome": "ok"}
    revision = _integer(answered.get("Revision") or 0)
    if any(answered.get(name) for name in ("Error", "Persisted", "PartialResponse")):  # perhaps, and perhaps later
        base |= {"outcome": "unknown", "return_ns": None}
    elif answered.get("ClientError"):
        base |= _refused(kind, str(answered["ClientError"]), invoke, ret)
    elif revision > 0:  # -1: an answer of one member only
        base["revision"] = revision
    ok = base["outcome"] == "ok" and "answer" not in base
    body = {
        "range": _range,
        "txn": _txn,
        "leaseGrant": _lease,
        "leaseRevoke": _lease,
        "compact": _compact,
    }.get(kind)
    if body is None:
        raise ValueError(f"Type is {kind!r}, no request known here")
    yield base | body(asked, answered if ok else None)


def _refused(kind: str, error: str, invoke: int, ret: int) -> Operation:
    """An error that etcd answered: the operation did nothing, and of compaction it tells something."""
    for said, answer in ERRORS.items():
        if said in error and kind in ("range", "txn", "compact"):
            return {"answer": answer, "return_ns": ret}
    return {"outcome": "fail", "return_ns": max(ret, invoke)}


def _range(asked: Mapping[str, Any], answered: Mapping[str, Any] | None) -> Operation:
    wanted = asked["Range"]
    made = _read(wanted, None if answered is None else answered["Range"])
    at = _integer(wanted.get("Revision") or 0)
    if at:
        made["at_revision"] = at
    return made


def _read(wanted: Mapping[str, Any], found: Mapping[str, Any] | None) -> Operation:
    """A read of one key, or of the keys from Start up to End."""
    start, end, limit = wanted["Start"], wanted.get("End") or "", _integer(wanted.get("Limit") or 0)
    kvs = None if found is None else [_kv(kv) for kv in found.get("KVs") or ()]
    if not end:
        if kvs and (len(kvs) > 1 or kvs[0]["key"] != start):
            raise ValueError("a read of one key answers another")
        return {"op": "get", "key": start, **({"value": None} if not kvs else _without_key(kvs[0]))}
    made: Operation = {"op": "range", "key": start, "range_end": end}
    if limit:
        made["limit"] = limit
    if kvs is not None and found is not None:
        made["kvs"] = kvs
        count = _integer(found.get("Count") or 0)
        if limit:
            made |= {"more": count > len(kvs), "count": count}
        elif count != len(kvs):
            raise ValueError(f"Count is {count}, but there are {len(kvs)} KVs")
    return made


def _kv(kv: Mapping[str, Any]) -> dict[str, Any]:
    made = {"key": kv["Key"], "value": value_of(kv.get("Value")), "mod_revision": _integer(kv.get("ModRevision") or 0)}
    if kv.get("Version"):
        made["version"] = _integer(kv["Version"])
    return made


def _without_key(kv: dict[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in kv.items() if name != "key"}


def _txn(asked: Mapping[str, Any], answered: Mapping[str, Any] | None) -> Operation:
    txn = asked["Txn"]
    said = None if answered is None else answered["Txn"]
    failed = bool(said and said.get("Failure"))
    results = list(said.get("Results") or ()) if said else []
    compare = [_condition(one) for one in txn.get("Conditions") or ()]
    yes, no = list(txn.get("OperationsOnSuccess") or ()), list(txn.get("OperationsOnFailure") or ())
    done = no if failed else yes
    if said is not None and len(results) != len(done):
        raise ValueError(f"a txn of {len(done)} operations has {len(results)} results")
    ops = [_part(one, None if failed or said is None else results[n]) for n, one in enumerate(yes)]
    other = [_part(one, results[n] if failed else None) for n, one in enumerate(no)]
    if not compare and len(ops) == 1 and not other and not failed:
        return ops[0]
    made: Operation = {"op": "txn", "ops": ops}
    if compare:
        made["compare"] = compare
    if other:
        made["else"] = other
    if said is not None:
        made["succeeded"] = not failed
    return made


def _condition(one: Mapping[str, Any]) -> dict[str, Any]:
    """The version where one is given, else the mod revision (0: absent), as the model of etcd's tests has it."""
    version, revision = _integer(one.get("ExpectedVersion") or 0), _integer(one.get("ExpectedRevision") or 0)
    return {"key": one["Key"], **({"version": version} if version > 0 else {"mod_revision": revision})}


def _part(one: Mapping[str, Any], result: Mapping[str, Any] | None) -> Operation:
    kind = one["Type"]
    if kind == "put-operation":
        put = one["Put"]
        made: Operation = {"op": "put", "key": put["Key"], "value": value_of(put.get("Value"))}
        if put.get("LeaseID"):
            made["lease"] = str(_integer(put["LeaseID"]))
        return made
    if kind == "delete-operation":
        deleted = {} if result is None else {"deleted": _integer(result.get("Deleted") or 0)}
        return {"op": "delete", "key": one["Delete"]["Key"], **deleted}
    if kind == "range-operation":
        return _read(one["Range"], result)
    raise ValueError(f"Type is {kind!r}, no operation known here")


def _lease(asked: Mapping[str, Any], answered: Mapping[str, Any] | None) -> Operation:
    del answered
    grant = asked["Type"] == "leaseGrant"
    lease = _integer(asked["LeaseGrant" if grant else "LeaseRevoke"].get("LeaseID") or 0)
    if not lease:  # a grant that failed has no id
        return {"op": "lease_grant", "lease": "none", "outcome": "fail"}
    return {"op": "lease_grant" if grant else "lease_revoke", "lease": str(lease)}


def _compact(asked: Mapping[str, Any], answered: Mapping[str, Any] | None) -> Operation:
    del answered
    return {"op": "compact", "compact_revision": _integer(asked["Compact"]["Revision"])}


def _watch(one: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """One WatchOperation as lines of watch.jsonl; the answers of a cut connection end it."""
    asked = one["Request"]
    responses = list(one.get("Responses") or ())
    start = _integer(asked.get("Revision") or 0)
    if not start:
        first = next((response for response in responses), None)
        if first is None:
            return
        # begun at an unknown revision: from the first event on it has to tell everything
        seen = [event["Revision"] for event in first.get("Events") or ()]
        start = _integer(min(seen) if seen else first["Revision"] + 1)
    yield {"watch": name, "event": "created", "key": asked["Key"], "prefix": bool(asked.get("WithPrefix")),
           "start_revision": start}  # fmt: skip
    for response in responses:
        ns = _integer(response.get("Time") or 0)
        if response.get("Error"):
            yield {"watch": name, "event": "canceled", "ns": ns, "error": str(response["Error"])}
            return
        if response.get("IsProgressNotify"):
            yield {"watch": name, "event": "progress", "ns": ns, "revision": _integer(response["Revision"])}
        for event in response.get("Events") or ():
            yield _event(event, asked, name, ns)


def _event(event: Mapping[str, Any], asked: Mapping[str, Any], name: str, ns: int) -> dict[str, Any]:
    revision, kind = _integer(event["Revision"]), event["Type"]
    if kind not in ("put-operation", "delete-operation"):
        raise ValueError(f"Type is {kind!r}, no event known here")
    made: dict[str, Any] = {"watch": name, "ns": ns, "key": event["Key"], "mod_revision": revision}
    made |= (
        {"event": "delete"} if kind == "delete-operation" else {"event": "put", "value": value_of(event.get("Value"))}
    )
    if event.get("IsCreate"):
        made["create_revision"] = revision
    if asked.get("WithPrevKV"):
        before = event.get("PrevValue")
        if before is not None:  # it is also missing where what was before is compacted
            made["prev_value"] = value_of(before.get("Value"))
    return made
