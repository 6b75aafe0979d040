"""A fault of another package: named by an entry point, listed, injected, healed from its record."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from typer.testing import CliRunner

from chaos.faults import records, registry
from chaos.faults.registry import catalogue, from_record, kind
from chaos.lab.lab import Lab
from cli.app import build
from machine.errors import UsageError
from machine.paths import StackPaths

MODULE = """
from dataclasses import dataclass
from typing import ClassVar
from pathlib import Path
from chaos.faults.base import Fault, Proof

@dataclass(frozen=True)
class Unplug(Fault):
    name: ClassVar[str] = "unplug"
    family: ClassVar[str] = "visitors"
    summary: ClassVar[str] = "pulls the plug of a lamp"
    def place(self, lab): return "lamp"
    def apply(self, lab): (lab.paths.dir / "dark").touch()
    def lift(self, lab): (lab.paths.dir / "dark").unlink(missing_ok=True)
    def look(self, lab, *, in_force):
        dark = (lab.paths.dir / "dark").exists()
        return [Proof("lamp", "here", str(in_force), str(dark), dark is in_force)]
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in a directory of its own, as pip leaves it."""
    (tmp_path / "visitor_faults.py").write_text(textwrap.dedent(MODULE))
    about = tmp_path / "visitor_faults-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: visitor-faults\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[etcd_lab.faults]\nunplug = visitor_faults:Unplug\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.installed.cache_clear()
    yield about
    registry.installed.cache_clear()


def test_it_is_listed_injected_and_healed_from_its_record(package: Path, tmp_path: Path) -> None:
    listed = CliRunner().invoke(build(), ["fault", "list"])
    assert "unplug" in listed.output
    assert "pulls the plug" in listed.output
    assert "unplug" not in registry.KINDS, "random sequences draw from ours alone"
    paths = StackPaths(tmp_path, "t")
    paths.dir.mkdir(parents=True)
    lab = cast(Lab, SimpleNamespace(paths=paths, manifest=SimpleNamespace(lab_id="12ab34cd")))
    assert kind("unplug")((("etcd1",),)).inject(lab).proved
    assert (paths.dir / "dark").exists()
    (record,) = records.load_all(paths)[0]
    assert from_record(record).heal(lab).proved
    assert not (paths.dir / "dark").exists()
    assert records.load_all(paths)[0] == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("visitor_faults:Missing", "cannot be loaded"),
        ("visitor_faults:Path", "no subclass of Fault"),
        ("chaos.faults.host.power:PowerOff", "already"),
    ],
)
def test_a_broken_one_is_named_with_its_package(package: Path, value: str, said: str) -> None:
    (package / "entry_points.txt").write_text(f"[etcd_lab.faults]\nunplug = {value}\n")
    with pytest.raises(UsageError, match=rf"{said}.*visitor-faults"):
        catalogue()
