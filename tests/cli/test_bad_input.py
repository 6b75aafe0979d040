"""Wrong configuration ends `./lab up` and `./lab verify` with 2, one paragraph, and nothing made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.app import main
from machine.paths import CHECKOUT, reports_dir, stack_paths

STACK = "unit-bad-input"


@pytest.fixture
def config() -> Iterator[Path]:
    """The stack file of a stack that exists for this test only; git ignores it."""
    path = CHECKOUT / f"Pulumi.{STACK}.yaml"
    yield path
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("command", ["up", "verify"])
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("etcd-lab:nodes: 0", "etcd-lab:nodes"),
        ("etcd-lab:nodes: ten", "etcd-lab:nodes"),
        ("etcd-lab:nods: 3", "Did you mean etcd-lab:nodes"),
        ("etcd-lab:names: [a, a, b]", "etcd-lab:names"),
        ("etcd-lab:names: [host, a, b]", "etcd-lab:names"),
        ("etcd-lab:names: [a, leader, b]", "etcd-lab:names"),
        ("etcd-lab:subnet: 8.8.8.0/24", "etcd-lab:subnet"),
        ("etcd-lab:etcd-version: 2.3.8", "etcd-lab:etcd-version"),
        ("etcd-lab:hypervisor: qemu+ssh://far/system", "etcd-lab:hypervisor"),
        ("etcd-lab:memory: 65536\n  etcd-lab:nodes: 9", "MiB needed"),
    ],
)
def test_wrong_configuration_is_refused_before_anything_is_made(
    config: Path, capsys: pytest.CaptureFixture[str], command: str, line: str, says: str
) -> None:
    config.write_text(f"config:\n  {line}\n")
    runs = set(reports_dir().glob("*"))
    assert main([command, "--stack", STACK]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert len(said.splitlines()) == 1
    assert "Traceback" not in said
    assert not stack_paths(STACK).dir.exists()
    assert set(reports_dir().glob("*")) == runs


@pytest.mark.parametrize("expression", ["nosuchmark", "seed and not seed", "seed and"])
def test_scenarios_that_do_not_exist_are_refused_before_anything_is_made(
    config: Path, capsys: pytest.CaptureFixture[str], expression: str
) -> None:
    config.write_text("config: {}\n")
    runs = set(reports_dir().glob("*"))
    assert main(["verify", "--stack", STACK, "--scenarios", expression]) == 2
    assert f"--scenarios {expression!r}" in capsys.readouterr().err
    assert not stack_paths(STACK).dir.exists()
    assert set(reports_dir().glob("*")) == runs


@pytest.mark.parametrize("name", ["", "Lab", "a/b", "..", "x" * 40])
def test_an_illegal_stack_name_is_wrong_usage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--stack", name]) == 2
    assert "--stack" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["status", "health", "ctl etcd1 get x", "ssh etcd1", "logs etcd1", "stop", "heal"])
def test_without_a_lab_every_command_says_so_once(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, *rest = words.split()
    assert main([command, "--stack", STACK, *rest]) == 2
    said = capsys.readouterr().err
    assert STACK in said
    assert "./lab up" in said
