"""A scenario's figure held against its rule: what the step says, and what is looked at again on a miss."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.harness import judging as module
from chaos.harness.judging import expect, first_event, in_time, own_term, patience
from chaos.harness.scenario_run import ScenarioRun
from chaos.measure.events import Event
from chaos.oracle.delays import Machine
from chaos.report import Recorder, Report, Scenario, ScenarioRecorder
from chaos.workload.outcome import Op, Outcome
from machine.errors import DeadlineError, InconclusiveError
from tests.manifests import manifest

SECOND = 10**9

MANIFEST = manifest("a", heartbeat_ms=100)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScenarioRun]:
    """A scenario whose lab is a manifest, whose log is empty and whose machine is quick."""
    monkeypatch.setattr(module, "probe", lambda _: Machine(fsync=0.001))
    recorder = Recorder(tmp_path, Report(started="now"))
    scenario = ScenarioRecorder(recorder, Scenario(id="O9", title="t"))
    lab: Any = SimpleNamespace(manifest=MANIFEST)
    made = ScenarioRun(cast("Any", SimpleNamespace(lab=lab)), scenario, cast("Any", None))
    made.measures = cast("Any", SimpleNamespace(collect=list, missing=[], unread=lambda _: ""))
    yield made
    recorder.close()


def log(play: ScenarioRun, *events: Event) -> None:
    play.measures = cast("Any", SimpleNamespace(collect=lambda: list(events), missing=[], unread=lambda _: ""))


@contextmanager
def last_step(play: ScenarioRun, verdict: str) -> Iterator[None]:
    yield
    step = play.recorder.scenario.steps[-1]
    assert step.verdict == verdict
    assert "0.90 to 2.10 s" in step.expected


def test_what_is_inside_passes_and_is_kept(play: ScenarioRun) -> None:
    with last_step(play, "pass"):
        assert expect(play, "election", 1.5, window=None).verdict == "inside"
    (kept,) = play.recorder.scenario.metrics["judgements"]
    assert (kept["rule"], kept["verdict"]) == ("election", "inside")


def test_what_is_outside_on_a_quick_machine_fails(play: ScenarioRun) -> None:
    with last_step(play, "fail"), pytest.raises(AssertionError, match="too much"):
        expect(play, "election", 5.0, window=None)


def test_a_further_round_in_the_log_is_found_on_a_miss(play: ScenarioRun) -> None:
    text = "x is starting a new election at term 2"
    log(play, *(Event(at * SECOND, "a", "election", text) for at in (2, 3)))
    assert expect(play, "election", 3.5, window=(0, 4 * SECOND)).verdict == "inside"
    with pytest.raises(AssertionError):
        expect(play, "election", 3.5, window=(0, 2 * SECOND))


def test_a_machine_that_is_slow_only_now_makes_it_inconclusive(
    play: ScenarioRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "probe", lambda _: Machine(scheduling=0.4))
    with (
        last_step(play, "inconclusive"),
        pytest.raises(InconclusiveError, match="scheduling delay in the guest of 400 ms"),
    ):
        expect(play, "election", 9.0, window=None)


def test_a_leader_that_says_it_was_late_makes_it_inconclusive(play: ScenarioRun) -> None:
    text = "leader failed to send out heartbeat on time; took too long exceeded-duration=352.5ms"
    log(play, Event(SECOND, "a", "health", text))
    with pytest.raises(InconclusiveError, match="352 ms"):
        expect(play, "election", 5.0, window=(0, 4 * SECOND))


def test_a_broken_promise_is_excused_by_nothing(play: ScenarioRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "probe", lambda _: Machine(scheduling=9))
    with pytest.raises(AssertionError):
        expect(play, "lease-no-quorum", 1, window=None)


def test_a_log_without_the_event_is_inconclusive(play: ScenarioRun) -> None:
    log(play, Event(SECOND, "etcd10", "leader-lost", "x"))
    assert first_event(play, "leader-lost", 0, node="etcd10").at_ns == SECOND
    with pytest.raises(InconclusiveError):
        first_event(play, "leader-lost", 0, node="etcd1")
    with pytest.raises(InconclusiveError):
        first_event(play, "leader-lost", 2 * SECOND)


def test_the_term_of_a_lonely_member_is_read_from_its_campaigns(play: ScenarioRun) -> None:
    texts = ("x became pre-candidate at term 2", "x became candidate at term 3", "x became candidate at term 4")
    log(play, *(Event(at * SECOND, "b", "election", text) for at, text in enumerate(texts, 1)))
    assert own_term(play, "b", 0, 9 * SECOND, 2) == 4
    assert own_term(play, "b", 0, 2 * SECOND, 2) == 3
    assert own_term(play, "a", 0, 9 * SECOND, 2) == 2


LATE = DeadlineError("a leader", seconds=19, last="nobody leads")


def waited(seconds: float) -> DeadlineError:
    """What a wait ends with that took so long."""
    ended = threading.Event()
    ended.wait(seconds)
    return LATE


def test_a_wait_that_runs_out_on_a_quick_machine_stays_a_fail(play: ScenarioRun) -> None:
    with pytest.raises(DeadlineError, match="a leader: not within 19 s"), patience(play):
        raise LATE


def test_a_wait_that_runs_out_is_excused_by_calibration_without_another_look(
    play: ScenarioRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "probe", lambda _: pytest.fail("nothing more is asked of a slow machine"))
    play.machine = Machine(fsync=0.2)
    with pytest.raises(InconclusiveError, match=r"not within 19 s.* of 200 ms is more than T/10"), patience(play):
        raise LATE


def test_a_wait_that_runs_out_is_excused_by_the_machine_as_it_is_now(
    play: ScenarioRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "probe", lambda _: Machine(scheduling=0.4))
    with pytest.raises(InconclusiveError, match="scheduling delay in the guest of 400 ms"), patience(play):
        raise LATE
    assert play.machine.scheduling == 0.4


def test_only_heartbeats_that_were_late_during_the_wait_excuse_it(play: ScenarioRun) -> None:
    text = "leader failed to send out heartbeat on time; took too long exceeded-duration=352.5ms"
    log(play, Event(time.monotonic_ns(), "a", "health", text))
    with pytest.raises(DeadlineError), patience(play):
        raise LATE
    log(play, Event(time.monotonic_ns() + SECOND // 2, "a", "health", text))
    with pytest.raises(InconclusiveError, match="352 ms"), patience(play):
        raise waited(1.0)


def test_patience_has_none_with_what_is_wrong(play: ScenarioRun) -> None:
    play.machine = Machine(fsync=9)
    with pytest.raises(AssertionError, match="stale"), patience(play):
        raise AssertionError("stale")


def answered(outcome: Outcome, code: str = "", error: str = "") -> Op:
    return Op(1, "a", "get", "k", None, 0, SECOND, outcome, None, None, (), code, error)


def test_only_silence_is_a_matter_of_time() -> None:
    assert in_time(answered("ok"), 5).ok
    with pytest.raises(DeadlineError, match="get k on a: not within 5 s"):
        in_time(answered("unknown", "DEADLINE_EXCEEDED"), 5)
    with pytest.raises(AssertionError):
        in_time(answered("fail", "PERMISSION_DENIED", "no"), 5)
