"""The search path and its limits: repeating values, unknown outcomes, contention, and when to say 'unknown'."""

from __future__ import annotations

import time

import pytest

from bench.histories import Mix, Simulation
from chaos.checker.verdict import Verdict, check
from tests.chaos.checker.small import Line, lines_to_history

REGISTER = Mix(put=0.3, get=0.35, cas=0.25, delete=0.1, unknown=0.1, values=4, revisions=False, mods=False)


def register(seed: int) -> list[Line]:
    """Five processes, two hundred operations on one register with repeating values, cas and timed-out operations."""
    return list(Simulation(200, processes=5, keys=1, seed=seed, mix=REGISTER).lines())


@pytest.mark.parametrize("seed", range(5))
def test_a_register_with_repeating_values_is_decided_in_less_than_a_second(seed: int) -> None:
    history = lines_to_history(register(seed))
    began = time.process_time()
    assert check(history).verdict == Verdict.LINEARIZABLE
    assert time.process_time() - began < 1


def test_a_value_that_nobody_writes_is_explained_by_few_operations() -> None:
    lines = register(1)
    read = [line for line in lines if line["op"] == "get" and line["outcome"] == "ok"][40]
    read["value"] = "never written"
    began = time.process_time()
    report = check(lines_to_history(lines))
    assert time.process_time() - began < 1
    assert report.verdict == Verdict.VIOLATION
    assert report.violation is not None
    assert report.violation.key == "k0"
    assert len(report.violation.operations) == 1
    assert "never written" in report.violation.operations[0]


def test_keys_are_searched_apart() -> None:
    mix = Mix(unknown=0.05, values=3, revisions=False, mods=False)
    lines = list(Simulation(2000, processes=8, keys=50, seed=3, mix=mix).lines())
    assert check(lines_to_history(lines)).verdict == Verdict.LINEARIZABLE


def test_one_contended_key_with_revisions_takes_no_search() -> None:
    mix = Mix(unknown=0.02)
    history = lines_to_history(list(Simulation(10_000, processes=16, keys=1, seed=4, mix=mix).lines()))
    began = time.process_time()
    assert check(history, places=1).verdict == Verdict.LINEARIZABLE
    assert time.process_time() - began < 1


def test_the_limit_of_memory_gives_unknown_and_says_so() -> None:
    report = check(lines_to_history(register(2)), places=10)
    assert report.verdict == Verdict.UNKNOWN
    assert report.verdict.exit_code == 3
    assert "memory" in report.reason
    assert report.violation is None


def test_the_limit_of_time_gives_unknown_and_says_so() -> None:
    mix = Mix(unknown=0.02, values=3, revisions=False, mods=False)
    lines = list(Simulation(3000, processes=30, keys=1, seed=5, mix=mix).lines())
    report = check(lines_to_history(lines), seconds=0.01)
    assert report.verdict == Verdict.UNKNOWN
    assert "time" in report.reason


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("values", [0, 5])
def test_ten_thousand_operations_with_unknown_outcomes_are_settled_by_evidence(values: int, closed: bool) -> None:
    """No search (it may remember one place): so the cost stays near-linear."""
    lines = Simulation(10_000, processes=20, keys=5, seed=6, mix=Mix(unknown=0.02, values=values)).lines()
    history = lines_to_history([{"meta": {"closed_world": closed}}, *lines])
    report = check(history, places=1)
    assert report.verdict == Verdict.LINEARIZABLE
    assert report.settled
