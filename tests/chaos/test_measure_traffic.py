"""Flushes and traffic by phase: pages that etcd 3.6.16 really gave, a restart, silence, and what sampling may cost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.measure.sampling_budget import SHARE, Cost, SamplingBudget
from chaos.measure.traffic import MOST, UNREAD, Pages, Phase, Reading, Traffic, phases, rates, reading_of
from infra.cluster import Cluster
from machine.paths import StackPaths
from tests.manifests import manifest

PAGES = Path(__file__).parent / "metrics_pages"
"""Of one of two members on loopback: after 5 puts to the other; after 10 s and 20 puts to itself; after a restart."""

SECOND = 10**9


def recorded(name: str, at: float, node: str = "a") -> Reading:
    return reading_of(node, (PAGES / f"etcd-3.6-{name}.txt").read_text(), round(at * SECOND))


def test_a_page_of_etcd_becomes_counters() -> None:
    """Read off the recorded page by eye."""
    page = recorded("second", 1)
    assert (page.fsyncs, page.commits) == (33, 18)
    assert page.fsync_seconds == pytest.approx(0.0693, abs=1e-4)
    assert page.peer_sent == 10129
    assert page.peer_received == 280 + 7329
    assert (page.client_sent, page.client_received) == (540, 2130)
    assert page.started == pytest.approx(1795370781.29)


def test_between_two_pages_stand_means_and_rates() -> None:
    first, second = recorded("first", 100), recorded("second", 110)
    found = rates(first, second)
    assert found is not None
    assert found["seconds"] == 10
    assert found["fsyncs_per_second"] == pytest.approx((33 - first.fsyncs) / 10, abs=0.01)
    mean = (second.fsync_seconds - first.fsync_seconds) / (33 - first.fsyncs)
    assert found["fsync_mean_seconds"] == pytest.approx(mean, abs=1e-5)
    assert found["client_received_bytes_per_second"] == 213, "20 puts of 100 bytes and their keys, in 10 s"
    assert found["restarted"] is False


def test_counters_of_a_new_process_count_from_nothing() -> None:
    second, anew = recorded("second", 110), recorded("restarted", 115)
    found = rates(second, anew)
    assert found is not None
    assert found["restarted"] is True
    assert found["fsyncs_per_second"] == pytest.approx(anew.fsyncs / 5, abs=0.01)
    assert found["peer_sent_bytes_per_second"] == round(anew.peer_sent / 5)


def test_another_start_with_no_counter_that_fell_tells_nothing() -> None:
    """A wall clock that was set moves the start of every process; an old page and a much later one look the same."""
    first, second = recorded("first", 100), recorded("second", 110)
    assert rates(first, replace(second, started=second.started + 3600)) is None
    assert rates(first, replace(second, started=second.started + 0.5)) is not None


def test_without_a_flush_there_is_no_mean() -> None:
    first = recorded("first", 100)
    found = rates(first, replace(first, at_ns=first.at_ns + 4 * SECOND))
    assert found is not None
    assert found["fsync_mean_seconds"] is None
    assert found["fsyncs_per_second"] == 0


def test_a_member_that_was_not_reached_has_no_figures_of_the_phases_beside() -> None:
    def at(when: float, *nodes: str) -> list[Reading]:
        return [recorded("first", when, node) for node in nodes]

    ends: dict[Phase, list[Reading]] = {"before": at(10, "a", "b"), "during": at(40, "b"), "after": at(60, "a", "b")}
    found = phases(at(0, "a", "b"), ends)
    assert {phase: list(members) for phase, members in found.items()} == {
        "before": ["a", "b"],
        "during": ["b"],
        "after": ["b"],
    }
    assert phases(at(0, "a"), {"before": at(1, "a")}) == {}, "too short to tell a rate"


def test_what_is_no_page_of_etcd_is_refused() -> None:
    with pytest.raises(ValueError, match="no metrics page"):
        reading_of("a", "go_goroutines 5\n", 0)


@pytest.fixture
def served() -> Iterator[tuple[int, list[int]]]:
    """A port that gives a recorded page, and the ports that asked."""
    asked: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.client_address[1])
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write((PAGES / "etcd-3.6-first.txt").read_bytes())

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port, asked
        server.shutdown()
        thread.join()


def test_a_page_is_asked_for_from_the_ports_that_cuts_let_pass(
    served: tuple[int, list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, asked = served
    monkeypatch.setattr("infra.gateway.METRICS_PORT", port)
    lab = manifest("a")
    here = lab.model_copy(update={"nodes": (lab.nodes[0].model_copy(update={"address": IPv4Address("127.0.0.1")}),)})
    pages = Pages(Cluster(here, StackPaths(tmp_path, "lab")), 1.5)
    (reading,) = pages.read()
    assert reading.result(10).fsyncs > 0
    assert 20000 <= asked[0] < 30000
    assert [one.node for one in pages.recent()] == ["a"]
    pages.close()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.floats(1, 300), st.booleans(), st.integers(0, MOST)), min_size=1, max_size=60))
def test_through_a_run_sampling_stays_below_its_share(scenarios: list[tuple[float, bool, int]]) -> None:
    """Whatever scenarios ask for: samples and pages take SHARE of all time, and what the last scenario's pages cost."""
    clock, cost, period = Clock(), Cost(0.017, 0.3), 1.5
    allowance = SamplingBudget(cost, period, clock)
    spent = 0.0
    for seconds, sampled, pages in scenarios:
        granted = allowance.enough()
        allowance.sampling(sampled)
        for _ in range(pages if granted else 0):
            allowance.page()
            spent += cost.page
        clock.now += seconds
        spent += cost.sample / period * seconds if sampled else 0.0
        allowance.sampling(False)
    assert spent <= SHARE * clock.now + MOST * cost.page + 1e-6


class Fake:
    """Pages of one member that are read at once, from a list."""

    def __init__(self, afforded: bool, *readings: Reading | None) -> None:
        self.allowance: Any = self
        self.readings = list(readings)
        self.afforded = afforded
        self.sampled: list[bool] = []

    def enough(self) -> bool:
        return self.afforded

    def sampling(self, on: bool) -> None:
        self.sampled.append(on)

    def recent(self) -> list[Reading]:
        return []

    def read(self) -> list[Future[Reading]]:
        asked: Future[Reading] = Future()
        if (next_one := self.readings.pop(0)) is None:
            asked.set_exception(OSError("silent"))
        else:
            asked.set_result(next_one)
        return [asked]


def test_a_scenario_tells_its_phases_and_keeps_its_readings(tmp_path: Path) -> None:
    pages: Any = Fake(True, recorded("first", 100), recorded("second", 110), recorded("second", 140), None)
    traffic = Traffic(pages, tmp_path / "X" / "traffic.jsonl")
    traffic.begin()
    for phase in ("before", "during", "after"):
        traffic.end(phase)
    told: Any = traffic.finish()
    assert list(told["phases"]) == ["before", "during"]
    assert told["phases"]["before"]["a"]["client_received_bytes_per_second"] == 213
    assert (told["readings"], told["without_answer"]) == (3, 1)
    marks = [json.loads(line)["mark"] for line in (tmp_path / "X" / "traffic.jsonl").read_text().splitlines()]
    assert marks == ["begin", "before", "during"]
    assert pages.sampled == [True, False]


def test_a_scenario_that_cannot_afford_pages_reads_none_and_says_why(tmp_path: Path) -> None:
    pages: Any = Fake(False)
    traffic = Traffic(pages, tmp_path / "traffic.jsonl")
    traffic.begin()
    traffic.end("before")
    assert traffic.finish() == {"phases": {}, "readings": 0, "without_answer": 0, "why": UNREAD}
