"""report.html: one file that needs no network, drawn from report.json and what the scenarios left beside it.

Everything that comes from a run (names, errors, log lines) is text: the template escapes it, and the embedded data
cannot end its element. The page's own script and style are allowed by their digests and nothing else is.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from chaos.report import tables, wording
from chaos.report.evidence import Evidence, read
from chaos.report.model import Scenario
from chaos.report.runs import Run
from chaos.report.timeline import build
from machine.process import write_private

SOURCES: Final = Path(__file__).parent / "html"

NAME: Final = "report.html"

POINTS: Final = 120_000
"""Points of operations in the whole page at most: 20 bytes each, which leaves room within 8 MB."""

BUCKETS: Final = 1200
"""Buckets of a lane at most: more than a wide screen has columns, so that zooming in shows more."""

SHOWN_STEPS: Final = 4
"""Steps of each scenario in the table of all."""

SYMBOLS: Final = {"pass": "✓", "fail": "✗", "inconclusive": "?", "skipped": "–"}

Json = dict[str, Any]


def write_page(run: Run) -> Path:
    """Write report.html into the run's directory."""
    path = run.dir / NAME
    write_private(path, render(run), mode=0o644)
    return path


def render(run: Run) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SOURCES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tell"] = wording.tell
    environment.filters["beside"] = wording.beside
    environment.filters["brief"] = wording.brief
    environment.filters["columns"] = wording.columns
    environment.filters["moment"] = wording.moment
    environment.filters["seconds"] = lambda value: f"{value:.1f} s"
    style = (SOURCES / "page.css").read_text()
    script = (SOURCES / "page.js").read_text()
    scenarios = [_scenario(run, one, _buckets(run)) for one in wording.ordered(run.report.scenarios)]
    report = run.report
    text: str = environment.get_template("page.html").render(
        run=run,
        report=report,
        lab=report.lab,
        verdict=wording.verdict_of(run),
        headline=wording.headline(run),
        symbols=SYMBOLS,
        scenarios=scenarios,
        unclear=[one for one in scenarios if one["verdict"] in {"fail", "inconclusive"}],
        findings=[one for one in scenarios if one["finding"]],
        evidence=wording.evidence(report),
        calibration=tables.calibration(report.calibration) if report.calibration else {},
        workload=wording.displayed(report.workload) if report.workload else {},
        files=_links(run.dir, [run.dir / name for name in ("report.json", "junit.xml")]),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=_policy(style, script),
    )
    return text


def _buckets(run: Run) -> int:
    """Buckets for each lane: fewer when many scenarios with many members share the page."""
    members = len(run.report.lab.nodes) if run.report.lab else 3
    lanes = max(1, len(run.report.scenarios) * members)
    return max(50, min(BUCKETS, POINTS // (2 * lanes)))


def _scenario(run: Run, scenario: Scenario, buckets: int) -> Json:
    evidence = read(run.dir / "scenarios" / scenario.id) if _plain(scenario.id) else Evidence(lacking=("unusual id",))
    nodes = run.report.lab.node_names if run.report.lab else ()
    timeline = build(scenario, evidence, nodes, buckets)
    own = wording.telling(scenario, SHOWN_STEPS)
    return {
        "id": scenario.id,
        "anchor": "scenario-" + quote(scenario.id, safe=""),
        "title": scenario.title,
        "verdict": scenario.verdict,
        "seconds": scenario.seconds,
        "reasons": wording.reasons(scenario) if scenario.verdict in {"fail", "inconclusive"} else [],
        "own": own,
        "steps": scenario.steps,
        "faults": scenario.faults,
        "finding": wording.finding(scenario),
        "judgements": tables.judgements(scenario),
        "traffic": tables.traffic(scenario),
        "no_traffic": tables.no_traffic(scenario),
        "figures": tables.figures(scenario),
        "lacking": evidence.lacking,
        "problems": wording.problems(scenario),
        "timeline": timeline,
        "happened": _happened(timeline),
        "data": embed(timeline) if timeline else "",
        "files": _links(run.dir, _files(run.dir, scenario.id), below=2),
    }


def embed(data: Json) -> Markup:
    """JSON for a script element: no `<`, `>` or `&` is left in it, so nothing in it can end the element."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(safe)  # noqa: S704 - made safe above


def _happened(timeline: Json | None) -> list[tuple[float, str, str]]:
    """What happened, in words and by time (seconds): the time line for those who read rather than look."""
    if timeline is None:
        return []
    found: list[tuple[int, str, str]] = []
    for fault in timeline["faults"]:
        named = f"{fault['name']} on {fault['target']}"
        if fault["begun"] < fault["from"]:
            found.append((fault["begun"], "fault", f"{named} is being made: from here on it may take hold"))
        found.append((fault["from"], "fault", f"{named} injected"))
        if fault["proved"] is not None:
            found.append((fault["proved"], "fault", f"{named} proved"))
        if fault["mended"] is not None:
            found.append((fault["mended"], "fault", f"{named} lifted"))
        if fault["to"] is not None:
            found.append((fault["to"], "fault", f"{named} proved to be gone"))
    for node, runs in timeline["members"].items():
        before: list[Any] | None = None
        for run in runs:
            if before is None or before[2:] != run[2:]:
                found.append((run[0], "member", f"{node} {STATES[run[2]]}" + (f", term {run[3]}" if run[3] else "")))
            before = run
    for member, lane in timeline["outages"].items():
        for begin, end, ended in lane["spans"]:
            told = f"for {(end - begin) / 1e4:.2f} s" if ended else "and did not end"
            found.append((begin, "outage", f"clients of {member} get nothing done, {told}"))
    for at, node, kind, text in timeline["events"]:
        found.append((at, kind, f"{node}: {text}" if node else text))
    return [(at / 1e4, kind, text) for at, kind, text in sorted(found, key=lambda one: one[0])]


STATES: Final = {"L": "leads", "F": "follows", "N": "knows no leader", "X": "does not answer"}


def _plain(name: str) -> bool:
    """Whether an id is a plain file name."""
    return name not in {"", ".", ".."} and Path(name).name == name


def _files(directory: Path, scenario_id: str) -> list[Path]:
    if not _plain(scenario_id):
        return []
    found = []
    for part in ("scenarios", "artefacts"):
        found += sorted(path for path in (directory / part / scenario_id).rglob("*") if path.is_file())
    return found


def _links(directory: Path, paths: list[Path], below: int = 0) -> list[tuple[str, str]]:
    """(address, words) of the files that are there, relative to the page; the words leave out `below` folders."""
    there = [path.relative_to(directory) for path in paths if path.is_file()]
    return [(quote(str(path)), "/".join(path.parts[below:])) for path in there]


def _policy(style: str, script: str) -> str:
    """Content-Security-Policy: our script and style, and nothing from anywhere."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
