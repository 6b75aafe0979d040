"""The checker says of small histories what trying everything says: no false alarm, and nothing missed."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaos.checker.errors import HistoryError
from chaos.checker.verdict import Verdict, check
from tests.chaos.checker.reference import linearizable
from tests.chaos.checker.small import Line, begun_late, correct, damaged, lines_to_history

WORLDS: dict[str, dict[str, Any]] = {
    "with revisions": {},
    "all values alike": {"values": 1},
    "many unknown": {"unknown": 0.7, "values": 2},
    "without mod revisions": {"mods": False},
    "without revisions": {"revisions": False, "mods": False},
    "mod revisions alone": {"revisions": False, "mods": True},
    "transactions": {"txn": 0.6, "values": 2},
    "serializable reads": {"serializable": 0.5, "get": 0.7},
    "leases": {"lease": 0.7, "values": 2},
    "other writers": {"foreign": 0.4},
}


def same_verdict(lines: list[Line]) -> bool:
    """Compare both; false when the damage made the history unreadable."""
    try:
        history = lines_to_history(lines)
    except HistoryError:
        return False
    expected = linearizable(lines)
    report = check(history, seconds=20)
    text = "\n".join(map(str, lines))
    right = Verdict.LINEARIZABLE if expected else Verdict.VIOLATION
    if not history.acknowledged:  # an order there is, of nothing: no verdict can rest on that
        assert expected
        right = Verdict.UNKNOWN
    assert report.verdict == right, f"{report.text()}\n{text}"
    return True


@pytest.mark.parametrize("world", WORLDS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**48), damages=st.integers(0, 2))
def test_verdict_is_that_of_brute_force(world: str, seed: int, damages: int) -> None:
    rnd = random.Random(seed)  # noqa: S311 - repeatable, not secret
    lines = correct(rnd, **WORLDS[world])
    if rnd.random() < 0.3:
        lines = begun_late(lines, rnd)
    for _ in range(damages):
        lines = damaged(lines, rnd)
    same_verdict(lines)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("world", WORLDS)
def test_verdict_is_that_of_brute_force_for_long(world: str) -> None:
    """The same law for as many histories as a minute allows, always others."""
    began, decided = time.monotonic(), 0
    while time.monotonic() < began + 60:
        seed = random.SystemRandom().getrandbits(48)
        rnd = random.Random(seed)  # noqa: S311 - repeatable, not secret
        lines = correct(rnd, **WORLDS[world])
        lines = begun_late(lines, rnd) if rnd.random() < 0.3 else lines
        for _ in range(rnd.randint(0, 2)):
            lines = damaged(lines, rnd)
        decided += same_verdict(lines)
    assert decided > 100


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**48), damages=st.integers(0, 2))
def test_mixed_history_is_decided_like_brute_force(seed: int, damages: int) -> None:
    rnd = random.Random(seed)  # noqa: S311 - repeatable, not secret
    lines = correct(rnd)
    for line in lines[1:]:
        if rnd.random() < 0.4:
            line.pop("revision", None)
    for _ in range(damages):
        lines = damaged(lines, rnd)
    same_verdict(lines)


def test_brute_force_itself_tells_right_from_wrong() -> None:
    def line(process: int, op: str, times: tuple[int, int], **more: Any) -> Line:
        return {
            "process": process,
            "op": op,
            "key": "x",
            "invoke_ns": times[0],
            "return_ns": times[1],
            "outcome": "ok",
            **more,
        }

    put = line(0, "put", (0, 10), value="1", revision=2)
    assert linearizable([put, line(1, "get", (20, 30), value="1", revision=2, mod_revision=2)])
    assert not linearizable([put, line(1, "get", (20, 30), value=None, revision=2)])
    assert linearizable([put, line(1, "get", (5, 30), value=None, revision=1)])
    assert not linearizable([put, line(1, "get", (20, 30), value="1", revision=3, mod_revision=3)])


def test_a_write_that_is_lost_is_seen_beside_a_lease_that_may_have_expired() -> None:
    # found by the long comparison: the key with a lease was left to the search, and the other one to nobody
    lines: list[Line] = [
        {
            "process": 3,
            "op": "put",
            "key": "k0",
            "value": "0",
            "lease": 1,
            "revision": 2,
            "invoke_ns": 1,
            "return_ns": 9,
        },
        {"process": 3, "op": "put", "key": "k1", "value": "1", "revision": 3, "invoke_ns": 10, "return_ns": 19},
        {"process": 0, "op": "get", "key": "k0", "value": None, "revision": 4, "invoke_ns": 20, "return_ns": 29},
        {"process": 2, "op": "get", "key": "k1", "value": None, "revision": 3, "invoke_ns": 20, "return_ns": 29},
    ]
    lines = [{**line, "outcome": "ok", "member": "etcd1"} for line in lines]
    assert check(lines_to_history(lines)).verdict == Verdict.VIOLATION
    assert same_verdict(lines)
    assert check(lines_to_history(lines[:3])).verdict == Verdict.LINEARIZABLE
    assert same_verdict(lines[:3])


def test_a_lease_may_expire_before_a_cas_that_fails_anyway_when_no_revision_is_free_after_it() -> None:
    lines: list[Line] = [
        {
            "process": 1,
            "op": "put",
            "key": "k",
            "value": "v",
            "lease": 1,
            "revision": 2,
            "invoke_ns": 1,
            "return_ns": 9,
        },
        {"process": 1, "op": "cas", "key": "k", "expect": "x", "value": "y", "succeeded": False, "revision": 3}
        | {"invoke_ns": 10, "return_ns": 19},
        {"process": 1, "op": "put", "key": "other", "value": "1", "revision": 4, "invoke_ns": 20, "return_ns": 29},
        {"process": 1, "op": "cas", "key": "k", "expect": "v", "value": "y", "succeeded": False, "revision": 4}
        | {"invoke_ns": 30, "return_ns": 39},
    ]
    lines = [{**line, "outcome": "ok", "member": "etcd1"} for line in lines]
    assert check(lines_to_history(lines)).verdict == Verdict.LINEARIZABLE
    assert same_verdict(lines)


def test_a_serializable_read_of_before_the_beginning_says_nothing() -> None:
    # of a key that a transaction of unknown outcome ties to another, so that both are searched together
    parts = [{"op": "delete", "key": "k0"}, {"op": "put", "key": "k1", "value": "0"}]
    lines: list[Line] = [
        {"meta": {"base_revision": 5, "initial": {"k0": "0"}, "closed_world": False}},
        {"process": 0, "op": "txn", "invoke_ns": 0, "return_ns": None, "outcome": "unknown", "ops": parts},
        {
            "process": 1,
            "op": "get",
            "key": "k0",
            "serializable": True,
            "value": None,
            "revision": 4,
            "invoke_ns": 10,
            "return_ns": 20,
            "outcome": "ok",
            "member": "etcd2",
        },
        {
            "process": 1,
            "op": "delete",
            "key": "k1",
            "deleted": 1,
            "revision": 7,
            "invoke_ns": 30,
            "return_ns": 40,
            "outcome": "ok",
            "member": "etcd2",
        },
    ]
    assert check(lines_to_history(lines)).verdict == Verdict.LINEARIZABLE
    assert same_verdict(lines)
    lines[2]["revision"] = 5
    assert check(lines_to_history(lines)).verdict == Verdict.VIOLATION
    assert same_verdict(lines)
