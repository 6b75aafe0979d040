"""Broken input is named with file and line and never becomes a verdict."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from chaos.checker.errors import HistoryError
from chaos.checker.history_reader import from_operations, read_history
from chaos.checker.model import NEVER, Outcome

GOOD: dict[str, Any] = {
    "process": 0,
    "op": "put",
    "key": "x",
    "value": "1",
    "invoke_ns": 10,
    "return_ns": 20,
    "outcome": "ok",
    "revision": 5,
}


BARE = {name: value for name, value in GOOD.items() if name not in ("key", "value")}


def read(*lines: dict[str, Any] | bytes) -> None:
    read_history([line if isinstance(line, bytes) else orjson.dumps(line) for line in lines], "h.jsonl")


BROKEN: dict[str, tuple[dict[str, Any] | bytes, str]] = {
    "truncated line": (orjson.dumps(GOOD)[:-9], "cut off"),
    "empty line": (b"\n", "cut off"),
    "unknown operation": (GOOD | {"op": "putt"}, "'putt' is not an operation"),
    "unknown outcome word": (GOOD | {"outcome": "maybe"}, "'maybe' is not an operation or outcome"),
    "return before invoke": (GOOD | {"return_ns": 9}, "before it is invoked"),
    "no return though ok": (GOOD | {"return_ns": None}, "return_ns is missing"),
    "no process": ({k: v for k, v in GOOD.items() if k != "process"}, "process is missing"),
    "no key": ({k: v for k, v in GOOD.items() if k != "key"}, "key is missing"),
    "time as text": (GOOD | {"invoke_ns": "10"}, "wrong type"),
    "revision as text": (GOOD | {"revision": "5"}, "wrong type"),
    "revision zero": (GOOD | {"revision": 0}, "not between"),
    "mod revision beyond belief": (GOOD | {"op": "get", "mod_revision": 2**50}, "not between"),
    "put of null": (GOOD | {"value": None}, "writes null"),
    "value of a wrong type": (GOOD | {"value": 1.5}, "neither a string"),
    "cas without expect": (GOOD | {"op": "cas", "succeeded": True}, "expect is missing"),
    "cas without succeeded": (GOOD | {"op": "cas", "expect": "0"}, "needs succeeded"),
    "delete of many": (BARE | {"op": "delete", "key": "x", "deleted": 2}, "removes 0 or 1"),
    "txn without ops": (BARE | {"op": "txn"}, "ops is missing"),
    "lease without lease": (BARE | {"op": "lease_grant"}, "lease is missing"),
    "range cut short": (BARE | {"op": "range", "kvs": [], "more": True}, "cut short"),
    "range beyond itself": (BARE | {"op": "range", "key": "a", "kvs": [{"key": "b", "value": "1"}]}, "outside of it"),
    "meta in the middle": ({"meta": {}}, "only be the first line"),
    "neither op nor meta": ({"process": 3}, "op is missing"),
    "a list": (b"[1]", "not an object"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_line_is_named_with_file_and_line(case: str) -> None:
    line, said = BROKEN[case]
    with pytest.raises(HistoryError) as told:
        read(GOOD, line)
    assert told.value.where == "h.jsonl:2"
    assert said in str(told.value)


def test_overlapping_operations_of_one_process_are_named() -> None:
    with pytest.raises(HistoryError, match="still running") as told:
        read(GOOD, GOOD | {"process": 1}, GOOD | {"invoke_ns": 15, "return_ns": 25})
    assert told.value.where == "h.jsonl:3"


def test_a_process_that_goes_on_after_an_unknown_outcome_is_named() -> None:
    with pytest.raises(HistoryError, match="unknown outcome ends its process"):
        read(GOOD | {"outcome": "unknown", "return_ns": None}, GOOD | {"invoke_ns": 30, "return_ns": 40})


def test_a_repeated_value_is_broken_in_a_ledger_alone() -> None:
    twice = (GOOD, GOOD | {"invoke_ns": 30, "return_ns": 40})
    read({"meta": {}}, *twice)
    with pytest.raises(HistoryError, match="already written in line 2") as told:
        read({"meta": {"ledger": True}}, *twice)
    assert told.value.where == "h.jsonl:3"


def test_back_to_back_operations_of_one_process_are_fine() -> None:
    read(GOOD, GOOD | {"invoke_ns": 20, "return_ns": 20})


def test_an_empty_history_is_read() -> None:
    assert len(read_history([], "h.jsonl")) == 0


def test_fields_land_where_they_belong() -> None:
    unknown = GOOD | {"outcome": "unknown", "process": 4, "return_ns": None, "member": "etcd2", "lease": 7}
    history = read_history([orjson.dumps(GOOD), orjson.dumps(unknown)], "h.jsonl")
    assert history.line.tolist() == [1, 2]
    assert history.ret.tolist() == [20, NEVER]
    assert history.outcome.tolist() == [Outcome.OK, Outcome.UNKNOWN]
    assert history.members[history.member[1]] == "etcd2"
    assert history.leases[history.lease[1]] == "7"
    assert history.operation(0) == "line 1: process 0, put x = '1' (10..20 ns, revision 5)"


def test_a_txn_that_did_nothing_needs_no_answers_in_its_parts() -> None:
    txn = BARE | {"op": "txn", "ops": [{"op": "delete", "key": "x"}], "compare": [{"key": "x", "value": "9"}]}
    read(txn | {"succeeded": False})
    with pytest.raises(HistoryError, match="needs its count"):
        read(txn | {"succeeded": True})


def test_operations_that_are_mappings_already_give_the_same_history() -> None:
    read_ = GOOD | {"op": "get", "process": 1, "invoke_ns": 30, "return_ns": 40}
    made = from_operations([GOOD, read_], {"base_revision": 3})
    same = read_history([orjson.dumps({"meta": {"base_revision": 3}}), orjson.dumps(GOOD), orjson.dumps(read_)])
    assert made.meta == same.meta
    assert [made.operation(row).split(":", 1)[1] for row in (0, 1)] == [
        same.operation(row).split(":", 1)[1] for row in (0, 1)
    ]
    with pytest.raises(HistoryError, match="'putt' is not an operation") as told:
        from_operations([GOOD, GOOD | {"op": "putt"}], name="theirs.edn")
    assert told.value.where == "theirs.edn:2"


TXN = BARE | {"op": "txn", "ops": [{"op": "put", "key": "x", "value": "1"}]}
RANGE = BARE | {"op": "range", "key": "", "kvs": []}

NOT_COVERED: dict[str, tuple[dict[str, Any], str]] = {
    "on a put": (GOOD | {"lease_mode": 1}, "lease_mode"),
    "on a get": (GOOD | {"op": "get", "min_mod_revision": 3}, "min_mod_revision"),
    "on a cas": (GOOD | {"op": "cas", "expect": None, "succeeded": True, "prev_kv": None}, "prev_kv"),
    "on a txn": (TXN | {"atomic": True}, "atomic"),
    "on a range": (RANGE | {"sort_order": "descend"}, "sort_order"),
    "on a range, false or null": (RANGE | {"kvs": None, "prev_kvs": []}, "prev_kvs"),
    "on a compare": (TXN | {"compare": [{"key": "x", "value": "1", "range_end": "z"}], "succeeded": True}, "range_end"),
    "on a part": (TXN | {"ops": [{"op": "put", "key": "x", "value": "1", "ttl": 3}]}, "ttl"),
    "on a part of else": (
        TXN | {"else": [{"op": "get", "key": "x", "serializable": True}], "succeeded": True},
        "serializable",
    ),
    "on an answered key": (RANGE | {"kvs": [{"key": "x", "value": "1", "size": 3}]}, "size"),
    "on a compaction": (BARE | {"op": "compact", "compact_revision": 3, "physical": True}, "physical"),
    "on a lease": (BARE | {"op": "lease_ttl", "lease": 7, "keys": ["x"]}, "keys"),
    "in meta": ({"meta": {"closed": True}}, "closed"),
}


@pytest.mark.parametrize("case", NOT_COVERED)
def test_a_field_that_is_not_covered_is_refused_by_its_name(case: str) -> None:
    line, name = NOT_COVERED[case]
    lines = [line] if "meta" in line else [GOOD, line | {"process": 7}]
    with pytest.raises(HistoryError, match=f"field '{name}', which is not covered") as told:
        read(*lines)
    assert told.value.where == f"h.jsonl:{len(lines)}"
    free = orjson.loads(orjson.dumps(lines).replace(f'"{name}"'.encode(), f'"x_{name}"'.encode()))
    read(*free)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "txn inside of a txn": (TXN | {"ops": [{"op": "txn", "ops": []}]}, "txn inside of a txn is not covered"),
    "compare with nothing": (TXN | {"compare": [{"key": "x"}], "succeeded": True}, "needs one of value"),
    "compare of two": (TXN | {"compare": [{"key": "x", "value": "1", "version": 2}], "succeeded": True}, "needs one"),
    "unknown operator": (
        TXN | {"compare": [{"key": "x", "value": "1", "result": "~"}], "succeeded": True},
        "result is",
    ),
    "null less than": (TXN | {"compare": [{"key": "x", "value": None, "result": "<"}], "succeeded": True}, "only be ="),
    "unknown answer": (GOOD | {"op": "get", "answer": "gone"}, "answer is 'gone'"),
    "an error with a revision": (GOOD | {"op": "get", "answer": "future", "at_revision": 9}, "carries no revision"),
    "more than the limit": (RANGE | {"limit": 1, "kvs": [{"key": k, "value": "1"} for k in "ab"]}, "returned 2 keys"),
    "ignored value told": (GOOD | {"ignore_value": True}, "ignore_value has no value"),
    "compaction of nothing": (BARE | {"op": "compact"}, "compact_revision is missing"),
    "two lists of parts": (TXN | {"then": []}, "not both"),
    "count of previous keys": (
        BARE | {"op": "delete", "key": "a", "range_end": "z", "deleted": 2, "prev_kvs": [{"key": "b", "value": "1"}]},
        "previous keys are listed",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_contradicts_itself_or_is_left_out_is_refused(case: str) -> None:
    line, said = REFUSED[case]
    with pytest.raises(HistoryError, match=said) as told:
        read(GOOD, line | {"process": 7})
    assert told.value.where == "h.jsonl:2"


def test_every_field_that_the_recorder_writes_is_read() -> None:
    """What chaos/workload/log.py and Op.as_history write, null fields and all."""
    base = {"process": 0, "member": "etcd1", "invoke_ns": 10, "return_ns": 20, "outcome": "ok", "revision": 5}
    flat = {"key": "x", "value": None, "mod_revision": None}
    failed = {"outcome": "fail", "error": "OUT_OF_RANGE: refused", "revision": None}
    lines = [
        base | flat | {"op": "put", "value": "1", "lease": 7},
        base | flat | {"op": "get", "serializable": True},
        base | flat | {"op": "delete", "deleted": 0},
        base | flat | {"op": "cas", "value": "1", "expect": None, "succeeded": True, "lease": 7},
        base | flat | {"op": "range", "kvs": [{"key": "x", "value": "1", "mod_revision": 5}]},
        base | {"op": "txn", "compare": [{"key": "x", "value": None}], "ops": [{"op": "get", "key": "x"}]} | failed,
        base | {"op": "txn", "compare": [], "ops": [{"op": "delete", "key": "x", "deleted": 0}], "succeeded": True},
        base | {"op": "lease_grant", "lease": 7, "ttl": 9},
        base | {"op": "lease_keepalive", "lease": 7, "ttl": 9, "revision": None},
        base | {"op": "lease_revoke", "lease": 7},
        base
        | flat
        | {"op": "put", "value": "1", "outcome": "unknown", "return_ns": None, "gave_up_ns": 90}
        | {"error": "x"},
    ]
    history = read_history([orjson.dumps(line | {"process": n}) for n, line in enumerate(lines)])
    assert len(history) == len(lines)
    assert not history.actions
