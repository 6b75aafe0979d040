"""What goes between a fault's provider, the engine's state and the caller, without an engine."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.faults.base import Fault, Proof, Result
from chaos.faults.host.power import PowerOff
from chaos.faults.network.partitions import Partition
from chaos.faults.storage.disk import DiskSlow
from chaos.stack import results
from chaos.stack.state import NOTHING, declared, emptied_outputs, foreign, outputs_with, read_declared, standing, told
from machine.engine_state import Deployment, Resource
from machine.errors import DeadlineError, InconclusiveError, LabError, UsageError
from machine.paths import StackPaths

TOKEN = "pulumi-python:dynamic/chaos:Fault"


@pytest.fixture
def paths(tmp_path: Path) -> StackPaths:
    return StackPaths(tmp_path, "t")


def result(action: Any = "inject", *, holds: bool = True, fault_id: str = "x-1", ended: int = 3) -> Result:
    proof = Proof("tcp a > b", "a", "no answer", "no answer", holds, at_ns=7)
    return Result(fault_id, "x", action, (("a",), ("b",)), "bridge", 1, 2, ended, (proof,))


FAULTS = st.one_of(
    st.builds(Partition, st.just((("etcd1",), ("etcd2", "etcd3"))), lease=st.integers(1, 10_000)),
    st.builds(
        DiskSlow,
        st.just((("etcd2",),)),
        st.just(("follower",)),
        st.dictionaries(st.just("delay_ms"), st.integers(50, 99)),
    ),
)


@given(FAULTS)
def test_a_fault_comes_back_from_the_state_as_it_was_declared(fault: Fault) -> None:
    assert read_declared(declared(fault, "12ab34cd")) == fault


@given(FAULTS)
def test_the_same_fault_is_declared_in_the_same_words_at_any_time(fault: Fault) -> None:
    """Else the engine would see a change, and heal and inject again."""
    assert declared(fault, "12ab34cd") == declared(read_declared(declared(fault, "12ab34cd")), "12ab34cd")


def test_results_come_back_once_and_in_order_and_are_private(paths: StackPaths) -> None:
    late, early = result("inject", ended=9), result("heal", holds=False, fault_id="y-2", ended=4)
    results.leave(paths, late)
    results.leave(paths, early)
    files = list(results.directory(paths).iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert results.take(paths).results == (early, late)
    assert results.take(paths) == results.Told()


@pytest.mark.parametrize("kind", [LabError, UsageError, InconclusiveError])
def test_an_error_in_the_provider_is_the_same_error_for_the_caller(paths: StackPaths, kind: type[LabError]) -> None:
    with pytest.raises(kind), results.errors_left(paths, "inject", "x-1"):
        raise kind("nft is gone", where="bridge", next="Install it.")
    [error] = results.take(paths).failed.values()
    assert type(error) is kind
    assert str(error) == "nft is gone (bridge). Install it."


def test_an_error_that_is_made_otherwise_keeps_its_words(paths: StackPaths) -> None:
    with pytest.raises(DeadlineError), results.errors_left(paths, "heal", "x-1"):
        raise DeadlineError("ssh", seconds=3, last="refused")
    [error] = results.take(paths).failed.values()
    assert "not within 3 s; last seen: refused" in str(error)


def test_what_a_killed_caller_did_not_take_is_cleared(paths: StackPaths) -> None:
    results.clear(paths)
    results.leave(paths, result())
    results.clear(paths)
    assert results.take(paths).results == ()


def test_the_standing_of_a_stack_is_read_from_its_state() -> None:
    fault = Partition((("etcd1",), ("etcd2",)))
    resource = Resource(TOKEN, fault.id, fault.id, {"fault": declared(fault, "aa")})
    found = standing(Deployment((resource,), outputs={"lab": "aa", "verdict": "pass"}))
    assert found.faults == (fault,)
    assert found.outputs["verdict"] == "pass"
    assert standing(None).faults == ()


def test_a_stack_of_another_lab_is_known_by_its_id() -> None:
    assert foreign(Deployment(outputs={"lab": "aa"}), "bb") == "aa"
    assert foreign(Deployment(outputs={"lab": "aa"}), "aa") == ""
    assert foreign(Deployment(), "aa") == ""
    killed = Deployment((Resource(TOKEN, "x", "x", {"lab_id": "aa"}),))
    assert foreign(killed, "bb") == "aa", "outputs are written at the end of an update"
    assert foreign(killed, "aa") == ""
    assert foreign(None, "aa") == ""


def test_what_the_last_run_found_stays_until_the_next_says_otherwise() -> None:
    first = outputs_with({}, None)
    assert first["verdict"] == "no run yet"
    after = outputs_with(first, {"verdict": "fail", "counts": {"fail": 1}, "report": "r", "ended": "now"})
    assert outputs_with({**after, "faults": "…"}, None) == after
    assert emptied_outputs({**after, "faults": ["partition"]}) == {**after, "faults": NOTHING}


def test_a_fault_is_told_in_plain_words() -> None:
    assert told(PowerOff((("etcd3",),))) == "power-off on etcd3"
    assert told(DiskSlow((("etcd1", "etcd2"),), params={"delay_ms": 80})) == "disk-slow on etcd1,etcd2 (delay_ms 80)"
