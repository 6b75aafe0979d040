"""Tables: aligned plain lines for programs, drawn ones for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import terminal

cells = st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1, max_size=12)


@given(st.integers(1, 5).flatmap(lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=2)))
def test_columns_of_a_plain_table_begin_at_one_place(rows: list[list[str]]) -> None:
    lines = terminal.plain_table(rows[0], rows[1:])
    assert len(lines) == len(rows)
    assert [line.split() for line in lines] == rows
    starts = {tuple(line.index(f"{cell}", sum(len(c) for c in row[:i])) for i, cell in enumerate(row))
              for line, row in zip(lines, rows, strict=True) if len(set(row)) == len(row)}  # fmt: skip
    assert all(start[0] == 0 for start in starts)


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.table(["NODE", "HEALTH"], [["etcd1", "healthy"]])
    assert capsys.readouterr().out == "NODE   HEALTH\netcd1  healthy\n"


def test_a_terminal_gets_a_drawn_table_and_no_color_is_honoured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "is_terminal", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    terminal.table(["NODE", "HEALTH"], [["etcd1", "healthy"]])
    drawn = capsys.readouterr().out
    assert "│ etcd1 │ healthy │" in drawn
    assert "\x1b[32m" not in drawn
