"""Watch promises: a correct stream passes, each kind of damage is found under its own name."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from bench.histories import Mix, Simulation
from chaos.checker.errors import HistoryError
from chaos.checker.verdict import Verdict, check
from chaos.checker.watch_reader import read_watch
from chaos.checker.watches import Event, check_watches
from tests.chaos.checker.small import Line, lines_to_history

CREATED: Line = {"watch": 0, "event": "created", "key": "k", "prefix": True, "start_revision": 2}


def made(seed: int = 1, **mix: float) -> tuple[list[Line], list[Line]]:
    """Operations of a correct store, and what a watch of everything tells of it."""
    simulation = Simulation(150, processes=4, keys=3, seed=seed, mix=Mix(**({"unknown": 0.05} | mix)))  # type: ignore[arg-type]
    lines = list(simulation.lines())
    return lines, [CREATED, *({"watch": 0, **event} for event in simulation.store.events)]


def parse(events: list[Line]) -> list[Event]:
    return read_watch([orjson.dumps(event) for event in events], "watch.jsonl")


def rule_of(lines: list[Line], events: list[Line]) -> str | None:
    found = check_watches(lines_to_history(lines), parse(events))
    return found.rule if found else None


def test_a_correct_stream_keeps_all_promises() -> None:
    for seed in range(10):
        lines, events = made(seed)
        assert rule_of(lines, events) is None
        assert check(lines_to_history(lines), parse(events)).verdict == Verdict.LINEARIZABLE


def test_a_resumed_stream_keeps_all_promises() -> None:
    lines, events = made()
    at = len(events) // 2
    while events[at]["mod_revision"] == events[at + 1]["mod_revision"]:
        at += 1
    again = CREATED | {"start_revision": events[at]["mod_revision"] + 1}
    progress = {"watch": 0, "event": "progress", "revision": events[at]["mod_revision"]}
    assert rule_of(lines, [*events[: at + 1], progress, again, *events[at + 1 :]]) is None


def test_asking_for_events_again_is_no_duplicate() -> None:
    lines, events = made()
    again = CREATED | {"start_revision": events[5]["mod_revision"]}
    assert rule_of(lines, [*events[:20], again, *events[5:]]) is None


def test_what_was_compacted_is_not_owed() -> None:
    lines, events = made()
    gone = {"watch": 0, "event": "compacted", "compact_revision": events[20]["mod_revision"]}
    again = CREATED | {"start_revision": events[21]["mod_revision"]}
    for event in events[21:]:
        event.pop("prev_value", None)
    assert rule_of(lines, [*events[:10], gone, again, *events[21:]]) is None


def acknowledged(lines: list[Line], events: list[Line]) -> int:
    """Place of an event in the middle whose write was acknowledged."""
    known = {op["revision"] for op in lines if op["outcome"] == "ok" and op["op"] in ("put", "cas")}
    return next(n for n in range(30, len(events)) if events[n]["mod_revision"] in known)


def drop(lines: list[Line], events: list[Line]) -> None:
    del events[acknowledged(lines, events)]
    for event in events:
        event.pop("prev_value", None)


def swap(lines: list[Line], events: list[Line]) -> None:
    events[10], events[12] = events[12], events[10]


def repeat(lines: list[Line], events: list[Line]) -> None:
    events.insert(20, events[19])


def invent(lines: list[Line], events: list[Line]) -> None:
    last = events[-1]["mod_revision"]
    events.append({"watch": 0, "event": "put", "key": "k0", "value": "phantom", "mod_revision": last + 100})


def tell_of_a_failed_write(lines: list[Line], events: list[Line]) -> None:
    last = events[-1]["mod_revision"]
    lines.append(
        {"process": 999, "op": "put", "key": "k0", "value": "no", "invoke_ns": 0, "return_ns": 1, "outcome": "fail"}
    )
    events.append({"watch": 0, "event": "put", "key": "k0", "value": "no", "mod_revision": last + 100})


def change_value(lines: list[Line], events: list[Line]) -> None:
    at = acknowledged(lines, events)
    events[at] = events[at] | {"value": "other", "event": "put"}


def early_progress(lines: list[Line], events: list[Line]) -> None:
    events.insert(20, {"watch": 0, "event": "progress", "revision": events[25]["mod_revision"]})


def foreign_key(lines: list[Line], events: list[Line]) -> None:
    events[0] = CREATED | {"prefix": False, "key": "k0"}


def wrong_previous(lines: list[Line], events: list[Line]) -> None:
    at = next(n for n in range(20, len(events)) if events[n].get("prev_value"))
    events[at] = events[at] | {"prev_value": "other"}


DAMAGES: list[tuple[Callable[[list[Line], list[Line]], None], str]] = [
    (drop, "gap in a watch"),
    (swap, "watch order"),
    (repeat, "watch duplicate"),
    (invent, "phantom watch event"),
    (tell_of_a_failed_write, "phantom watch event"),
    (change_value, "phantom watch event"),
    (early_progress, "watch order"),
    (foreign_key, "watch order"),
    (wrong_previous, "watch order"),
]


@pytest.mark.parametrize(("damage", "rule"), DAMAGES)
def test_damage_to_a_stream_is_found(damage: Callable[[list[Line], list[Line]], None], rule: str) -> None:
    for seed in range(5):
        lines, events = made(seed)
        damage(lines, events)
        if damage is change_value:
            for event in events:
                event.pop("prev_value", None)
        assert rule_of(lines, events) == rule


def test_two_watches_that_disagree_are_found() -> None:
    lines, events = made(unknown=0.3)
    at = next(n for n in range(1, len(events)) if events[n]["mod_revision"] not in {op.get("revision") for op in lines})
    other = [{**event, "watch": 1} for event in events]
    other[at]["value"] = next(op["value"] for op in lines if op["outcome"] == "unknown" and op["op"] == "put")
    for event in (*events, *other):
        event.pop("prev_value", None)
    assert rule_of(lines, [*events, *other]) in {"watch agreement", "phantom watch event"}


def test_a_watch_is_evidence_for_an_unknown_write() -> None:
    """The write took effect where the watch tells; a read that misses it later is stale."""
    put = {"process": 0, "op": "put", "key": "k", "value": "1", "invoke_ns": 0, "return_ns": None, "outcome": "unknown"}
    read = {"process": 1, "op": "get", "key": "k", "value": None, "invoke_ns": 5, "return_ns": 9, "outcome": "ok"}
    event = {"watch": 0, "event": "put", "key": "k", "value": "1", "mod_revision": 2}
    for revision, verdict in ((1, Verdict.LINEARIZABLE), (3, Verdict.VIOLATION)):
        history = lines_to_history([put, read | {"revision": revision}])
        assert check(history).verdict == Verdict.LINEARIZABLE
        report = check(history, parse([CREATED, event]))
        assert report.verdict == verdict
    settled = check(lines_to_history([put, read | {"revision": 1}]), parse([CREATED, event])).settled
    assert settled == {0: 2}


BROKEN = {
    "cut off": b'{"watch": 0, "event": "crea',
    "'told' is not a valid": b'{"watch": 0, "event": "told"}',
    "mod_revision is missing": b'{"watch": 0, "event": "put", "key": "k", "value": "1"}',
    "0 is not a revision": b'{"watch": 0, "event": "progress", "revision": 0}',
    "has not been created": b'{"watch": 5, "event": "progress", "revision": 3}',
}


@pytest.mark.parametrize("said", BROKEN)
def test_a_broken_watch_line_is_named_with_file_and_line(said: str) -> None:
    with pytest.raises(HistoryError, match=said) as told:
        read_watch([orjson.dumps(CREATED), BROKEN[said]], "watch.jsonl")
    assert told.value.where == "watch.jsonl:2"
