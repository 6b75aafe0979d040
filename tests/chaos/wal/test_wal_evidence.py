"""What the log settles of a history: against a store that knows the truth, and the cases where nothing may be said."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.checker.errors import WalError
from chaos.checker.history_reader import read_history
from chaos.checker.log_evidence import Evidence, find, open_writes, watched_whole
from chaos.checker.model import History, Outcome
from chaos.checker.raftlog.requests import Takes, request_of
from chaos.checker.raftlog.wal_reader import Entry, Log
from chaos.checker.verdict import Verdict, check
from chaos.checker.watch_reader import read_watch
from tests.chaos.wal.written import cas, delete, entry, proto, put, request

Line = dict[str, Any]


class Store:
    """A store whose clients do not always hear an answer; every request gets to its log, or is lost on the way."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - repeatable
        self.now: dict[str, str] = {}
        self.revision = 10
        self.log: list[Entry] = []
        self.lines: list[Line] = [{"meta": {"base_revision": 10}}]
        self.truth: dict[int, int] = {}
        """Row of a write of unknown outcome -> its revision, 0: to no effect."""
        self.missing: set[int] = set()
        """Rows of those that no log has, deletes apart."""

    def run(self, count: int) -> None:
        for number in range(count):
            self._one(number, self.random.choice(("put", "put", "cas", "delete", "foreign")), self.random.random())
        self._one(count, "put", 1.0, key="end")  # acknowledged, as the last write of every scenario

    def _one(self, number: int, kind: str, chance: float, key: str = "") -> None:
        key, value = key or self.random.choice("ab"), f"v{number}"
        if kind == "foreign":
            self._commit(put("elsewhere", value))
            self.revision += 1
            return
        line: Line = {"process": number, "op": kind, "key": key, "invoke_ns": number * 10, "return_ns": number * 10 + 5}
        line |= {"value": value} if kind != "delete" else {}
        expect = self.random.choice((None, self.now.get(key)))
        line |= {"expect": expect} if kind == "cas" else {}
        done = False
        if chance <= 0.2 and kind != "delete":
            self.missing.add(len(self.lines) - 1)
        if chance > 0.2:
            self._commit({"put": put(key, value), "cas": cas(key, value), "delete": delete(key)}[kind])
            done = (
                kind == "put"
                or (kind == "cas" and self.now.get(key) == expect)
                or (kind == "delete" and key in self.now)
            )
        self.revision += done
        if done:
            self.now.pop(key, None)
            self.now |= {} if kind == "delete" else {key: value}
        if chance < 0.5:
            line |= {"outcome": "unknown", "return_ns": None}
            self.truth[len(self.lines) - 1] = self.revision if done else 0
        else:
            line |= {"outcome": "ok", "revision": self.revision}
            line |= {"succeeded": done} if kind == "cas" else {"deleted": int(done)} if kind == "delete" else {}
        self.lines.append(line)

    def _commit(self, data: bytes) -> None:
        self.log.append(entry(len(self.log) + 1, data=data))

    @property
    def history(self) -> History:
        return read_history([orjson.dumps(line) for line in self.lines])

    def logs(self, count: int = 3) -> list[Log]:
        return [Log(f"m{n}", list(self.log), 1, len(self.log)) for n in range(count)]


def evidence(store: Store, logs: list[Log] | None = None, base_index: int = 0) -> Evidence:
    history = store.history
    logs = store.logs() if logs is None else logs
    return find(history, [], open_writes(history, ()), logs, members=3, base_index=base_index)


@given(st.integers(0, 2**32), st.integers(1, 30))
def test_all_that_is_said_is_true_and_the_history_stays_right(seed: int, count: int) -> None:
    store = Store(seed)
    store.run(count)
    history, found = store.history, evidence(store)
    for row, revision in found.happened.items():
        assert store.truth[row] == revision
    for row in found.never:
        assert store.truth[row] == 0
    assert store.missing <= found.never
    unknown = set(store.truth)
    assert set(found.happened) | found.never | found.committed <= unknown
    report = check(found.applied(history), known=found.told)
    assert report.verdict == Verdict.LINEARIZABLE
    assert set(found.happened) <= set(report.settled)


@given(st.integers(0, 2**32), st.integers(0, 30), st.integers(0, 30))
def test_it_stays_true_when_logs_are_short_or_late(seed: int, first: int, cut: int) -> None:
    store = Store(seed)
    store.run(20)
    late = Log("m0", store.log[first:], 1, len(store.log))
    short = Log("m1", store.log[: len(store.log) - cut], 1, 0)
    found = evidence(store, [late, short])
    assert all(store.truth[row] == revision for row, revision in found.happened.items())
    assert all(store.truth[row] == 0 for row in found.never)


def lines(*found: Line) -> History:
    out = []
    for n, line in enumerate(found):
        times = {"process": n, "invoke_ns": n * 10, "return_ns": n * 10 + 5}
        out.append(times | line | ({"return_ns": None} if line["outcome"] == "unknown" else {}))
    return read_history([orjson.dumps(one) for one in out])


def ok(key: str, value: str, revision: int) -> Line:
    return {"op": "put", "key": key, "value": value, "outcome": "ok", "revision": revision}


def lost(key: str, value: str) -> Line:
    return {"op": "put", "key": key, "value": value, "outcome": "unknown"}


def logs(*data: bytes, members: int = 3, first: int = 1) -> list[Log]:
    made = [entry(first + n, data=one) for n, one in enumerate(data)]
    return [Log(f"m{n}", list(made), 1, first + len(made) - 1) for n in range(members)]


WRITES = lines(ok("a", "1", 2), lost("a", "2"), ok("end", "e", 4))


def search(history: History, found: list[Log], base_index: int = 0) -> Evidence:
    return find(history, [], open_writes(history, ()), found, members=3, base_index=base_index)


def test_a_write_between_two_of_known_revision_has_the_one_between() -> None:
    found = search(WRITES, logs(put("a", "1"), put("a", "2"), put("end", "e")))
    assert (found.happened, found.never, found.committed) == ({1: 3}, set(), set())


def test_a_write_in_no_log_never_happened_and_fails_in_the_check() -> None:
    found = search(WRITES, logs(put("a", "1"), put("x", "2"), put("end", "e")))
    assert (found.happened, found.never) == ({}, {1})
    assert found.applied(WRITES).outcome[1] == Outcome.FAIL
    assert WRITES.outcome[1] == Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("found", "base_index"),
    [
        pytest.param(logs(put("a", "1"), put("x", "2"), put("end", "e"), members=2), 0, id="a log is missing"),
        pytest.param(logs(put("a", "1"), put("x", "2"), put("end", "e"), first=5), 3, id="begins after the base"),
        pytest.param(logs(put("a", "1"), put("x", "2")), 0, id="ends before the last write"),
        pytest.param(logs(put("a", "1"), proto((2, b"a")), put("end", "e")), 0, id="an entry is not understood"),
    ],
)
def test_never_is_not_said(found: list[Log], base_index: int) -> None:
    assert search(WRITES, found, base_index).settled == 0


def test_never_is_not_said_of_what_one_log_holds_without_being_committed() -> None:
    found = logs(put("a", "1"), put("x", "2"), put("end", "e"))
    found[2].entries.append(entry(4, data=put("a", "2")))
    assert search(WRITES, found).settled == 0


def test_a_value_written_twice_is_no_evidence() -> None:
    twice = lines(ok("a", "1", 2), lost("a", "2"), lost("a", "2"), ok("end", "e", 4))
    assert search(twice, logs(put("a", "1"), put("a", "2"), put("end", "e"))).settled == 0


def test_under_an_alarm_the_count_decides_whether_a_write_was_done() -> None:
    alarm = request((10, proto((1, 1))))
    data = (put("a", "1"), alarm, put("a", "2"), put("end", "e"))
    assert search(WRITES, logs(*data)).happened == {1: 3}
    refused = lines(ok("a", "1", 2), lost("a", "2"), ok("end", "e", 3))
    assert search(refused, logs(*data)).never == {1}
    half = lines(ok("a", "1", 2), lost("a", "2"), lost("a", "3"), ok("end", "e", 4))
    found = search(half, logs(*data[:3], put("a", "3"), data[3]))
    assert (found.settled, found.committed) == (0, {1, 2})


def test_a_count_that_does_not_fit_is_an_error_not_evidence() -> None:
    with pytest.raises(WalError, match="are 1 to 1 entries"):
        search(lines(ok("a", "1", 2), ok("end", "e", 9)), logs(put("a", "1"), put("x", "y"), put("end", "e")))
    with pytest.raises(WalError, match="comes before"):
        search(lines(ok("a", "1", 2), ok("b", "2", 3)), logs(put("b", "2"), put("a", "1")))


@pytest.mark.parametrize(
    ("data", "takes"),
    [
        (put("k", "v"), Takes.CERTAINLY),
        (put("k", "v", lease=5), Takes.PERHAPS),
        (cas("k", "v"), Takes.PERHAPS),
        (delete("k"), Takes.PERHAPS),
        (request((4, proto((1, b"k"), (2, b"v"))), user=b"root"), Takes.PERHAPS),
        (request((9, proto((1, 5)))), Takes.PERHAPS),
        (request((7, proto((1, 5)))), Takes.NO),
        (b"", Takes.NO),
        (b"\xff\xff", Takes.PERHAPS),
    ],
)
def test_which_requests_take_a_revision(data: bytes, takes: Takes) -> None:
    assert request_of(entry(1, data=data)).takes == takes


def test_a_watch_is_whole_from_the_base_to_the_end_and_without_compaction() -> None:
    created = {"watch": 0, "event": "created", "key": "", "prefix": True, "start_revision": 2, "revision": 1}
    event = {"watch": 0, "event": "put", "key": "end", "value": "e", "mod_revision": 9}
    gap = {"watch": 0, "event": "compacted", "compact_revision": 5}
    resumed = created | {"start_revision": 6}

    def whole(*told: Line, base: int = 1) -> bool:
        return watched_whole(read_watch([orjson.dumps(one) for one in told]), base, "end")

    assert whole(created, event)
    assert not whole(created)
    assert not whole(created, gap, resumed, event)
    assert not whole(resumed, event)
