"""Figures from samples, events and history: one worked story of a leader that loses its power."""

from __future__ import annotations

from chaos.measure.events import Event
from chaos.measure.figures import all_well, caught_up, leader_change, recovery, terms
from chaos.measure.samples import Sample

SECOND = 10**9
NODES = ("a", "b", "c")


def sample(at: float, node: str, *, term: int = 2, leader: int = 1, applied: int = 10, ok: bool = True) -> Sample:
    ids = {"a": 1, "b": 2, "c": 3}
    return Sample(
        round(at * SECOND), node, ok, "" if ok else "silent", ok and leader == ids[node], leader if ok else 0,
        term if ok else 0, applied, applied, 5, 1, 1, (), 0.1,
    )  # fmt: skip


def event(at: float, node: str, kind: str, text: str) -> Event:
    return Event(round(at * SECOND), node, kind, text)  # type: ignore[arg-type]


SAMPLES = [
    *[sample(9, node) for node in NODES],
    *[sample(11, node, ok=node != "a") for node in NODES],
    sample(15, "b", term=3, leader=2, applied=20),
    sample(15.2, "c", term=3, leader=2, applied=20),
    sample(31, "b", term=3, leader=2, applied=25),
    sample(31, "c", term=3, leader=2, applied=25),
    sample(33, "a", term=3, leader=2, applied=12),
    sample(35, "a", term=3, leader=2, applied=26),
]
EVENTS = [
    event(13.9, "b", "election", "b is starting a new election at term 2"),
    event(14.0, "b", "leader-lost", "raft.node: b lost leader a at term 2"),
    event(14.5, "b", "leader-elected", "b became leader at term 3"),
    event(32, "a", "leader-elected", "raft.node: a elected leader b at term 3"),
]
HISTORY = [
    {"op": "put", "invoke_ns": 9 * SECOND, "return_ns": 15 * SECOND, "outcome": "ok"},
    {"op": "put", "invoke_ns": 11 * SECOND, "return_ns": None, "outcome": "unknown"},
    {"op": "get", "invoke_ns": 11 * SECOND, "return_ns": 12 * SECOND, "outcome": "ok"},
    {"op": "put", "invoke_ns": 14 * SECOND, "return_ns": 16 * SECOND, "outcome": "ok"},
]


def test_the_story_in_figures() -> None:
    found = recovery(
        nodes=NODES, fault_ns=10 * SECOND, healed_ns=30 * SECOND, end_ns=40 * SECOND,
        samples=SAMPLES, events=EVENTS, history=HISTORY,
    )  # fmt: skip
    assert found == {
        "detected": 3.9,
        "new_leader": 4.5,
        "first_write": 6.0,
        "election_rounds": 1,
        "healed_to_all_healthy": 3.0,
        "healed_to_caught_up": 5.0,
    }


def test_without_the_log_the_samples_tell_of_the_new_leader() -> None:
    found = recovery(
        nodes=NODES, fault_ns=10 * SECOND, healed_ns=0, end_ns=40 * SECOND, samples=SAMPLES, events=(), history=()
    )
    assert found == {"new_leader": 5.0}


def test_a_calm_time_has_no_leader_change() -> None:
    assert leader_change(EVENTS, 20 * SECOND, 30 * SECOND) is None


def test_two_leaders_are_not_well_and_a_laggard_has_not_caught_up() -> None:
    split = [sample(1, "a", leader=1), sample(1, "b", leader=2), sample(1, "c", leader=2)]
    assert all_well(split, NODES, 0) is None
    assert caught_up([*split, sample(2, "a", applied=3)], NODES, 2 * SECOND) is None


def test_terms_are_first_and_last_of_who_answered() -> None:
    assert terms(SAMPLES, 0, 40 * SECOND)["a"] == (2, 3)
    assert terms(SAMPLES, 10 * SECOND, 12 * SECOND) == {"b": (2, 2), "c": (2, 2)}


def test_a_follower_that_finds_its_old_leader_again_is_no_new_leader() -> None:
    events = [
        event(13, "c", "leader-lost", "raft.node: c lost leader a at term 2"),
        event(22, "c", "leader-elected", "raft.node: c elected leader a at term 2"),
    ]
    found = leader_change(events, 10 * SECOND, 30 * SECOND)
    assert found is not None
    assert found.elected_ns is None
