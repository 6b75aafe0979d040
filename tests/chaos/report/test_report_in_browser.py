"""report.html in a real browser: no error, nothing from outside, all drawn, all reached by keyboard, readable."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.browser import Browser, browser
from bench.runs import make
from chaos.report import Recorder, Report, Scenario, ScenarioRecorder
from chaos.report.page import write_page
from chaos.report.runs import open_run
from machine.paths import CHECKOUT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

KEPT = CHECKOUT / ".lab" / "artefacts" / "report"
"""Screenshots, for people to look at."""

TAB, RIGHT = "\ue004", "\ue014"  # https://www.w3.org/TR/webdriver2/#keyboard-actions

CONTROLS = "a[href], button, summary, [tabindex='0']"

CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const MARKS = /ok|failed|unknown|outage|fault|proved|leads|follows|lost|silent|series|fine/;
function rgba(text) { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data; }
function light(c) { const [r, g, b] = [...c].slice(0, 3).map(v => { v /= 255;
  return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; }
function behind(node) { for (; node; node = node.parentElement) {
  const c = rgba(getComputedStyle(node).backgroundColor); if (c[3] === 255) return c; } return rgba('white'); }
function ratio(a, b) { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); }
const bad = [], seen = {text: 0, marks: 0};
for (const node of document.querySelectorAll('body *')) {
  const style = getComputedStyle(node), svg = node instanceof SVGElement, name = node.getAttribute('class') ?? '';
  const told = node.tagName + '.' + name + ' ' + node.textContent.trim().slice(0, 30);
  const own = [...node.childNodes].some(one => one.nodeType === 3 && one.textContent.trim());
  if (own && !['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(node.tagName)) {
    seen.text++;
    const before = node.previousElementSibling;
    const boxed = svg && before?.classList.contains('step');
    const ground = boxed ? rgba(getComputedStyle(before).fill) : behind(node);
    const found = ratio(rgba(svg ? style.fill : style.color), ground);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    if (found < (large ? 3 : 4.5)) bad.push(found.toFixed(2) + ' ' + told);
  } else if (svg && MARKS.test(name)) {
    seen.marks++;
    const found = ratio(rgba(style.stroke !== 'none' ? style.stroke : style.fill), behind(node));
    if (found < 3) bad.push(found.toFixed(2) + ' ' + told);
  }
}
return [bad, seen];
"""
"""WCAG 2.2, 1.4.3 (text 4.5:1, large text 3:1) and 1.4.11 (marks 3:1); relative luminance as defined there."""


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("failed")
    make(directory, scenarios=4, operations=6000, verdicts=("pass", "fail", "inconclusive", "pass"))
    return write_page(open_run(directory))


@pytest.fixture
def page(window: Browser, failed: Path) -> Browser:
    window.theme("light")
    window.size(1200, 900)
    window.requests()
    window.log("browser")
    window.open(failed)
    assert window.ready() == 4
    return window


def test_it_opens_without_an_error_or_a_request_to_anywhere(page: Browser, failed: Path) -> None:
    assert [entry for entry in page.log("browser") if entry["level"] != "INFO"] == []
    assert page.requests() == [failed.as_uri()]


def test_every_scenario_draws_its_lanes_with_its_marks(page: Browser) -> None:
    lanes = page.run(
        "return [...document.querySelectorAll('figure.timeline')].map(figure =>"
        " [...figure.querySelectorAll('[data-lane]')].map(lane => lane.dataset.lane))"
    )
    members = ["member"] * 3
    clients = ["operations", "outages"] * 3
    for found in lanes:
        assert found[: 2 + len(members) + len(clients)] == ["steps", "fault", *members, *clients]
        assert "events" in found
        assert found.count("series") == 3
    marks = page.run(
        "return [...document.querySelectorAll('figure.timeline svg')].map(svg =>"
        " ['.fault', '.proved', '.leads', '.follows', '.ok', '.failed', '.unknown', '.outage', '.event']"
        ".map(name => svg.querySelectorAll(name).length))"
    )
    for scenario, found in enumerate(marks):
        assert all(count > 0 for index, count in enumerate(found) if index != 1), found
        assert (found[1] == 0) == (scenario == 2), "only what was proved shows its proof"


def test_a_fault_shows_when_it_was_made_and_when_it_was_seen_to_be_gone(page: Browser) -> None:
    ends = page.run(
        "return ['.fault-edge', '.fault'].map(name => [...document.querySelector('figure.timeline').querySelectorAll("
        "name)].map(one => [+one.getAttribute('x'), +one.getAttribute('x') + +one.getAttribute('width')]))"
    )
    (made, lifted), (bar,) = ends
    assert made[0] < made[1] == pytest.approx(bar[0], abs=1), "what follows its making is not before the fault"
    assert bar[1] == pytest.approx(lifted[0], abs=1)
    assert lifted[0] < lifted[1]


def test_zoom_and_hover_tell_what_is_there(page: Browser) -> None:
    axis = "return [...document.querySelectorAll('figure.timeline svg')][0].querySelector('text').textContent"
    assert page.run(axis) == "0 s"
    page.run("document.querySelector('figure.timeline').scrollIntoView()")
    box = page.run(
        "const r = document.querySelector('figure.timeline .fault').getBoundingClientRect();"
        "return [r.x + r.width / 2, r.y + r.height / 2].map(Math.round)"
    )
    page.hover(*box)
    said = page.run("return document.querySelector('figure.timeline .readout').textContent")
    assert "partition on etcd3 | etcd1,etcd2" in said
    page.run("document.querySelector('figure.timeline .board').focus()")
    page.press("++")
    assert page.run(axis) != "0 s"
    page.press("n")
    next_ = page.run("return document.querySelector('figure.timeline .readout').textContent")
    assert re.match(r"\d+ of \d+, at \d+\.\d{3} s: ", next_), next_
    page.press("...")
    told = page.run("return document.querySelector('figure.timeline .readout').textContent")
    assert "etcd1 leads in term 2" in told
    assert "at etcd" in told, "operations are reached too"
    begun = page.run(axis)
    page.press(RIGHT)
    assert page.run(axis) != begun
    page.press("0")
    assert page.run(axis) == "0 s"


def test_the_keyboard_reaches_every_control_in_reading_order(page: Browser) -> None:
    count = page.run(
        "const found = [...document.querySelectorAll(arguments[0])].filter(one =>"
        " one.matches('summary') || !one.closest('details:not([open])'));"
        "found.forEach((one, index) => one.dataset.order = index); document.body.focus(); return found.length",
        CONTROLS,
    )
    assert count > 60
    reached = []
    for _ in range(count):
        page.press(TAB)
        reached.append(page.run("return document.activeElement.dataset.order"))
    assert reached == [str(number) for number in range(count)]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_marks_stand_out_from_what_is_behind_them(page: Browser, theme: str) -> None:
    page.theme(theme)
    page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    bad, seen = page.run(CONTRAST)
    assert bad == []
    assert seen["text"] > 300
    assert seen["marks"] > 60
    page.run("document.querySelectorAll('details').forEach(one => one.open = false)")
    page.screenshot(KEPT / f"failed-{theme}.png")


def test_the_contrast_test_sees_weak_text(page: Browser) -> None:
    page.run("document.documentElement.style.setProperty('--soft', '#909090')")
    bad, _ = page.run(CONTRAST)
    assert any("over" in one for one in bad)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(page: Browser, theme: str) -> None:
    page.theme(theme)
    page.size(360, 740)
    page.settle()
    page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.run("return document.documentElement.scrollWidth") <= 360
    wide = page.run(
        "return [...document.querySelectorAll('figure.timeline svg')].map(one => one.getBoundingClientRect().right)"
    )
    assert len(wide) == 4
    assert max(wide) <= 360
    page.run("document.querySelectorAll('details').forEach(one => one.open = false)")
    page.screenshot(KEPT / f"phone-{theme}.png")


def test_flushes_and_traffic_stand_in_a_table_with_a_label_for_each_cell(page: Browser) -> None:
    rows = page.run(
        "return [...document.querySelector('table.traffic').tBodies[0].rows].map(row =>"
        " [...row.cells].map(cell => cell.textContent.trim()))"
    )
    assert [row[:2] for row in rows if row[1] == "before"] == [[f"etcd{one}", "before"] for one in (1, 2, 3)]
    assert len(rows) == 7, "the member that was cut off has no figures of during and after"
    assert all(row[3].endswith(" ms") and row[6].endswith(" kB/s") for row in rows)
    page.size(360, 740)
    widths = page.run("return [...document.querySelectorAll('caption')].map(one => one.getBoundingClientRect().width)")
    assert min(widths) > 300, "a caption is a line of text, not a column of letters"
    labels = page.run(
        "return [...document.querySelector('table.traffic').tBodies[0].rows[0].cells].slice(1).map(cell =>"
        " getComputedStyle(cell, '::before').content)"
    )
    assert all(label.startswith('"') and len(label) > 4 for label in labels)


def test_on_paper_all_is_open_and_drawn(page: Browser) -> None:
    printed = page.devtools("Page.printToPDF", printBackground=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / "failed.pdf").write_bytes(base64.b64decode(printed["data"]))
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    closed = page.run(
        "window.dispatchEvent(new Event('beforeprint'));"
        "const n = document.querySelectorAll('details:not([open])').length;"
        "window.dispatchEvent(new Event('afterprint'));"
        "return [n, document.querySelectorAll('details:not([open])').length]"
    )
    assert closed[0] == 0
    assert closed[1] > 0


EVIL = "</script><img src=x onerror=alert(1)><script>alert(2)</script>{{ 7*7 }}"


def test_what_a_run_says_stays_text(window: Browser, tmp_path: Path) -> None:
    make(tmp_path, scenarios=1, operations=30)
    report = Report.model_validate_json((tmp_path / "report.json").read_text())
    recorder = Recorder(tmp_path, report)
    scenario = ScenarioRecorder(recorder, Scenario(id="X1", title=EVIL))
    with contextlib.suppress(ValueError), scenario.step(EVIL, EVIL):
        raise ValueError(EVIL)
    scenario.metric(EVIL, EVIL)
    scenario.metric("traffic", {"phases": {EVIL: {EVIL: {"seconds": EVIL}, "b": EVIL}, "c": 3}})
    scenario.finish(1.0)
    recorder.finish()
    window.log("browser")
    window.requests()
    window.open(tmp_path / "report.html")
    assert window.ready() == 2
    assert [entry for entry in window.log("browser") if entry["level"] != "INFO"] == []
    assert window.requests() == [(tmp_path / "report.html").as_uri()]
    assert window.run("return document.images.length") == 0
    assert EVIL in window.run("return document.querySelector('#scenario-X1 h2').textContent")
    assert "49" not in window.run("return document.querySelector('#scenario-X1 h2').textContent")


def test_a_run_without_evidence_says_so_and_still_draws_its_steps(window: Browser, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Report(started="2026-01-02T03:04:05+00:00"))
    scenario = ScenarioRecorder(recorder, Scenario(id="S1", title="set up"))
    with scenario.step("build", "a lab"):
        pass
    recorder.finish(early=True)
    window.open(tmp_path / "report.html")
    assert window.ready() == 1
    text: Any = window.run("return document.body.innerText")
    assert "The run was ended before its end" in text
    assert "no operations of the recording clients" in text
    assert window.run("return document.querySelectorAll('.step').length") == 1
