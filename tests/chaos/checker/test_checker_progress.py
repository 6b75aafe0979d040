"""Progress notices that were requested, filters, and watches of what the columns of a history do not tell."""

from __future__ import annotations

import orjson
import pytest

from chaos.checker.errors import HistoryError
from chaos.checker.history_reader import from_operations
from chaos.checker.progress import check_progress
from chaos.checker.verdict import Verdict, check
from chaos.checker.violation import Violation
from chaos.checker.watch_reader import read_watch
from chaos.checker.watches import check_watches

CREATED = {"watch": 0, "event": "created", "ns": 5, "key": "x", "start_revision": 2, "revision": 7}


def asked(*lines: dict[str, object]) -> Violation | None:
    return check_progress(read_watch([orjson.dumps(CREATED | {"event": "created"}), *map(orjson.dumps, lines)]))


def line(event: str, ns: int, **more: object) -> dict[str, object]:
    return {"watch": 0, "event": event, "ns": ns} | more


def test_a_requested_notice_has_to_come_in_time() -> None:
    request, closed = line("requested", 10, within_ns=100), line("closed", 500)
    assert asked(request, closed) is not None
    assert asked(request, line("progress", 90, revision=7), closed) is None
    assert asked(request, line("progress", 190, revision=7), closed) is not None


def test_a_notice_binds_only_where_it_was_bound_and_on_record() -> None:
    assert asked(line("requested", 10), line("closed", 500)) is None
    assert asked(line("requested", 10, within_ns=100), line("closed", 90)) is None
    assert asked(line("requested", 10, within_ns=100), line("canceled", 90, error="x"), line("closed", 500)) is None


def test_a_watch_beyond_the_head_owes_no_notice_yet() -> None:
    beyond = CREATED | {"start_revision": 8}
    request, closed = line("requested", 10, within_ns=100), line("closed", 500)
    assert check_progress(read_watch(map(orjson.dumps, (beyond, request, closed)))) is None
    there = line("put", 9, key="x", value="1", mod_revision=8)
    assert check_progress(read_watch(map(orjson.dumps, (beyond, there, request, closed)))) is not None


def test_filtered_events_are_neither_missed_nor_allowed() -> None:
    base: dict[str, object] = {"process": 0, "key": "x", "outcome": "ok"}
    history = from_operations(
        [
            base | {"op": "put", "value": "1", "invoke_ns": 1, "return_ns": 2, "revision": 2},
            base | {"op": "delete", "deleted": 1, "invoke_ns": 3, "return_ns": 4, "revision": 3},
        ]
    )
    put, delete = line("put", 6, key="x", value="1", mod_revision=2), line("delete", 7, key="x", mod_revision=3)
    notice = line("progress", 9, revision=3)

    def judged(filters: list[str], *lines: dict[str, object]) -> Violation | None:
        return check_watches(history, read_watch(map(orjson.dumps, (CREATED | {"filters": filters}, *lines, notice))))

    assert judged([], put, delete) is None
    assert judged([], put) is not None
    assert judged(["nodelete"], put) is None
    assert judged(["nodelete"], put, delete) is not None
    assert judged(["noput"], delete) is None


def test_a_range_delete_is_told_to_watches_key_by_key() -> None:
    base: dict[str, object] = {"process": 0, "outcome": "ok"}
    history = from_operations(
        [
            base | {"op": "put", "key": "x", "value": "1", "invoke_ns": 1, "return_ns": 2, "revision": 2},
            base
            | {
                "op": "delete",
                "key": "a",
                "range_end": "z",
                "deleted": 1,
                "invoke_ns": 3,
                "return_ns": 4,
                "revision": 3,
            },
        ]
    )
    put, delete = line("put", 6, key="x", value="1", mod_revision=2), line("delete", 7, key="x", mod_revision=3)

    def judged(*lines: dict[str, object]) -> Verdict:
        events = read_watch(map(orjson.dumps, (CREATED, *lines, line("progress", 9, revision=3))))
        return check(history, events).verdict

    assert judged(put, delete) == Verdict.LINEARIZABLE
    assert judged(put) == Verdict.VIOLATION


def test_fields_of_a_watch_that_are_not_covered_are_refused_by_name() -> None:
    for bad in (CREATED | {"start_time": 3}, CREATED | {"filters": ["nocompact"]}):
        with pytest.raises(HistoryError, match=r"start_time|filters"):
            read_watch([orjson.dumps(bad)])
