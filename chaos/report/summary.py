"""A run in under 40 lines of a terminal, however many scenarios it had: the page's verdict and figures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from chaos.report import wording
from chaos.report.model import Scenario
from chaos.report.runs import Run

LINES: Final = 34
"""At most, as the terminal shows them, so that with the paths, two lines each where it is narrow, it is under 40."""

NARROWEST: Final = 40
"""Columns below which nothing is wrapped closer."""

TABLE_ROWS: Final = 14
"""Up to so many scenarios are listed one by one."""

EVIDENCE_ROWS: Final = 3
"""Missing sources of evidence that are named; the page has all."""

REASON_CHARACTERS: Final = 300


def lines(run: Run, seconds: float | None = None, columns: int | None = None) -> list[str]:
    """The summary; `seconds`: how long the run took; `columns`: no line is wider, None where a program reads."""
    scenarios = wording.ordered(run.report.scenarios)
    spent = f" after {seconds:.0f} s" if seconds is not None else ""
    tail = [*_wrapped(wording.headline(run), columns), f"verdict: {wording.verdict_of(run)}{spent}"]
    body = _table(scenarios, columns) if len(scenarios) <= TABLE_ROWS else _grouped(scenarios, columns)
    lacking = [f"evidence: {one}" for one in wording.evidence(run.report)[:EVIDENCE_ROWS]]
    body += [row for one in lacking for row in _wrapped(wording.brief(one, _most(columns)), columns)]
    room = LINES - len(body) - len(tail)
    return [*body, *_reasons(scenarios, max(room, 1), columns), *tail]


def _table(scenarios: Sequence[Scenario], columns: int | None) -> list[str]:
    if not scenarios:
        return []
    tag = max(2, *(len(one.id) for one in scenarios))
    word = max(len("VERDICT"), *(len(one.verdict) for one in scenarios))
    wide = max(len("SCENARIO"), *(len(one.title) for one in scenarios))
    if columns is not None:
        wide = max(len("SCENARIO"), min(wide, columns - tag - word - len("SECONDS") - 3 * 2))
    head = f"{'ID':{tag}}  {'SCENARIO':{wide}}  {'VERDICT':{word}}  SECONDS"
    rows = (
        f"{one.id:{tag}}  {_cut(one.title, wide):{wide}}  {one.verdict:{word}}  {one.seconds:.1f}" for one in scenarios
    )
    return [head, *rows]


def _grouped(scenarios: Sequence[Scenario], columns: int | None) -> list[str]:
    """One line for each verdict; the slowest by name, since they tell where the time went."""
    head = "VERDICT       COUNT       TIME  SCENARIOS"
    apart = wording.around(scenarios)
    found = [head]
    for verdict in ("pass", "skipped", "inconclusive", "fail"):
        mine = [one for one in scenarios if one.verdict == verdict]
        if mine:
            spent = sum(one.seconds for one in mine if one not in apart)
            ids = wording.id_ranges([one.id for one in mine])
            row = f"{verdict:12}  {len(mine):5}  {spent:7.0f} s  {wording.brief(ids, REASON_CHARACTERS)}"
            found += _wrapped(row, columns, head.index("SCENARIOS"))
    slowest = sorted((one for one in scenarios if one not in apart), key=lambda one: -one.seconds)[:3]
    told = ", ".join(f"{one.id} {one.seconds:.0f} s ({one.title})" for one in slowest)
    return [*found, *_wrapped(f"longest: {wording.brief(told, _most(columns))}", columns)]


def _reasons(scenarios: Sequence[Scenario], room: int, columns: int | None) -> list[str]:
    """Why what did not pass did not, and findings, as far as there is room; the last line says what had none.

    Failures come first, and of each scenario its first reason before any other: the cause before what came of it.
    """
    reasons = [
        (index > 0, f"{one.id} {one.verdict}: {reason}")
        for verdict in ("fail", "inconclusive")
        for one in scenarios
        if one.verdict == verdict
        for index, reason in enumerate(wording.reasons(one))
    ]
    told = [text for _, text in sorted(reasons, key=lambda one: one[0])]
    told += [f"{one.id} found: {wording.finding(one)}" for one in scenarios if wording.finding(one)]
    found = [_wrapped(wording.brief(text, _most(columns)), columns) for text in told]
    if sum(map(len, found)) <= room:
        return [line for entry in found for line in entry]
    shown: list[str] = []
    for index, entry in enumerate(found):
        last = _wrapped(f"… {len(found) - index} further reasons and findings stand in the page", columns)
        if len(shown) + len(entry) + len(last) > room:
            return [*shown, *last]
        shown += entry
    return shown


def _most(columns: int | None) -> int:
    """Characters of one reason: three lines of the terminal, less what the wrapping of words loses."""
    return REASON_CHARACTERS if columns is None else min(REASON_CHARACTERS, 3 * max(columns, NARROWEST) - 30)


def _wrapped(text: str, columns: int | None, indent: int = 2) -> list[str]:
    """A line as so many as the terminal needs for it; where a program reads, it stays one."""
    if columns is None:
        return [text]
    wide = max(columns, NARROWEST)
    behind = " " * (indent if indent < wide // 2 else 2)
    return textwrap.wrap(text, wide, subsequent_indent=behind, break_on_hyphens=False) or [""]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
