"""Who may import whom, and how large a module may get (design: "The house", style: house habits)."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

from machine.paths import CHECKOUT

PACKAGES = ("machine", "infra", "deploy", "chaos", "cli")
MODULES = sorted(path for package in PACKAGES for path in (CHECKOUT / package).rglob("*.py"))
MOST_GUARDS = 5
HEAVY = {"pydantic", "pulumi", "pulumi_libvirt", "libvirt", "grpc", "pyinfra", "gevent", "numpy", "rich"}


def name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


@pytest.mark.timeout(60)
def test_the_contracts_on_imports_are_kept() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--config", ".importlinter", "--no-cache"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "0 broken" in done.stdout


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph(*PACKAGES)
    order = TopologicalSorter({
        module: [to for to in graph.find_modules_directly_imported_by(module) if to != module]
        for module in graph.modules
    })  # fmt: skip
    order.prepare()  # raises CycleError, which names the circle


def test_arrows_are_not_hidden_from_the_contracts() -> None:
    """An import for type checkers only hides which way an arrow points; those that stay say why."""
    guards = [
        f"{name(path)}: {line}"
        for path in MODULES
        if path.is_relative_to(CHECKOUT / "chaos")
        for line in path.read_text().splitlines()
        if line.startswith("if TYPE_CHECKING:")
    ]
    assert len(guards) <= MOST_GUARDS
    assert all("#" in guard for guard in guards), guards


def test_the_stack_program_is_wiring_only() -> None:
    assert len((CHECKOUT / "__main__.py").read_text().splitlines()) <= 40


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_small_enough_to_read(path: Path) -> None:
    assert path.stat().st_size <= 20 * 1024, f"{name(path)} does more than one thing; part it"


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=name)
def test_package_files_import_nothing_heavy(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert not imported & HEAVY


def test_the_launcher_runs_with_the_standard_library_alone() -> None:
    """./lab runs before .venv exists: -S leaves out every installed package."""
    names = "errors, log, packages, paths, process, venv, versions, waiting"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"from machine import {names}"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
