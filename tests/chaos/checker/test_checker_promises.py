"""Promises with small checkers of their own: serializable reads, leases, the ledger, HashKV."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.checker.hashkv import Hash, check_hashes
from chaos.checker.leases import SECOND, check_leases
from chaos.checker.ledger import check_ledger
from chaos.checker.verdict import Verdict, check
from tests.chaos.checker.small import Line, lines_to_history


def op(name: str, process: int, times: tuple[int, int | None], **more: Any) -> Line:
    outcome = "unknown" if times[1] is None else "ok"
    return {
        "op": name,
        "process": process,
        "key": "x",
        "invoke_ns": times[0],
        "return_ns": times[1],
        "outcome": outcome,
        **more,
    }


def verdict(*lines: Line) -> Verdict:
    return check(lines_to_history(list(lines))).verdict


PUTS = (op("put", 0, (0, 10), value="1", revision=2), op("put", 0, (20, 30), value="2", revision=3))


def serializable(process: int, times: tuple[int, int], value: str | None, revision: int, member: str = "etcd1") -> Line:
    return op("get", process, times, value=value, revision=revision, serializable=True, member=member)


def test_a_stale_serializable_read_is_allowed() -> None:
    assert verdict(*PUTS, serializable(1, (40, 50), "1", 2)) == Verdict.LINEARIZABLE
    assert verdict(*PUTS, op("get", 1, (40, 50), value="1", revision=2)) == Verdict.VIOLATION


def test_an_invented_serializable_read_is_not() -> None:
    assert verdict(*PUTS, serializable(1, (40, 50), "9", 2)) == Verdict.VIOLATION
    assert verdict(*PUTS, serializable(1, (40, 50), "2", 2)) == Verdict.VIOLATION


def test_a_serializable_read_from_the_future_is_not() -> None:
    assert verdict(*PUTS, serializable(1, (12, 15), "2", 3)) == Verdict.VIOLATION


def test_a_serializable_read_may_not_go_back_on_one_member() -> None:
    forth, back = serializable(1, (40, 50), "2", 3), serializable(1, (60, 70), "1", 2)
    assert verdict(*PUTS, forth, back) == Verdict.VIOLATION
    assert verdict(*PUTS, forth, back | {"member": "etcd2"}) == Verdict.LINEARIZABLE
    assert verdict(*PUTS, forth, back | {"process": 2}) == Verdict.LINEARIZABLE


def lease(name: str, times: tuple[int, int], ttl: int) -> Line:
    return {
        "op": name,
        "process": 9,
        "invoke_ns": times[0],
        "return_ns": times[1],
        "outcome": "ok",
        "lease": 7,
        "ttl": ttl,
    }


def leased(*reads: Line) -> list[Line]:
    return [lease("lease_grant", (0, 10), 5), op("put", 0, (20, 30), value="1", lease=7, revision=2), *reads]


def absent(at_seconds: float) -> Line:
    at = int(at_seconds * SECOND)
    return op("get", 1, (at, at + 10), value=None, revision=3)


def test_expiry_before_the_time_to_live_is_found() -> None:
    found = check_leases(lines_to_history(leased(absent(3.0))))
    assert found is not None
    assert found.rule == "lease expired early"
    assert check_leases(lines_to_history(leased(absent(5.1)))) is None


def test_a_keepalive_starts_the_time_anew() -> None:
    renewed = lease("lease_keepalive", (4 * SECOND, 4 * SECOND + 10), 5)
    assert check_leases(lines_to_history([*leased(absent(6.0)), renewed])) is not None
    assert check_leases(lines_to_history([*leased(absent(9.5)), renewed])) is None


def test_a_key_that_outlives_its_lease_is_found() -> None:
    there = op("get", 1, (60 * SECOND, 60 * SECOND + 10), value="1", revision=2)
    history = lines_to_history(leased(there))
    assert check_leases(history) is None
    found = check_leases(history, gone_by_ns=30 * SECOND)
    assert found is not None
    assert found.rule == "lease outlived"


def test_an_expired_key_is_no_lost_write() -> None:
    assert verdict(*leased(absent(6.0))) == Verdict.LINEARIZABLE
    assert verdict(PUTS[0], absent(6.0)) == Verdict.VIOLATION


def ledger() -> list[Line]:
    return [
        {**op("put", 0, (0, 10), value="1", revision=2), "key": "a"},
        {**op("put", 0, (20, None), value="2"), "key": "b"},
        {**op("put", 1, (20, 30), value="3"), "key": "c", "outcome": "fail"},
    ]


@pytest.mark.parametrize(
    ("found", "rule"),
    [
        ({"a": ("1", 2)}, None),
        ({"a": ("1", 2), "b": ("2", 3)}, None),
        ({}, "ledger: lost write"),
        ({"a": ("1", 4)}, "ledger: wrong revision"),
        ({"a": ("9", 2)}, "ledger: lost write"),
        ({"a": ("1", 2), "c": ("3", 3)}, "ledger: invented write"),
        ({"a": ("1", 2), "b": ("8", 3)}, "ledger: invented write"),
    ],
)
def test_the_ledger_is_found_again(found: dict[str, tuple[str | int, int]], rule: str | None) -> None:
    result = check_ledger(lines_to_history(ledger()), found, 10)
    assert (result.rule if result else None) == rule


def test_a_store_set_back_in_time_loses_the_ledger() -> None:
    result = check_ledger(lines_to_history(ledger()), {"a": ("1", 2)}, 1)
    assert result is not None


def test_members_with_different_data_are_found() -> None:
    same = [Hash("etcd1", 10, 5, 42), Hash("etcd2", 10, 5, 42)]
    assert check_hashes(same) == (None, "")
    found, _ = check_hashes([*same, Hash("etcd3", 10, 5, 43)])
    assert found is not None
    assert "etcd3 43" in found.why


@pytest.mark.parametrize("other", [Hash("etcd2", 11, 5, 42), Hash("etcd2", 10, 6, 43)])
def test_hashes_of_different_revisions_say_nothing(other: Hash) -> None:
    found, reason = check_hashes([Hash("etcd1", 10, 5, 42), other])
    assert found is None
    assert "different revisions" in reason
    assert check_hashes([other])[1] == "only 1 members answered"


def test_a_lease_is_not_gone_within_the_time_that_was_granted() -> None:
    def told(name: str, at_seconds: float, **more: object) -> Line:
        at = int(at_seconds * SECOND)
        return lease(name, (at, at + 10), 0) | more

    assert check_leases(lines_to_history([*leased(), told("lease_keepalive", 3)])) is not None
    assert check_leases(lines_to_history([*leased(), told("lease_keepalive", 5.1)])) is None
    gone: Line = {"ttl": None, "answer": "not_found"}
    assert check_leases(lines_to_history([*leased(), told("lease_ttl", 3, **gone)])) is not None
    assert check_leases(lines_to_history([*leased(), told("lease_ttl", 5.1, **gone)])) is None
    revoked = told("lease_revoke", 2) | {"ttl": None}
    assert check_leases(lines_to_history([*leased(), revoked, told("lease_ttl", 3, **gone)])) is None


def test_leases_that_should_be_gone_are_judged_with_the_history() -> None:
    there = op("get", 1, (60 * SECOND, 60 * SECOND + 10), value="1", revision=2)
    assert verdict(*leased(there)) == Verdict.LINEARIZABLE
    assert verdict({"meta": {"leases_gone_by_ns": 30 * SECOND}}, *leased(there)) == Verdict.VIOLATION
