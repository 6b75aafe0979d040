"""Two runs side by side: what differs by more than noise, and what noise is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.runs import make, manifest
from chaos.report import Report, Scenario
from chaos.report.compare import compare
from chaos.report.runs import Run
from cli.app import main

STARTED = "2026-01-02T03:04:05+00:00"


def run(name: str, metrics: dict[str, Any], election_ms: int = 3000) -> Run:
    lab = manifest(election_ms=election_ms)
    scenario = Scenario(id="P1", title="t", verdict="pass", metrics=metrics)
    return Run(Path(name), Report(started=STARTED, finished=STARTED, lab=lab, scenarios=[scenario]), "finished")


def differing(first: Run, second: Run, *others: Run) -> dict[str, str]:
    return {one.name: one.noise for one in compare(first, second, [first, second, *others]).figures}


@pytest.mark.parametrize(
    ("one", "two", "differs"),
    [(4.0, 6.9, False), (4.0, 7.1, True), (100.0, 120.0, False), (100.0, 140.0, True)],
    ids=["within T", "beyond T", "within a quarter", "beyond a quarter"],
)
def test_a_single_time_differs_beyond_the_election_timeout_and_a_quarter(one: float, two: float, differs: bool) -> None:
    found = differing(run("a", {"first_write_seconds": one}), run("b", {"first_write_seconds": two}))
    assert bool(found) == differs


def test_a_time_in_milliseconds_is_held_against_the_timeout_in_milliseconds() -> None:
    assert not differing(run("a", {"stall_ms": 100}), run("b", {"stall_ms": 3000}))
    assert differing(run("a", {"stall_ms": 100}), run("b", {"stall_ms": 3200}))


def test_runs_alike_tell_how_much_a_figure_varies_by_itself() -> None:
    first, second = run("a", {"recovery_seconds": 4.0}), run("b", {"recovery_seconds": 6.5}, election_ms=2999)
    assert not differing(first, second), "T alone explains it"
    calm = [run(f"c{number}", {"recovery_seconds": 4.0 + number / 10}) for number in range(3)]
    assert differing(first, second, *calm) == {"P1 recovery_seconds": "0.65, from 4 runs alike"}
    wild = [run(f"w{number}", {"recovery_seconds": 4.0 + number * 2}) for number in range(3)]
    assert not differing(first, second, *wild)


def test_lists_are_compared_by_median_against_their_own_spread() -> None:
    narrow = [1.0, 1.1, 1.2, 1.1, 1.0]
    assert differing(run("a", {"latency": narrow}), run("b", {"latency": [value + 1 for value in narrow]}))
    wide = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert not differing(run("a", {"latency": wide}), run("b", {"latency": [value + 1 for value in wide]}))


def test_instants_are_no_figures_and_nested_ones_are() -> None:
    first, second = ({"gap": {"begin_ns": at, "errors": count}} for at, count in ((1, 10), (10**12, 20)))
    assert set(differing(run("a", first), run("b", second))) == {"P1 gap.errors"}


def test_settings_and_verdicts_stand_side_by_side() -> None:
    first, second = run("a", {}), run("b", {}, election_ms=1000)
    second.report.scenarios[0].verdict = "fail"
    second.report.scenarios.append(Scenario(id="P2", title="t", verdict="pass"))
    found = compare(first, second, [])
    settings = {row.name: (row.first, row.second) for row in found.settings if row.differs}
    assert settings == {"heartbeat": ("300 ms", "100 ms"), "election timeout": ("3000 ms", "1000 ms")}
    verdicts = {row.name: (row.first, row.second) for row in found.verdicts if row.differs}
    assert verdicts == {"the run": ("pass", "fail"), "P1": ("pass", "fail"), "P2": ("–", "pass")}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    reports = tmp_path / ".lab" / "reports"
    make(reports / "20260101T000000Z", scenarios=2, operations=60)
    make(reports / "20260102T000000Z", scenarios=2, operations=60, verdicts=("fail",), version="3.5.21", finished=False)
    (reports / "latest").symlink_to("20260102T000000Z")
    monkeypatch.setattr("chaos.report.runs.reports_dir", lambda _: reports)
    return reports


@pytest.fixture
def lab(checkout: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`./lab report WORD…`: exit status and all that was said."""

    def call(*words: str) -> tuple[int, str]:
        code = main(["report", *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


Lab = Callable[..., tuple[int, str]]


def test_the_command_lists_shows_and_compares(checkout: Path, lab: Lab) -> None:
    code, text = lab("--list")
    assert code == 0
    assert text.index("20260101T000000Z") < text.index("20260102T000000Z")
    assert "fail (ended)" in text
    assert "3.5.21" in text
    code, text = lab("--compare", "20260101T000000Z", "20260102T000000Z")
    assert code == 0
    assert "3.6.16" in text
    assert "DIFFERS" in text
    code, text = lab()
    assert code == 1
    assert "ended before its end" in text
    assert str(checkout / "20260102T000000Z" / "report.html") in text
    assert (checkout / "20260102T000000Z" / "report.html").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ("--compare", "20260101T000000Z", "nope"),
        ("--compare", "nope", "20260101T000000Z"),
        ("nope",),
        ("nope", "--list"),
        ("--compare", "20260101T000000Z"),
    ],
)
def test_wrong_names_and_wrong_words_are_wrong_usage(lab: Lab, words: tuple[str, ...]) -> None:
    code, text = lab(*words)
    assert code == 2, text
