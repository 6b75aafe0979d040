"""The offending window as a picture: one row for each process, one bar for each operation. A pure function."""

from __future__ import annotations

from html import escape

import numpy as np

from chaos.checker.model import NEVER, History, Outcome
from chaos.checker.violation import Violation

WIDTH, ROW, LEFT, TOP = 1200, 26, 130, 58
MARGIN = 0.15
"""Share of the window that is shown before and after it."""
MOST = 400
"""Operations drawn at most, those of the violation first."""
COLOURS = {Outcome.OK: "#9ecae1", Outcome.FAIL: "#d9d9d9", Outcome.UNKNOWN: "#fdd49e"}


def draw(history: History, wrong: Violation) -> str:
    """An SVG of what went on while the operations of a violation did; these are framed in red.

    Only the key of the violation is drawn when it has one, else all. Time is in ms from the window's begin.
    """
    begin, end = wrong.window_ns or _all(history)
    span = max(end - begin, 1_000_000)
    begin, end = begin - int(span * MARGIN), end + int(span * MARGIN)
    rows = _rows(history, wrong, begin, end)
    processes = sorted({int(history.process[row]) for row in rows})
    at = {process: TOP + 20 + n * ROW for n, process in enumerate(processes)}
    height = TOP + 40 + ROW * len(processes)

    def x(moment: int) -> float:
        return LEFT + (WIDTH - LEFT - 20) * (min(max(moment, begin), end) - begin) / (end - begin)

    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="20" font-size="14" font-weight="bold">{escape(wrong.rule)}</text>',
        f'<text x="10" y="38">{escape(wrong.why)}</text>',
    ]
    for step in range(6):
        moment = begin + (end - begin) * step // 5
        parts.append(
            f'<line x1="{x(moment):.1f}" y1="{TOP}" x2="{x(moment):.1f}" y2="{height - 10}" stroke="#eeeeee"/>'
            f'<text x="{x(moment):.1f}" y="{TOP - 4}" fill="#666666" text-anchor="middle">'
            f"{(moment - begin) / 1e6:.0f} ms</text>"
        )
    parts += [
        f'<text x="10" y="{y + 13}">process {process}{escape(_member(history, rows, process))}</text>'
        for process, y in at.items()
    ]
    guilty = set(wrong.lines)
    for row in sorted(rows, key=lambda one: int(history.line[one]) in guilty):
        left, right = x(int(history.invoke[row])), x(int(history.ret[row]))
        outcome, shown = Outcome(int(history.outcome[row])), int(history.line[row]) in guilty
        frame = ' stroke="#cb181d" stroke-width="2.5"' if shown else ' stroke="#6b6b6b" stroke-width="0.5"'
        label = history.operation(row)
        y = at[int(history.process[row])]
        parts.append(
            f'<g><title>{escape(label)}</title><rect x="{left:.1f}" y="{y}" width="{max(right - left, 3):.1f}" '
            f'height="{ROW - 8}" fill="{COLOURS[outcome]}"{frame}/>'
            + (f'<text x="{left + 2:.1f}" y="{y + 13}">{escape(_short(label))}</text>' if shown else "")
            + "</g>"
        )
    return "\n".join([*parts, "</svg>\n"])


def _all(history: History) -> tuple[int, int]:
    """From the first call to the last return."""
    if not len(history):
        return 0, 1
    returns = history.ret[history.ret < NEVER]
    return int(history.invoke.min()), int(max(history.invoke.max(), returns.max() if len(returns) else 0))


def _rows(history: History, wrong: Violation, begin: int, end: int) -> list[int]:
    """Operations to draw: those of the violation, and others of its key within the window."""
    guilty = np.isin(history.line, wrong.lines)
    inside = (history.invoke <= end) & (history.ret >= begin)
    # what has no end would fill the picture from its call on: only where it was called within
    inside &= (history.ret < NEVER) | (history.invoke >= begin)
    if wrong.key in history.keys:
        inside &= history.key == history.keys.index(wrong.key)
    others = np.flatnonzero(inside & ~guilty).tolist()
    return [*np.flatnonzero(guilty).tolist(), *others[: max(0, MOST - int(guilty.sum()))]]


def _member(history: History, rows: list[int], process: int) -> str:
    members = {
        history.members[history.member[row]]
        for row in rows
        if history.process[row] == process >= 0 and history.member[row] >= 0
    }
    return f" ({', '.join(sorted(members))})" if members else ""


def _short(label: str) -> str:
    """The operation without line, process and times."""
    return label.partition(", ")[2].partition(" (")[0]
