"""What scenarios do when a cut is over, and while one lasts: the rule of 'all healthy', and whose logs are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.faults.base import Action, Fault, Proof, Result
from chaos.harness import artefacts, judging
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps import leader_steps
from chaos.measure import calibration, measures
from chaos.measure.calibration import calibrate, probe
from chaos.measure.measures import Measures
from chaos.oracle.delays import Machine
from chaos.report import FaultEntry, Recorder, Report, Scenario, ScenarioRecorder
from machine.errors import DeadlineError, InconclusiveError
from machine.paths import StackPaths
from machine.process import Completed
from machine.ssh import SshError
from tests.manifests import manifest

SECOND = 10**9

MANIFEST = manifest(*"abc")


class FakeCluster:
    """Healthy after some time that a clock of ours says has passed, or never."""

    def __init__(self, clock: FakeClock, after: float) -> None:
        self.clock = clock
        self.after = after
        self.limits: list[float] = []

    def wait_healthy(self, seconds: float) -> None:
        self.limits.append(seconds)
        if self.after > seconds:
            raise DeadlineError("A healthy cluster", seconds=seconds, last="b: knows no leader")
        self.clock.now += round(self.after * SECOND)


class FakeClock:
    now = 1000 * SECOND

    def monotonic_ns(self) -> int:
        return self.now


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScenarioRun]:
    """A scenario on a quick machine whose members are healthy at once."""
    clock = FakeClock()
    monkeypatch.setattr(leader_steps, "time", clock)
    monkeypatch.setattr(judging, "probe", lambda _: Machine(fsync=0.001))
    recorder = Recorder(tmp_path, Report(started="now"))
    scenario = ScenarioRecorder(recorder, Scenario(id="N99", title="t"))
    lab: Any = SimpleNamespace(
        manifest=MANIFEST,
        paths=StackPaths(tmp_path, "lab"),
        cluster=FakeCluster(clock, 0.0),
        terms=lambda: {"a": 4, "b": 4},
    )
    made = ScenarioRun(cast("Any", SimpleNamespace(lab=lab)), scenario, cast("Any", None))
    made.measures = cast("Any", SimpleNamespace(collect=list, missing=[], unread=lambda _: ""))
    yield made
    recorder.close()


def cut_for(play: ScenarioRun, seconds: float, name: str = "link-down") -> None:
    begun = FakeClock.now - round(seconds * SECOND)
    play.recorder.scenario.faults.append(
        FaultEntry(
            name=name,
            target="a",
            place="",
            started_ns=begun,
            injected_ns=begun + SECOND,
            mended_ns=FakeClock.now,
            healed_ns=FakeClock.now + 2 * SECOND,
        )
    )


def takes(play: ScenarioRun, seconds: float) -> FakeCluster:
    cluster = cast("FakeCluster", play.lab.cluster)
    cluster.after = seconds
    return cluster


def verdicts(play: ScenarioRun) -> list[tuple[str, str]]:
    return [(step.title, step.verdict) for step in play.recorder.scenario.steps]


def test_thirty_seconds_are_allowed_after_a_cut_of_thirty_four(play: ScenarioRun) -> None:
    cut_for(play, 34)
    takes(play, 30)
    leader_steps.healed(play)
    (kept,) = play.recorder.scenario.metrics["judgements"]
    assert (kept["rule"], kept["verdict"], kept["observed"]) == ("rejoin", "inside", 30.0)
    assert play.recorder.scenario.metrics["heal_to_healthy_seconds"] == 30.0


def test_thirty_seconds_are_too_much_after_a_cut_of_ten(play: ScenarioRun) -> None:
    cut_for(play, 10)
    takes(play, 30)
    with pytest.raises(AssertionError, match="too much"):
        leader_steps.healed(play)
    assert [verdict for _, verdict in verdicts(play)] == ["pass", "fail"]


def test_a_wait_after_a_long_cut_lasts_as_long_as_the_rule_allows_and_more(play: ScenarioRun) -> None:
    cut_for(play, 90)
    limit = takes(play, 80).limits
    leader_steps.healed(play)
    assert limit[0] > 90 + 6


def test_members_that_stay_apart_fail_on_a_quick_machine_and_say_nothing_on_a_slow_one(play: ScenarioRun) -> None:
    cut_for(play, 10)
    takes(play, 900)
    with pytest.raises(DeadlineError):
        leader_steps.healed(play)
    play.machine = Machine(scheduling=1.0)
    with pytest.raises(InconclusiveError, match="scheduling"):
        leader_steps.healed(play)
    assert [verdict for _, verdict in verdicts(play)] == ["fail", "inconclusive"]


def test_what_other_faults_leave_behind_is_observed_only(play: ScenarioRun) -> None:
    cut_for(play, 10, "power-off")
    takes(play, 55)
    leader_steps.healed(play)
    assert verdicts(play) == [("all healthy", "pass")]
    assert "how soon is observed" in play.recorder.scenario.steps[0].expected
    assert "judgements" not in play.recorder.scenario.metrics


class FakeShell:
    """Answers with an empty log; notes who was asked."""

    def __init__(self, name: str, asked: list[str], broken: bool = False) -> None:
        self.name = name
        self.asked = asked
        self.broken = broken

    def open(self, seconds: float) -> None:
        assert seconds <= 10
        self.asked.append(f"open {self.name}")
        if self.broken:
            raise SshError(self.name, "connect", "no answer")

    def run(self, *_: object, **__: object) -> Completed:
        self.asked.append(f"run {self.name}")
        return Completed((), 0, "", "")


def lab_of(asked: list[str], tmp_path: Path, broken: str = "") -> Any:
    shells = {name: FakeShell(name, asked, broken=name == broken) for name in "abc"}
    paths = SimpleNamespace(ca_cert=tmp_path, client_cert=tmp_path, client_key=tmp_path, consoles=tmp_path / "consoles")
    return SimpleNamespace(
        manifest=MANIFEST,
        paths=paths,
        shell=shells.__getitem__,
        cluster=SimpleNamespace(status=list),
        domain_states=dict,
    )


def test_logs_are_read_from_nodes_with_a_link_and_one_that_does_not_answer_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(measures, "linked", lambda _: ["b", "c"])
    monkeypatch.setattr(Measures, "_read", lambda *_: None)  # clocks
    recorder: Any = SimpleNamespace(evidence_dir=tmp_path, faults=[])
    measured = Measures(lab_of(asked, tmp_path, broken="c"), cast("Any", None), recorder)
    assert measured.collect() == []
    assert sorted(asked) == ["open b", "open c", "run b"]
    assert measured.problems == ["log of c: Cannot connect to c"]


def test_artefacts_do_not_wait_for_a_node_without_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(artefacts, "linked_nodes", lambda _: ["a", "b"])
    artefacts.collect(lab_of(asked, tmp_path), tmp_path / "artefacts")
    assert sorted(asked) == ["run a", "run b"]
    assert "no link" in (tmp_path / "artefacts" / "c.etcd.log").read_text()


def test_a_node_without_a_link_is_not_taken_for_one_that_is_stuck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(calibration, "linked", lambda _: ["b"])
    assert probe(lab_of(asked, tmp_path)).stuck == 0
    assert asked == ["run b"]


def test_calibration_connects_everywhere_before_it_measures_anything(tmp_path: Path) -> None:
    asked: list[str] = []
    lab = lab_of(asked, tmp_path, broken="b")
    done = SimpleNamespace(ok=True, seconds=0.01)

    def called(word: str) -> Any:
        def call(*_: object, **__: object) -> Any:
            asked.append(word)
            return done

        return call

    client = SimpleNamespace(put=called("put"), get=called("get"), delete=called("delete"))
    found = calibrate(lab, cast("Any", SimpleNamespace(of=lambda _: client)))
    first_put = asked.index("put")
    assert sorted(asked[:first_put]) == ["get", "open a", "open b", "open c"]
    assert not any(word.startswith("run") for word in asked[: asked.index("delete")]), "put and get have no company"
    assert found.machine.put == 0.01


class FakeStack:
    """Declares every fault as proved, at once; says of the newest and of what was taken away."""

    def __init__(self, *holds: bool) -> None:
        self.declared: list[Fault] = []
        self.stale: Result | None = None
        self.proof = tuple(Proof(f"look {n}", "here", "it", f"saw {n}", holds=one) for n, one in enumerate(holds, 1))

    def set(self, faults: Sequence[Fault]) -> list[Result]:
        done: dict[Action, list[Fault]] = {
            "inject": [one for one in faults if one not in self.declared],
            "heal": [one for one in self.declared if one not in faults],
        }
        self.declared = list(faults)
        return [
            *([self.stale] if self.stale else []),
            *(Result(one.id, one.name, action, one.groups, "", 1, 2, 3, self.proof)
              for action, changed in done.items() for one in changed),
        ]  # fmt: skip


def stacked(play: ScenarioRun, *holds: bool) -> list[object]:
    """Let the scenario make faults; each look of their proof holds or not. Gives the phases that it ends."""
    ended: list[object] = []
    play.measures = cast("Any", SimpleNamespace(phase_ends=ended.append))
    play.stack = cast("Any", FakeStack(*holds))
    lab: Any = play.lab
    run: Any = play.run
    run.keeper = SimpleNamespace(hold=lambda *_: None, release=lambda _: None, problems={})
    lab.running = lambda: list("abc")
    lab.leader = lambda: "c"
    return ended


@pytest.mark.parametrize(("looks", "said"), [(1, "1 proof holds; "), (3, "3 proofs hold; ")])
def test_a_fault_that_shows_says_how_many_proofs_hold(play: ScenarioRun, looks: int, said: str) -> None:
    stacked(play, *(True,) * looks)
    play.heal(play.inject("partition", "a"))
    assert [step.observed.startswith(said) for step in play.recorder.scenario.steps] == [True, True]


def test_a_proof_that_is_missing_is_named_once(play: ScenarioRun) -> None:
    stacked(play, True, False)
    with pytest.raises(InconclusiveError):
        play.inject("partition", "a")
    (step,) = play.recorder.scenario.steps
    assert step.verdict == "inconclusive"
    assert step.observed.startswith("not proved after ")
    assert (step.observed.count("look 2"), step.observed.count("saw 2"), step.observed.count("look 1")) == (1, 1, 0)


def test_a_late_word_of_an_injection_is_not_taken_for_the_heal(play: ScenarioRun) -> None:
    """What broke an update off may leave its provider a moment to tell."""
    stacked(play, True)
    fault = play.inject("partition", "a")
    late = Proof("look 1", "here", "it", "saw it late", holds=False)
    cast("FakeStack", play.stack).stale = Result(fault.id, fault.name, "inject", fault.groups, "", 1, 2, 2, (late,))
    assert play.heal(fault).action == "heal"


def test_phases_end_before_the_first_fault_and_before_the_last_one_is_healed(play: ScenarioRun) -> None:
    told = stacked(play, True)
    first = play.inject("partition", "a")
    second = play.inject("cut-clients", "b")
    assert told == ["before"]
    play.heal(first)
    assert told == ["before"], "another is still in force"
    play.heal(second)
    assert told == ["before", "during"]
    entry = play.recorder.scenario.faults[0]
    assert (entry.started_ns, entry.mended_ns, entry.healed_ns) == (1, 2, 3)
