"""Sources of evidence: which settings and answers take one away, and what must not be judged without it."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.evidence.sources import ALL, SOURCES, Missing, of_settings, without_fault, without_rule
from chaos.faults.registry import kind
from chaos.harness import judging as module
from chaos.harness.judging import expect, first_event, own_term, patience
from chaos.harness.scenario_run import ScenarioRun
from chaos.measure import events, preflight
from chaos.measure.clocks import ClockMap, Reading
from chaos.measure.measures import _proper
from chaos.measure.preflight import merged, missing_sources, of_journal
from chaos.measure.sampler import Sampler
from chaos.measure.samples import sample_of
from chaos.measure.traffic import Reading as TrafficReading
from chaos.measure.traffic import Traffic
from chaos.member.etcd_unit import wait_ended
from chaos.oracle.delays import Machine
from chaos.oracle.rules import RULES
from chaos.report import Recorder, Report, Scenario, ScenarioRecorder
from infra.cluster import EndpointStatus
from machine.errors import DeadlineError, InconclusiveError, LabError, UsageError
from machine.paths import CHECKOUT
from machine.ssh import SshError
from tests.manifests import manifest

SECOND = 10**9


def gone(extra: dict[str, object]) -> set[str]:
    return {one.source for one in of_settings(extra)}


@pytest.mark.parametrize(
    ("extra", "lost"),
    [
        ({}, set()),
        ({"log-level": "info"}, set()),
        ({"log-level": "debug"}, set()),
        ({"log-level": "warn"}, {"log"}),
        ({"log-level": "WARN"}, {"log"}),
        ({"log-level": "error"}, {"log", "warnings"}),
        ({"log-level": "panic"}, {"log", "warnings"}),
        ({"log-level": "fatal"}, {"log", "warnings"}),
        ({"log-outputs": "/var/log/etcd.log"}, {"log", "warnings", "lines"}),
        ({"log-outputs": ["/var/log/etcd.log"]}, {"log", "warnings", "lines"}),
        ({"log-outputs": ["/var/log/etcd.log", "stderr"]}, set()),
        ({"log-outputs": "systemd/journal"}, set()),
        ({"log-outputs": "default"}, set()),
        ({"log-format": "console"}, {"lines"}),
        ({"log-format": "json"}, set()),
        ({"logger": "capnslog"}, {"lines"}),
        ({"quota-backend-bytes": 1}, set()),
    ],
)
def test_settings_that_take_a_source_away_are_known_before_the_run(extra: dict[str, object], lost: set[str]) -> None:
    assert gone(extra) == lost
    for one in of_settings(extra):
        assert next(iter(extra)) in one.why
        assert next(iter(extra)) in one.next


def test_the_table_names_rules_and_faults_that_there_are() -> None:
    for source in SOURCES.values():
        assert set(source.rules) <= set(RULES), source.name
        for fault in source.faults:
            assert kind(fault).name == fault


def test_the_documentation_has_every_source() -> None:
    page = (CHECKOUT / "docs" / "oracle.md").read_text()
    for source in SOURCES.values():
        assert f"| {source.title} | `{source.file}` | {source.rests}" in page


def test_every_rule_whose_figure_depends_on_rounds_rests_on_the_log() -> None:
    by_rounds = {name for name, rule in RULES.items() if "rounds" in rule.formula}
    assert by_rounds
    assert by_rounds <= set(SOURCES["log"].rules)


def test_what_is_missing_says_what_cannot_be_known_without_it() -> None:
    (one,) = of_settings({"log-level": "warn"})
    text = one.full
    assert "log-level is warn" in str(one)
    assert "snapshot-lag" not in str(one)
    for what in ("election_rounds", "term-alone", "snapshot-lag"):
        assert what in text


# -- what the nodes answer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "lost", "why"),
    [
        ("info=1 any=1 kept=yes", set(), ""),
        ("info=0 any=1 kept=yes", {"log"}, "none of level info"),
        ("info=0 any=0 kept=yes", {"log"}, "no line of etcd"),
        ("info=1 any=1 kept=no", {"earlier-boots"}, "kept in memory"),
        ("", {"log", "earlier-boots"}, "no line"),
    ],
)
def test_a_journal_without_lines_or_in_memory_is_named(answer: str, lost: set[str], why: str) -> None:
    found = of_journal("etcd1", answer)
    assert {one.source for one in found} == lost
    assert why in "".join(str(one) for one in found)


def test_what_all_nodes_lack_is_said_once() -> None:
    each = [Missing("log", node, "w") for node in ("a", "b")]
    assert merged(each, ("a", "b")) == [Missing("log", ALL, "w")]
    assert merged(each, ("a", "b", "c")) == each


@pytest.fixture
def consoles(tmp_path: Path) -> Path:
    for node in ("a", "b"):
        (tmp_path / f"{node}.log").touch()
    return tmp_path


def lab_that(consoles: Path, journal: Any, page: Any, **fields: Any) -> Any:
    return SimpleNamespace(  # noqa: S604 - no shell of this machine
        manifest=manifest("a", "b", **fields),
        shell=lambda node: node,
        paths=SimpleNamespace(consoles=consoles),
        inside=SimpleNamespace(run=journal),
        cluster=SimpleNamespace(metrics=page),
    )


PAGE = (Path(__file__).parent / "metrics_pages" / "etcd-3.6-first.txt").read_text()
WELL = "info=1 any=1 kept=yes"


def says(text: str) -> Any:
    return lambda *_, **__: SimpleNamespace(stdout=text)


def test_a_usual_lab_lacks_nothing(consoles: Path) -> None:
    assert missing_sources(lab_that(consoles, says(WELL), lambda *_: PAGE)) == []


def test_a_console_that_is_not_kept_is_named(consoles: Path) -> None:
    (consoles / "b.log").unlink()
    (one,) = missing_sources(lab_that(consoles, says(WELL), lambda *_: PAGE))
    assert (one.source, one.node) == ("console", "b")


def test_nodes_that_do_not_answer_and_pages_that_are_none_are_named(consoles: Path) -> None:
    def journal(shell: str, *_: Any, **__: Any) -> Any:
        if shell == "b":
            raise SshError("b", "connect", "refused")
        return SimpleNamespace(stdout=WELL)

    found = missing_sources(lab_that(consoles, journal, lambda *_: "<html>"))
    assert [(one.source, one.node, one.known) for one in found] == [("log", "b", False), ("metrics", ALL, True)]


def test_a_setting_and_what_comes_of_it_on_the_nodes_are_one_thing(consoles: Path) -> None:
    lab = lab_that(consoles, says("info=0 any=1 kept=yes"), lambda *_: PAGE, etcd_extra={"log-level": "warn"})
    (one,) = missing_sources(lab)
    assert (one.source, one.node) == ("log", ALL)
    assert "log-level" in one.why


def test_the_script_tells_info_lines_of_every_format() -> None:
    """What grep looks for: zap's JSON, zap's console, capnslog of 3.4."""
    for line in ('{"level":"info","ts":"x"}', "2026\tinfo\tmain", "2026-01-01 00:00:00.0 I | etcdmain: x"):
        assert any(part in line for part in ('"level":"info"', "\tinfo\t", " I | "))
    for part in ('"level":"info"', "\tinfo\t", " I | "):
        assert part in preflight._SCRIPT


# -- what rests on them --------------------------------------------------------------------------------------------

QUIET = Missing("log", ALL, "log-level is warn, so that etcd does not write it")
SILENT = Missing("warnings", ALL, "log-level is error, so that etcd does not write it")


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A scenario on a quick machine whose log tells nothing, as with log-level warn."""
    monkeypatch.setattr(module, "probe", lambda _: Machine(fsync=0.001))
    recorder = Recorder(tmp_path, Report(started="now"))
    lab: Any = SimpleNamespace(manifest=manifest("a", "b", heartbeat_ms=100), keeper=None)
    run = cast("Any", SimpleNamespace(lab=lab))
    made = ScenarioRun(run, ScenarioRecorder(recorder, Scenario(id="O9", title="t")), cast("Any", None))
    made.missing = [QUIET]
    made.measures = cast(
        "Any", SimpleNamespace(collect=list, missing=[QUIET], unread=lambda _: str(QUIET), phase_ends=str)
    )
    yield made
    recorder.close()


def test_a_miss_without_the_log_is_inconclusive_since_rounds_would_not_show(play: ScenarioRun) -> None:
    with pytest.raises(InconclusiveError, match="log-level is warn"):
        expect(play, "election", 5.0, window=(0, 9 * SECOND))
    (kept,) = play.recorder.scenario.metrics["judgements"]
    assert kept["verdict"] == "inconclusive"
    assert play.recorder.scenario.steps[-1].verdict == "inconclusive"


def test_what_is_inside_needs_no_log(play: ScenarioRun) -> None:
    assert expect(play, "election", 1.5, window=(0, 9 * SECOND)).verdict == "inside"


def test_a_rule_that_needs_no_log_fails_without_it_too(play: ScenarioRun) -> None:
    with pytest.raises(AssertionError):
        expect(play, "lease-no-quorum", 1, window=None)


def test_the_term_of_a_lonely_member_is_not_taken_for_still_without_its_log(play: ScenarioRun) -> None:
    with pytest.raises(InconclusiveError, match=r"term of a cannot be known.*log-level is warn"):
        own_term(play, "a", 0, 9 * SECOND, 2)


def test_an_event_that_the_log_cannot_show_names_the_reason(play: ScenarioRun) -> None:
    with pytest.raises(InconclusiveError, match="log-level is warn"):
        first_event(play, "leader-lost", 0)


def test_a_wait_that_runs_out_is_inconclusive_where_late_heartbeats_would_not_show(play: ScenarioRun) -> None:
    late = DeadlineError("a leader", seconds=19, last="none leads")
    with pytest.raises(DeadlineError), patience(play):
        raise late
    play.measures = cast("Any", SimpleNamespace(collect=list, missing=[QUIET, SILENT]))
    with pytest.raises(InconclusiveError, match="log-level is error"), patience(play):
        raise late


def test_a_fault_that_cannot_be_proved_is_not_injected(play: ScenarioRun) -> None:
    with pytest.raises(InconclusiveError, match=r"snapshot-lag cannot be proved.*log-level is warn"):
        play.inject("snapshot-lag", "a")
    assert play.recorder.scenario.judge() == "inconclusive"
    assert play.recorder.scenario.faults == []


def test_by_hand_a_fault_that_cannot_be_proved_is_refused_with_what_to_change() -> None:
    lab: Any = SimpleNamespace(
        manifest=manifest(etcd_extra={"log-level": "warn"}),
        leader=lambda: "etcd1",
        running=lambda: ["etcd1", "etcd2", "etcd3"],
    )
    with pytest.raises(UsageError, match="snapshot-lag cannot be proved") as refused:
        kind("snapshot-lag").declare(lab, ("etcd2",), {})
    assert "log-level of etcd-extra to info" in str(refused.value)


def test_what_is_missing_on_one_node_only_counts_there() -> None:
    one = [Missing("log", "a", "w")]
    assert without_rule(one, "election", ["a", "b"]) is one[0]
    assert without_rule(one, "election", ["b"]) is None
    assert without_rule(one, "lease-granted", ["a"]) is None
    assert without_fault(one, "snapshot-lag", ["b"]) is None


# -- found while measuring -----------------------------------------------------------------------------------------


class Ended:
    """A child process that has ended, or has not."""

    def __init__(self, words: str = "") -> None:
        self.words = words

    def alive(self) -> bool:
        return not self.words

    def last_words(self) -> str:
        return self.words

    def close(self) -> None:
        pass


def sampled(tmp_path: Path, child: Ended, *nodes: str, seconds: float) -> Sampler:
    """A sampler of a and b that has run so long, with samples of these nodes, and is closed."""
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(sample_of(EndpointStatus(node, ok=True), 1, 0.1).line() for node in nodes))
    sampler = Sampler([("a", "127.0.0.1:1"), ("b", "127.0.0.1:2")], path, period=1.0)
    sampler._child = cast("Any", child)
    sampler._begun = time.monotonic() - seconds
    sampler.close()
    return sampler


def test_a_sampler_that_ended_early_says_how(tmp_path: Path) -> None:
    (problem,) = sampled(tmp_path, Ended("The sampler ended with status 1: no space"), "a", seconds=30).problems
    assert problem == "The sampler ended with status 1: no space; 1 samples were taken until then"


def test_members_without_a_sample_are_named_once_they_should_have_one(tmp_path: Path) -> None:
    assert sampled(tmp_path, Ended(), "a", "b", seconds=30).problems == []
    assert sampled(tmp_path, Ended(), "a", seconds=30).problems == ["no sample of b in 30 s"]
    assert sampled(tmp_path, Ended(), seconds=30).problems == ["no sample of a, b in 30 s"]
    assert sampled(tmp_path, Ended(), seconds=1).problems == []


def test_a_real_sampler_that_is_killed_says_so(tmp_path: Path) -> None:
    sampler = Sampler([("a", "127.0.0.1:1")], tmp_path / "samples.jsonl", period=0.2)
    with sampler:
        assert sampler._child is not None
        os.kill(sampler._child.pid, signal.SIGKILL)
        sampler._child._process.wait(10)
    (problem,) = sampler.problems
    assert "The sampler ended with status -9" in problem


@pytest.mark.parametrize("what", ["log-level warn", "a node that is not reached"])
def test_figures_that_rest_on_a_missing_log_are_left_out(what: str) -> None:
    """`stepped down` is a warning: a log of that level alone would tell of an election of one round."""
    missing = [QUIET] if what == "log-level warn" else [Missing("log", "a", "SSH")]
    found: dict[str, object] = {"detected": 1.0, "election_rounds": 1, "new_leader": 2.0, "first_write": 3.0}
    assert _proper(found, missing) == {"new_leader": 2.0, "first_write": 3.0}
    assert _proper(found, []) == found
    assert "new_leader" not in _proper(found, [Missing("samples", ALL, "w")])


def fetched(stdout: str, stderr: str = "") -> str:
    shell: Any = SimpleNamespace(
        name="etcd1", run=lambda *_, **__: SimpleNamespace(stdout=stdout, stderr=stderr, status=0)
    )
    return events.fetch(shell, 5.0)


def test_a_journal_that_cannot_be_read_is_an_error_and_no_empty_log() -> None:
    assert fetched("") == ""
    assert fetched("{}\n", "a warning") == "{}\n"
    with pytest.raises(LabError, match=r"journal of etcd1 cannot be read.*seek to cursor"):
        fetched("", "Failed to seek to cursor: Cannot assign requested address")


def test_lines_of_a_boot_that_was_never_read_are_counted() -> None:
    clock = ClockMap([Reading("a", "b1", 5.0, 10**9, 0.01, 0.01)])
    lines = "".join(json.dumps({"MESSAGE": "x", "_BOOT_ID": boot}) + "\n" for boot in ("b1", "b2", "b2"))
    assert events.unplaced(lines, clock) == 2
    assert events.unplaced("", clock) == 0


@pytest.mark.parametrize(
    ("line", "told", "level"),
    [
        (
            "2026-01-01T00:00:01.500Z\tinfo\traft\tetcdserver/zap_raft.go:77\ta is starting a new election at term 2",
            "a is starting a new election at term 2",
            "info",
        ),
        (
            '2026-01-01T00:00:01.5Z\tWARN\traft.go:1\tfailed to send out heartbeat\t{"exceeded-duration": "5s"}',
            "failed to send out heartbeat exceeded-duration=5s",
            "warn",
        ),
    ],
)
def test_the_console_format_is_read_like_json(line: str, told: str, level: str) -> None:
    assert events.unwrap(line) == (told, level, 1767225601.5)


def test_pages_that_were_not_read_are_named_with_the_reason(tmp_path: Path) -> None:
    done: Future[TrafficReading] = Future()
    done.set_exception(LabError("b shows no metrics: HTTP status 404"))
    traffic = Traffic(cast("Any", None), tmp_path / "traffic.jsonl")
    traffic._asked = [done]
    assert traffic.problems == ["metrics of b: HTTP status 404"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [("1\n0\n", ""), ("0\n0\n", "rotated"), ("1\n2\n", "suppressed"), ("0\n2\n", "suppressed"), ("", "not known")],
)
def test_a_journal_that_dropped_lines_is_said(answer: str, words: str) -> None:
    shell: Any = SimpleNamespace(run=lambda *_, **__: SimpleNamespace(stdout=answer))
    found = events.lost(shell, 1000.0)
    assert words in found
    assert bool(words) == bool(found)


def test_the_end_of_a_member_whose_log_goes_elsewhere_is_not_waited_for() -> None:
    lab: Any = SimpleNamespace(manifest=manifest(etcd_extra={"log-outputs": "/var/log/etcd.log"}))
    with pytest.raises(InconclusiveError, match=r"Why etcd1 ends cannot be read.*log-outputs"):
        wait_ended(lab, "etcd1", "boot", 60)
