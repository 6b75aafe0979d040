"""Runs on disk: finished, going on, or ended before their end; and what the page and the summary make of that."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.runs import make
from chaos.evidence.sources import ALL, Missing
from chaos.measure.calibration import Calibration
from chaos.measure.node_probe import NodeFigures
from chaos.oracle.delays import Machine
from chaos.oracle.rules import rule
from chaos.report import Recorder, Report, Scenario, ScenarioRecorder, Step, Verdict
from chaos.report.model import FaultEntry
from chaos.report.page import embed, render, write_page
from chaos.report.runs import Run, every, find, names, open_run
from chaos.report.summary import lines
from chaos.report.tables import MEASURED, NODES, calibration, judgements
from chaos.report.tables import figures as judged_figures
from chaos.report.wording import ENDED, brief, headline, id_ranges, reasons, telling, verdict_of
from machine.errors import NotBuiltError
from machine.paths import reports_dir

STARTED = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.delenv("ETCD_LAB_RUN", raising=False)
    return Recorder.begin(tmp_path)


def test_a_run_goes_on_while_its_program_lives_and_was_ended_when_that_is_gone(recorder: Recorder) -> None:
    recorder.add_scenario(Scenario(id="S1", title="t", verdict="pass"))
    assert open_run(recorder.dir).state == "running"
    recorder.close()  # what the kernel does to a program that is killed
    killed = open_run(recorder.dir)
    assert killed.state == "ended"
    assert ENDED in headline(killed)
    assert verdict_of(killed) == "inconclusive", "what was not played is not a pass"
    assert ENDED in render(killed)
    assert any(ENDED in line for line in lines(killed))


def test_a_run_that_comes_to_its_end_says_when_and_leaves_a_page(recorder: Recorder) -> None:
    recorder.add_scenario(Scenario(id="S1", title="t", verdict="pass"))
    page = recorder.finish()
    assert page == recorder.dir / "report.html"
    recorder.close()
    found = open_run(recorder.dir)
    assert (found.state, verdict_of(found)) == ("finished", "pass")
    assert found.report.finished >= found.report.started
    assert ENDED not in page.read_text()


def test_an_interrupted_run_leaves_a_page_that_says_so(recorder: Recorder) -> None:
    recorder.add_scenario(Scenario(id="S1", title="t", verdict="pass"))
    page = recorder.finish(early=True)
    assert page is not None
    assert ENDED in page.read_text()
    recorder.close()
    assert open_run(recorder.dir).state == "ended"


def test_who_goes_on_with_a_run_does_not_end_it(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_LAB_RUN", str(recorder.dir))
    child = Recorder.begin(tmp_path)
    child.finish()
    child.close()
    assert open_run(recorder.dir).state == "running"


def test_a_page_that_cannot_be_drawn_leaves_the_report_and_is_told(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    (recorder.dir / "report.html").mkdir()
    assert recorder.finish() is None
    assert "./lab report tries again" in capsys.readouterr().err
    assert json.loads((recorder.dir / "report.json").read_text())["finished"]


def test_runs_are_listed_oldest_first_and_broken_ones_left_out(tmp_path: Path) -> None:
    root = reports_dir(tmp_path)
    for name in ("20260102T000000Z", "20260101T000000Z"):
        make(root / name, scenarios=1, operations=10)
    (root / "20260103T000000Z").mkdir()
    (root / "20260103T000000Z" / "report.json").write_text("{")
    assert [run.name for run in every(tmp_path)] == ["20260101T000000Z", "20260102T000000Z"]
    assert len(names(tmp_path)) == 3


@pytest.mark.parametrize("name", ["../20260101T000000Z", "/etc", "nope", ".."])
def test_a_run_is_named_not_a_path(tmp_path: Path, name: str) -> None:
    make(reports_dir(tmp_path) / "20260101T000000Z", scenarios=1, operations=10)
    with pytest.raises(NotBuiltError, match="20260101T000000Z") as caught:
        find(name, tmp_path)
    assert caught.value.exit_code == 2


def report(*verdicts: Verdict) -> Run:
    scenarios = [
        Scenario(id=f"N{number}", title=f"scenario {number} with a title of usual length", verdict=verdict, seconds=9)
        for number, verdict in enumerate(verdicts, 1)
    ]
    return Run(Path("run"), Report(started=STARTED, finished=STARTED, scenarios=scenarios), "finished")


@pytest.mark.parametrize(
    "verdicts",
    [("pass",) * 40, ("fail",) * 40, ("inconclusive", "fail", "pass", "skipped") * 10, ("pass",) * 3, ()],
    ids=["all pass", "all fail", "mixed", "few", "none"],
)
def test_the_summary_has_under_40_lines_and_the_pages_words(verdicts: tuple[Verdict, ...]) -> None:
    run = report(*verdicts)
    found = lines(run, 300)
    assert len(found) + 2 < 40, "two lines say where report and page are"
    assert headline(run) in found
    assert f"verdict: {verdict_of(run)} after 300 s" in found
    assert re.sub(r"[^\w ]", "", headline(run)) in re.sub(r"[^\w ]", "", render(run))


def test_the_table_fits_a_narrow_terminal_and_loses_no_verdict() -> None:
    found = lines(report("pass", "inconclusive", "fail"), columns=50)
    rows = found[:4]
    assert max(len(line) for line in rows) <= 50
    assert [row.split()[-2] for row in rows[1:]] == ["pass", "inconclusive", "fail"]
    assert "…" in rows[1]


def test_the_summary_names_every_failure_as_long_as_there_is_room() -> None:
    run = report(*("pass",) * 30, *("fail",) * 10)
    told = "\n".join(lines(run))
    assert all(f"N{number} fail" in told for number in range(31, 41))
    assert "N1–N30" in told


@pytest.mark.parametrize("columns", [60, 80])
def test_what_a_terminal_shows_of_many_long_reasons_is_under_40_lines(columns: int) -> None:
    run = report(*("pass",) * 28, *("fail", "inconclusive") * 5)
    for one in run.report.scenarios:
        one.steps = [Step(title=f"look {number}", expected="e", observed="seen " * 90) for number in range(3)]
    found = lines(run, 300, columns)
    assert max(map(len, found)) <= columns, "what is wider takes two lines of the terminal"
    assert len(found) + 4 < 40, "two paths, of two lines each"
    assert "further reasons and findings stand in the page" in " ".join(" ".join(found).split())


def test_a_window_of_a_few_columns_still_shows_the_first_reasons() -> None:
    run = report(*("pass",) * 20, "fail")
    run.report.scenarios[-1].steps = [Step(title="look", expected="e", observed="seen " * 900)]
    assert any(line.startswith("N21 fail: look: expected e") for line in lines(run, 300, 8))


def test_the_time_of_a_scenario_around_others_is_not_counted_twice() -> None:
    run = report(*("pass",) * 20)
    for number, one in enumerate(run.report.scenarios):
        one.started_ns, one.ended_ns = 100 + 10 * number, 105 + 10 * number
    run.report.scenarios.append(Scenario(id="S1", title="all", verdict="pass", seconds=500, started_ns=1, ended_ns=999))
    told = lines(run)
    assert re.search(r"pass +21 +180 s", told[1]), told[1]
    assert not any("S1 500 s" in line for line in told)


def test_a_fault_that_was_not_proved_comes_before_what_came_of_it() -> None:
    fault = FaultEntry(name="corrupt", target="etcd1", place="guest", injected_ns=5)
    later = Step(title="workload went on", expected="5 operations", observed="nothing")
    told = reasons(Scenario(id="N25", title="t", steps=[later], faults=[fault]))
    assert "was not proved" in told[0]
    assert told[1].startswith("workload went on")


def test_a_headline_also_says_what_passed() -> None:
    assert headline(report("pass", "pass", "inconclusive")).endswith("None failed. The other 2 passed.")
    assert headline(report("pass", "pass", "fail")) == "1 of 3 scenarios failed: N3. The other 2 passed."


def test_the_table_also_shows_a_step_of_every_scenario_that_did_not_pass() -> None:
    steps = [Step(title=title, expected="e", verdict="pass") for title in ("steady state before", "look")]
    steps.append(Step(title="inject corrupt on etcd1", expected="e"))
    scenario = Scenario(id="N25", title="t", steps=steps)
    assert [step.title for step in telling(scenario, 4)] == ["look", "inject corrupt on etcd1"]


@given(st.text(), st.integers(10, 80))
def test_a_brief_text_is_one_line_no_longer_than_asked(text: str, most: int) -> None:
    shown = brief(text, most)
    assert len(shown) <= most
    assert shown == " ".join(text.split()) or shown.endswith(" …")


def test_a_judgement_tells_its_figures_with_their_unit_and_its_rule_in_words() -> None:
    by = rule("election")
    why = f"5.43 s, allowed 1.80 to 8.56 s by {by.formula}: too much"
    one = {"rule": by.name, "observed": 5.425, "allowed_low": 1.802, "allowed_high": 8.556, "verdict": "outside"}
    plain = {"rule": "of old", "observed": 3, "allowed_low": 1, "allowed_high": None, "verdict": "inside", "why": "so"}
    open_ = {"rule": by.name, "observed": 3.0, "allowed_low": 1.0, "allowed_high": None, "why": "said otherwise"}
    known, old, wide = judgements(
        Scenario(id="N1", title="t", metrics={"judgements": [one | {"why": why}, plain, open_]})
    )
    assert (known["observed"], known["allowed"]) == ("5.43 s", "1.80 to 8.56 s")
    assert known["why"] == f"{by.formula}: too much"
    assert known["title"] == by.title
    assert (old["observed"], old["allowed"], old["why"]) == ("3", "1 to any", "so")
    assert (wide["observed"], wide["allowed"], wide["why"]) == ("3.00 s", "1.00 s or more", "said otherwise")


def test_the_calibration_has_words_and_units_for_everything_that_is_measured() -> None:
    assert {one.name for one in fields(Machine)} == set(MEASURED)
    assert {one.name for one in fields(NodeFigures)} == set(NODES) | {"problem"}
    measured = Calibration(
        Machine(fsync=0.0317), {"etcd1": NodeFigures(ssh=1.5, problem="no metrics")}, 5.3, ("slow!",)
    )
    assert calibration(measured.as_json()) == {
        MEASURED["fsync"]: "31.7 ms",
        "on each member": [{"": "etcd1", NODES["ssh"]: "1.5 s", "not measured": "no metrics"}],
        "more than the election timeout holds": ("slow!",),
        "measuring took": "5.3 s",
    }


def test_times_of_recovery_carry_their_unit() -> None:
    told = judged_figures(
        Scenario(id="N1", title="t", metrics={"recovery": [{"fault": "f", "new_leader": 2.502, "election_rounds": 1}]})
    )
    assert told == {
        "recovery, from each fault's injection": [{"fault": "f", "new leader": "2.50 s", "election_rounds": 1}]
    }


def test_ids_are_drawn_together_in_families_only() -> None:
    assert id_ranges(["S9", "S10", "S11", "N1", "N2b", "N3", "P1"]) == "S9–S11, N1, N2b, N3, P1"


def test_data_in_the_page_cannot_end_its_element() -> None:
    text = str(embed({"a": "</script><!-- & \u2028"}))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!-- & \u2028"}


def test_what_is_missing_or_torn_is_said(tmp_path: Path) -> None:
    make(tmp_path, scenarios=2, operations=60)
    (tmp_path / "scenarios" / "N1" / "samples.jsonl").unlink()
    history = tmp_path / "scenarios" / "N2" / "history.jsonl"
    history.write_text('{"meta": {"closed_world": true}}\n' + history.read_text()[:-20])  # killed while it wrote
    text = write_page(open_run(tmp_path)).read_text()
    assert "no samples of each member" in text
    assert "1 of 31 lines of history.jsonl cannot be read" in text


def test_the_table_shows_what_did_not_pass_however_late_it_came() -> None:
    steps = [Step(title=f"look {number}", expected="e", observed="o", verdict="pass") for number in range(9)]
    steps[7].verdict = "fail"
    steady = Step(title="steady state before", expected="e", verdict="pass")
    scenario = Scenario(id="S1", title="t", steps=[steady, *steps])
    assert [step.title for step in telling(scenario, 4)] == ["look 0", "look 1", "look 2", "look 7"]


def test_findings_and_judgements_have_a_place_of_their_own(tmp_path: Path) -> None:
    make(tmp_path, scenarios=2, operations=20)
    run = open_run(tmp_path)
    text = render(run)
    assert text.count("Terms grow by one when the leader is cut off.") == 2, "among the findings and at its scenario"
    assert text.count("<b>inside</b>") == 2
    assert "N2 found: Terms grow by one when the leader is cut off." in lines(run)


def test_links_lead_to_files_that_are_there(tmp_path: Path) -> None:
    make(tmp_path, scenarios=1, operations=10)
    (tmp_path / "artefacts" / "N1").mkdir(parents=True)
    (tmp_path / "artefacts" / "N1" / "etcd 1.log").write_text("log\n")
    text = write_page(open_run(tmp_path)).read_text()
    links = [link for link in re.findall(r'href="([^"#]+)"', text) if not link.startswith("#")]
    assert "artefacts/N1/etcd%201.log" in links
    assert len(links) >= 5
    assert all((tmp_path / link.replace("%20", " ")).is_file() for link in links)


def test_evidence_that_was_missing_stands_on_the_page_and_in_the_summary(recorder: Recorder) -> None:
    recorder.report.evidence = [Missing("log", ALL, "log-level is warn").as_json()]
    scenario = ScenarioRecorder(recorder, Scenario(id="S1", title="t"))
    scenario.metric("measurement_problems", ["samples: The sampler ended with status 1: no space"])
    scenario.finish(1.0)
    recorder.write()
    run = open_run(recorder.dir)
    for text in (render(run), "\n".join(lines(run))):
        assert "no log of etcd of level info on all nodes" in text
        assert "log-level is warn" in text
    assert "The sampler ended with status 1: no space" in render(run)
