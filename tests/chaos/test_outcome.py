"""Outcome of an operation: what may have happened is never called a failure."""

from __future__ import annotations

import pytest

from chaos.workload.outcome import classify, parse_op


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("DEADLINE_EXCEEDED", "Deadline Exceeded"),
        ("UNAVAILABLE", "etcdserver: leader changed"),
        ("UNAVAILABLE", "etcdserver: request timed out, possibly due to previous leader failure"),
        ("UNAVAILABLE", "etcdserver: no leader"),
        ("UNAVAILABLE", "Socket closed"),
        ("UNAVAILABLE", "keepalive watchdog timeout"),
        ("UNKNOWN", "Stream removed"),
        ("CANCELLED", ""),
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded"),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (5000000 vs. 4194304)"),
        ("INTERNAL", "whatever"),
    ],
)
def test_what_may_have_reached_a_leader_is_unknown(code: str, text: str) -> None:
    assert classify(code, text) == "unknown"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused",
        ),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted"),
        ("INVALID_ARGUMENT", "etcdserver: key is not provided"),
        ("RESOURCE_EXHAUSTED", "etcdserver: too many requests"),
    ],
)
def test_what_was_refused_before_it_could_happen_failed(code: str, text: str) -> None:
    assert classify(code, text) == "fail"


def line(**more: object) -> dict[str, object]:
    return {"op": "get", "key": "k", "value": None, "invoke_ns": 5, "return_ns": 9, "code": "OK"} | more


def test_an_absent_key_reads_as_null_at_a_revision() -> None:
    op = parse_op(3, "etcd2", line(revision=8, values=[]))
    assert (op.ok, op.value, op.revision, op.mod_revision) == (True, None, 8, None)
    assert op.as_history() == {
        "process": 3, "op": "get", "key": "k", "value": None, "invoke_ns": 5, "return_ns": 9, "outcome": "ok",
        "revision": 8, "mod_revision": None, "member": "etcd2",
    }  # fmt: skip


def test_an_unknown_operation_never_returned() -> None:
    op = parse_op(0, "etcd1", line(op="put", value="1", code="DEADLINE_EXCEEDED", error="Deadline Exceeded"))
    history = op.as_history()
    assert (history["outcome"], history["return_ns"], history["revision"]) == ("unknown", None, None)
    assert history["error"] == "DEADLINE_EXCEEDED: Deadline Exceeded"


def test_cas_and_delete_keep_what_they_did() -> None:
    cas = parse_op(0, "etcd1", line(op="cas", value="2", expect="1", succeeded=False, revision=4))
    assert cas.as_history()["succeeded"] is False
    assert cas.as_history()["expect"] == "1"
    assert parse_op(0, "etcd1", line(op="delete", deleted=1, revision=4)).as_history()["deleted"] == 1


def test_a_checker_is_told_what_a_range_saw_and_that_a_read_may_be_stale() -> None:
    seen = parse_op(0, "etcd1", line(op="range", values=[["k1", "a", 3]], revision=4))
    assert seen.as_history()["kvs"] == [{"key": "k1", "value": "a", "mod_revision": 3}]
    assert parse_op(0, "etcd1", line(serializable=True, values=[])).as_history()["serializable"] is True
    assert "serializable" not in parse_op(0, "etcd1", line(values=[])).as_history()
