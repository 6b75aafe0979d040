"""Runs on disk: finished, going on, or ended before their end; and what the page and the summary make of that."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.runs import make
from chaos.report import Recorder, Report, Scenario, Step, Verdict
from chaos.report.page import embed, render, write_page
from chaos.report.runs import Run, every, find, names, open_run
from chaos.report.summary import lines
from chaos.report.words import ENDED, headline, id_ranges, telling, verdict_of
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
    scenario = Scenario(id="S1", title="t", steps=[Step(title="steady state before", expected="e"), *steps])
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
