"""A run in under 40 lines of a terminal, however many scenarios it had: the page's verdict and figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chaos.report import words
from chaos.report.model import Scenario
from chaos.report.runs import Run

LINES: Final = 36
"""At most, so that with the two or three lines of paths a run stays under 40."""

TABLE_ROWS: Final = 14
"""Up to so many scenarios are listed one by one."""

REASON_CHARACTERS: Final = 300


def lines(run: Run, seconds: float | None = None, columns: int | None = None) -> list[str]:
    """The summary; `seconds`: how long the run took; `columns`: titles are cut so that the table has no more."""
    scenarios = words.ordered(run.report.scenarios)
    spent = f" after {seconds:.0f} s" if seconds is not None else ""
    tail = [words.headline(run), f"verdict: {words.verdict_of(run)}{spent}"]
    body = _table(scenarios, columns) if len(scenarios) <= TABLE_ROWS else _grouped(scenarios)
    room = LINES - len(body) - len(tail)
    return [*body, *_reasons(scenarios, max(room, 1)), *tail]


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


def _grouped(scenarios: Sequence[Scenario]) -> list[str]:
    """One line for each verdict; the slowest passes by name, since they tell where the time went."""
    found = []
    for verdict in ("pass", "skipped", "inconclusive", "fail"):
        mine = [one for one in scenarios if one.verdict == verdict]
        if mine:
            spent = sum(one.seconds for one in mine)
            ids = words.id_ranges([one.id for one in mine])
            found.append(f"{verdict:12}  {len(mine):3}  {spent:7.0f} s  {_short(ids)}")
    slowest = sorted(scenarios, key=lambda one: -one.seconds)[:3]
    told = ", ".join(f"{one.id} {one.seconds:.0f} s ({one.title})" for one in slowest)
    return ["VERDICT       COUNT       TIME  SCENARIOS", *found, f"longest: {_short(told)}"]


def _reasons(scenarios: Sequence[Scenario], room: int) -> list[str]:
    """The reasons of what did not pass, failures first, and findings; the last line says what had no room."""
    found = [
        f"{one.id} {one.verdict}: {_short(' '.join(reason.split()))}"
        for verdict in ("fail", "inconclusive")
        for one in scenarios
        if one.verdict == verdict
        for reason in words.reasons(one)
    ]
    found += [f"{one.id} found: {_short(words.finding(one))}" for one in scenarios if words.finding(one)]
    if len(found) <= room:
        return found
    return [*found[: room - 1], f"… {len(found) - room + 1} further reasons and findings stand in the page"]


def _short(text: str) -> str:
    return _cut(text, REASON_CHARACTERS)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
