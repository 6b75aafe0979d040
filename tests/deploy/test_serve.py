"""The file server and the child as processes of their own, on loopback."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine.paths import CHECKOUT


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    (tmp_path / "etcd").write_bytes(b"\x7fELF" * 300_000)
    (tmp_path / "secret").write_text("not for nodes")
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.serve", "127.0.0.1", f"etcd={tmp_path / 'etcd'}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}", process
    process.stdin.close()
    process.wait(timeout=10)
    process.stdout.close()


def test_serves_the_named_file_whole(server: tuple[str, subprocess.Popen[str]]) -> None:
    with urllib.request.urlopen(f"{server[0]}/etcd", timeout=10) as answer:  # noqa: S310 - http, as made above
        assert answer.read() == b"\x7fELF" * 300_000


@pytest.mark.parametrize("path", ["/secret", "/../secret", "/"])
def test_serves_nothing_else(server: tuple[str, subprocess.Popen[str]], path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{server[0]}{path}", timeout=10)  # noqa: S310 - http, as made above


def test_ends_with_its_parent(server: tuple[str, subprocess.Popen[str]]) -> None:
    process = server[1]
    assert process.poll() is None
    assert process.stdin is not None
    process.stdin.close()  # what the kernel does when the parent dies
    assert process.wait(timeout=10) == 0


def test_the_child_refuses_a_bad_request_in_one_line() -> None:
    child = subprocess.run(
        [sys.executable, "-m", "deploy.child"],
        input='{"mode": "wreck"}',
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        check=False,
        timeout=60,
    )
    assert child.returncode == 2
    assert child.stdout == ""
    assert "Traceback" not in child.stderr
    assert "mode" in child.stderr
