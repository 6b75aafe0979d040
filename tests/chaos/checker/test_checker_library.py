"""The checker as a library: docs/checker.md begins with it, and it runs from any directory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.checker import History, HistoryError, Verdict, check
from machine.paths import CHECKOUT

OPERATION = {"process": 0, "op": "put", "key": "x", "value": "1", "invoke_ns": 0, "return_ns": 1, "outcome": "ok"}


def test_the_example_of_the_document_runs_from_an_empty_directory_and_finds_the_lost_write(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", (CHECKOUT / "docs" / "checker.md").read_text(), re.M | re.S)[:1]
    assert len(example.splitlines()) <= 8
    done = subprocess.run(
        [sys.executable, "-P", "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("violation "), done.stdout


def test_it_loads_nothing_of_the_lab(tmp_path: Path) -> None:
    code = (
        "import sys, chaos.checker; print([m for m in sys.modules if m.split('.')[0] in ('machine', 'infra', 'cli')])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_operations_in_memory_are_judged_and_a_broken_one_is_named_by_its_number() -> None:
    assert check(History.from_operations([{**OPERATION, "revision": 2}])).verdict == Verdict.LINEARIZABLE
    with pytest.raises(HistoryError, match=r"history.*2"):
        History.from_operations([OPERATION, {**OPERATION, "op": "swap"}])
    assert issubclass(HistoryError, ValueError)


def test_a_file_is_loaded_and_one_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text("{\n")
    with pytest.raises(HistoryError, match=r"h\.jsonl"):
        History.load(path)
