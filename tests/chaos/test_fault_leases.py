"""Leases: each is renewed in its own time, and one that hangs holds up neither the others nor their release."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from chaos.faults.renewal import LeaseRenewer

LIMIT = 10.0


@pytest.fixture
def keeper() -> Iterator[LeaseRenewer]:
    made = LeaseRenewer(0.02)
    yield made
    made.close()


def until(holds: Callable[[], bool]) -> bool:
    ends = time.monotonic() + LIMIT
    while not holds() and time.monotonic() < ends:
        time.sleep(0.005)
    return holds()


def test_a_renewal_that_hangs_delays_no_other_and_no_other_release(keeper: LeaseRenewer) -> None:
    hanging, let_go = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        let_go.wait(2 * LIMIT)

    renewed: list[float] = []
    try:
        keeper.hold("slow", hang)
        assert hanging.wait(LIMIT)
        keeper.hold("quick", lambda: renewed.append(time.monotonic()))
        assert until(lambda: len(renewed) >= 3)
        begun = time.monotonic()
        keeper.release("quick")
        assert time.monotonic() - begun < LIMIT
    finally:
        let_go.set()


def test_release_waits_for_its_own_renewal_and_none_follows(keeper: LeaseRenewer) -> None:
    begun, done = threading.Event(), [0]

    def renew() -> None:
        begun.set()
        time.sleep(0.1)
        done[0] += 1

    keeper.hold("one", renew)
    assert begun.wait(LIMIT)
    keeper.release("one")
    at_release = done[0]
    assert at_release >= 1, "the renewal that was under way has ended"
    time.sleep(0.2)
    assert done[0] == at_release


def test_whose_renewal_failed_is_told_until_it_goes_well_or_is_held_anew(keeper: LeaseRenewer) -> None:
    fails = threading.Event()
    fails.set()

    def renew() -> None:
        if fails.is_set():
            raise ValueError("the cut is gone")

    keeper.hold("one", renew)
    assert until(lambda: keeper.problems == {"one": "the cut is gone"})
    fails.clear()
    assert until(lambda: not keeper.problems)
    fails.set()
    assert until(lambda: bool(keeper.problems))
    keeper.release("one")
    assert keeper.problems, "who heals asks afterwards"
    keeper.hold("one", lambda: None)
    assert not keeper.problems
