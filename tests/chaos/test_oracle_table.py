"""The page on the oracle shows the rules that the code applies."""

from __future__ import annotations

from chaos.oracle.table import table
from machine.paths import CHECKOUT


def test_the_page_holds_the_table_of_the_code() -> None:
    page = (CHECKOUT / "docs" / "oracle.md").read_text()
    missing = [row for row in table().splitlines() if row not in page]
    assert not missing, "python -m chaos.oracle.table prints the rows of today"
