"""The checks at the end of a scenario, on paper: what makes it pass, fail, or say that nothing was shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chaos.checker.raftlog.copies import Copies
from chaos.checker.raftlog.wal_reader import Log
from chaos.harness.end_checks import Checks, begin, quiesce
from chaos.harness.scenario_run import ScenarioRun
from chaos.report import FaultEntry, Recorder, Scenario, ScenarioRecorder
from chaos.workload.plan import Plan
from chaos.workload.pool import Pool
from chaos.workload.workload import WorkloadSession, _Tail
from infra.cluster import EndpointStatus, KvHash
from machine.child import Line
from machine.errors import InconclusiveError, LabError
from tests.chaos.wal.written import entry
from tests.chaos.wal.written import put as put_request

SECOND = 10**9
NODES = ("etcd1", "etcd2")


class PaperPool(Pool):
    """Workers that are not there: final operations are answered from `store`."""

    def __init__(self, store: Line) -> None:
        super().__init__([])
        self._endpoints = dict.fromkeys(NODES)  # type: ignore[assignment]
        self.store = store

    def each(self, orders: Mapping[str, Line]) -> dict[str, Line | LabError]:
        return {node: self._answer(order) for node, order in orders.items()}

    def _answer(self, order: Line) -> Line:
        if order["order"] == "read_all":
            return {"events": 3, "whole": True}
        if order["request"]["op"] == "range":
            kvs = [{"key": key, "value": value, "mod_revision": mod} for key, (value, mod) in self.store.items()]
            return {"outcome": "ok", "revision": 90, "kvs": kvs}
        return {"outcome": "ok", "revision": 90}


def put(at: int, key: str, value: str, revision: int) -> Line:
    times = {"invoke_ns": at * SECOND, "return_ns": at * SECOND + 1000}
    return {"process": 0, "op": "put", "key": key, "value": value, "revision": revision, "outcome": "ok", **times}


def get(at: int, key: str, value: str | None, revision: int) -> Line:
    return put(at, key, "", revision) | {"process": 1, "op": "get", "value": value}


GOOD: dict[str, list[Line]] = {
    "etcd1": [put(at, f"p/l/0/{at}", f"0:{at}", 10 + at) for at in range(1, 13)],
    "etcd2": [put(20, "p/r/0", "a", 30), get(21, "p/r/0", "a", 30)],
}
STORE = {f"p/l/0/{at}": (f"0:{at}", 10 + at) for at in range(1, 13)} | {"p/r/0": ("a", 30)}


CREATED = {"event": "created", "watch": "etcd1", "key": "p/", "prefix": True, "start_revision": 100}


class Paper:
    """A scenario that is over, its workload, and a cluster."""

    def __init__(
        self,
        directory: Path,
        histories: Mapping[str, list[Line]],
        store: Line,
        hashes: tuple[int, int],
        *,
        watched: bool = True,
    ) -> None:
        recorder = ScenarioRecorder(Recorder.begin(directory), Scenario(id="S0", title="paper"))
        cluster = SimpleNamespace(
            status=lambda: [EndpointStatus(node, ok=True, revision=90, raft_applied_index=99) for node in NODES],
            hashes=lambda _: {node: KvHash(h, -1) for node, h in zip(NODES, hashes, strict=True)},
        )
        lab: Any = SimpleNamespace(cluster=cluster)
        self.play = ScenarioRun(SimpleNamespace(lab=lab), recorder, SimpleNamespace())  # type: ignore[arg-type]
        session = WorkloadSession(
            PaperPool(store), Plan.parse("default,rate=1"), "p/", recorder.evidence_dir, 1, begun_ns=SECOND
        )
        session.directory.mkdir(parents=True)
        for node, lines in histories.items():
            session.history_of(node).write_text("".join(json.dumps({"member": node} | one) + "\n" for one in lines))
            session._tails[node] = _Tail(session.history_of(node))
        session.watch_of(NODES[0]).write_text(json.dumps(CREATED) + "\n" if watched else "")
        session.stopped_ns = 60 * SECOND
        self.play.workload = self.session = session

    def run(self) -> None:
        Checks(self.play, self.session, healthy=True).run()

    @property
    def steps(self) -> dict[str, str]:
        return {step.title: step.verdict for step in self.play.recorder.scenario.steps}


def paper(
    directory: Path,
    *,
    changes: Mapping[str, list[Line]] | None = None,
    lost: str = "",
    hashes: tuple[int, int] = (7, 7),
) -> Paper:
    histories = {node: GOOD[node] + (changes or {}).get(node, []) for node in NODES}
    return Paper(directory, histories, {key: cell for key, cell in STORE.items() if key != lost}, hashes)


def test_a_good_scenario_passes_with_a_step_and_numbers_for_each_promise(tmp_path: Path) -> None:
    made = paper(tmp_path)
    made.run()
    assert made.steps == dict.fromkeys(
        ("workload went on", "final reads", "hash equality", "ledger", "linearizable"), "pass"
    )
    assert made.play.recorder.scenario.metrics["ledger"] == {"acknowledged": 12, "unknown_found": 0}
    assert made.play.recorder.scenario.metrics["check"]["operations"] == 14
    assert (made.session.directory / "history.jsonl").exists()
    assert not list(made.session.directory.glob("worker-*"))


def test_a_write_that_nobody_saw_is_looked_up_in_the_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = {"op": "put", "process": 5, "outcome": "unknown", "return_ns": None, "error": "DEADLINE"}
    changes = {
        "etcd1": [lost | {"key": "p/l/0/90", "value": "0:90", "invoke_ns": 13 * SECOND}],
        "etcd2": [lost | {"process": 6, "key": "p/l/1/91", "value": "1:91", "invoke_ns": 14 * SECOND}],
    }
    done = [(f"p/l/0/{at}", f"0:{at}") for at in range(1, 13)] + [("p/l/0/90", "0:90")]
    pairs = [*done, *((f"other/{n}", "") for n in range(6)), ("p/r/0", "a")]
    entries = [entry(n, data=put_request(*pair)) for n, pair in enumerate(pairs, 1)]
    logs = [Log(node, entries, 1, len(entries)) for node in NODES]
    asked: list[Any] = []

    def collected(*words: Any) -> Copies:
        asked.append(words)
        return Copies(tuple(logs), len(logs), 0)

    monkeypatch.setattr("chaos.harness.end_checks.collect", collected)
    made = paper(tmp_path, changes=changes)
    made.run()
    metrics = made.play.recorder.scenario.metrics["check"]
    assert (metrics["unknown"], metrics["settled"], metrics["settled_by_log"]) == (2, 1, 2)
    step = next(step for step in made.play.recorder.scenario.steps if step.title == "linearizable")
    assert "by the log 1 as done and 1 as never done" in step.observed
    assert [list(words[1]) for words in asked] == [list(NODES)]

    # a fault that etcd does not outlive: its disk may have broken the rules of the log
    made = paper(tmp_path / "again", changes=changes)
    checks = Checks(made.play, made.session, healthy=True)
    checks.unpromised = ["lost-writes"]
    checks.run()
    assert len(asked) == 1


def test_a_stale_read_fails_and_leaves_explanation_and_picture(tmp_path: Path) -> None:
    made = paper(tmp_path, changes={"etcd2": [put(22, "p/r/0", "b", 31), get(23, "p/r/0", "a", 31)]})
    with pytest.raises(AssertionError, match=r"history\.jsonl"):
        made.run()
    assert made.steps["linearizable"] == "fail"
    assert made.steps["ledger"] == "pass"
    assert "p/r/0" in (made.session.directory / "violation.txt").read_text()
    assert (made.session.directory / "violation.svg").read_text().startswith("<svg")


def test_an_acknowledged_write_that_is_gone_fails_the_ledger(tmp_path: Path) -> None:
    made = paper(tmp_path, lost="p/l/0/5")
    with pytest.raises(AssertionError, match="ledger: lost write"):
        made.run()
    assert made.steps["ledger"] == "fail"
    assert made.steps["linearizable"] == "pass"


def test_members_that_differ_fail(tmp_path: Path) -> None:
    made = paper(tmp_path, hashes=(7, 8))
    with pytest.raises(AssertionError, match="members hold different data"):
        made.run()
    assert made.steps["hash equality"] == "fail"
    assert made.steps["linearizable"] == "pass"


def test_a_lab_of_one_member_has_nobody_to_differ_from(tmp_path: Path) -> None:
    made = paper(tmp_path)
    cluster: Any = made.play.lab.cluster
    cluster.hashes = lambda _: {"etcd1": KvHash(7, -1)}
    made.run()
    assert made.steps["hash equality"] == "pass"
    assert "on 1 members" in next(
        step.observed for step in made.play.recorder.scenario.steps if step.title == "hash equality"
    )


def test_after_a_fault_that_etcd_does_not_outlive_what_is_found_is_observed_and_not_judged(tmp_path: Path) -> None:
    made = paper(tmp_path, lost="p/l/0/5", hashes=(7, 8))
    made.play.recorder.scenario.faults.append(fault("lost-writes", 12, 13))
    made.session.need.during = made.session.need.after = 0
    made.run()
    assert set(made.steps.values()) == {"pass"}
    assert "p/l/0/5" in str(made.play.recorder.scenario.metrics["ledger_observed"])


def fault(name: str, begin: int, end: int) -> FaultEntry:
    return FaultEntry(
        name=name, target="etcd1", place="guest", injected_ns=begin * SECOND, proved_ns=1, healed_ns=end * SECOND
    )


def test_an_idle_phase_is_inconclusive_unless_the_scenario_says_so(tmp_path: Path) -> None:
    made = paper(tmp_path)
    made.play.recorder.scenario.faults.append(fault("power-off", 14, 19))
    made.session.need.after = 1
    with pytest.raises(InconclusiveError, match="during: 0 of at least 1"):
        made.run()
    assert made.steps["workload went on"] == "inconclusive"
    assert made.steps["linearizable"] == "pass"
    again = paper(tmp_path / "again")
    again.play.recorder.scenario.faults.append(fault("power-off", 14, 19))
    again.play.require_ops(during=0, after=1)
    again.run()


def test_a_violation_outweighs_what_could_not_be_shown(tmp_path: Path) -> None:
    made = paper(tmp_path, lost="p/l/0/5")
    made.session.need.before = 1000
    with pytest.raises(AssertionError, match="lost write"):
        made.run()


def test_without_workload_the_report_says_so_and_nothing_is_checked(tmp_path: Path) -> None:
    made = paper(tmp_path)
    made.play.workload = None
    begin(made.play, made.session.pool, Plan.parse("none"), "lease")
    made.play.quiesce()
    made.play.require_ops(before=10**6)
    [step] = made.play.recorder.scenario.steps
    assert "no checks" in step.observed
    assert made.play.workload is None


def test_quiet_is_made_once(tmp_path: Path) -> None:
    made = paper(tmp_path)
    stopped = made.session.stopped_ns
    quiesce(made.play, made.session)
    assert made.session.stopped_ns == stopped


def test_a_workload_of_which_nothing_was_acknowledged_is_inconclusive(tmp_path: Path) -> None:
    """Also where the scenario asks for no operation in any phase: no verdict rests on a history without an answer."""
    lost = {"op": "put", "process": 5, "outcome": "unknown", "return_ns": None, "error": "DEADLINE", "key": "p/r/0"}
    made = Paper(tmp_path, {"etcd1": [lost | {"value": "x", "invoke_ns": SECOND}]}, {}, (7, 7))
    made.session.need.before = 0
    with pytest.raises(InconclusiveError, match="nothing to judge: no operation was acknowledged"):
        made.run()
    assert made.steps["linearizable"] == "inconclusive"
    assert made.play.recorder.scenario.judge() == "inconclusive"


def test_a_watch_that_told_nothing_makes_the_events_inconclusive(tmp_path: Path) -> None:
    made = Paper(tmp_path, GOOD, STORE, (7, 7), watched=False)
    with pytest.raises(InconclusiveError, match="No watch told of anything"):
        made.run()
    assert made.steps["linearizable"] == "inconclusive"
    assert made.steps["ledger"] == "pass"


def test_a_history_that_cannot_be_read_fails_nothing(tmp_path: Path) -> None:
    made = paper(tmp_path)
    with made.session.hand_of("etcd1").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(InconclusiveError, match="history cannot be read"):
        made.run()
    assert made.steps["history"] == "inconclusive"
    assert made.play.recorder.scenario.judge() == "inconclusive"
