"""The static checks, as tests: what ./lab test passes needs no further check by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest

from machine.paths import CHECKOUT


def check(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", *words], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def test_ruff_finds_nothing() -> None:
    check("ruff", "check", ".")


@pytest.mark.timeout(300)
def test_mypy_strict_finds_nothing() -> None:
    check("mypy")
