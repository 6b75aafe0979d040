"""Broken input is named with file and line and never becomes a verdict."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from chaos.checker.model import NEVER, Outcome
from chaos.checker.reading import from_operations, read_history
from machine.errors import UsageError

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
    with pytest.raises(UsageError) as told:
        read(GOOD, line)
    assert told.value.where == "h.jsonl:2"
    assert said in str(told.value)
    assert told.value.exit_code == 2


def test_overlapping_operations_of_one_process_are_named() -> None:
    with pytest.raises(UsageError, match="still running") as told:
        read(GOOD, GOOD | {"process": 1}, GOOD | {"invoke_ns": 15, "return_ns": 25})
    assert told.value.where == "h.jsonl:3"


def test_a_process_that_goes_on_after_an_unknown_outcome_is_named() -> None:
    with pytest.raises(UsageError, match="unknown outcome ends its process"):
        read(GOOD | {"outcome": "unknown", "return_ns": None}, GOOD | {"invoke_ns": 30, "return_ns": 40})


def test_a_repeated_value_is_broken_in_a_ledger_alone() -> None:
    twice = (GOOD, GOOD | {"invoke_ns": 30, "return_ns": 40})
    read({"meta": {}}, *twice)
    with pytest.raises(UsageError, match="already written in line 2") as told:
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
    with pytest.raises(UsageError, match="needs its count"):
        read(txn | {"succeeded": True})


def test_operations_that_are_mappings_already_give_the_same_history() -> None:
    read_ = GOOD | {"op": "get", "process": 1, "invoke_ns": 30, "return_ns": 40}
    made = from_operations([GOOD, read_], {"base_revision": 3})
    same = read_history([orjson.dumps({"meta": {"base_revision": 3}}), orjson.dumps(GOOD), orjson.dumps(read_)])
    assert made.meta == same.meta
    assert [made.operation(row).split(":", 1)[1] for row in (0, 1)] == [
        same.operation(row).split(":", 1)[1] for row in (0, 1)
    ]
    with pytest.raises(UsageError, match="'putt' is not an operation") as told:
        from_operations([GOOD, GOOD | {"op": "putt"}], name="theirs.edn")
    assert told.value.where == "theirs.edn:2"
