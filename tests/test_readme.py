"""The README is true: each of its commands is run, each link leads somewhere, each table matches the code."""

from __future__ import annotations

import re

import pytest

from chaos.faults.registry import KINDS
from cli.app import COMMANDS
from infra.settings import LabSettings
from machine.paths import CHECKOUT

README = (CHECKOUT / "README.md").read_text()
DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]


def test_every_command_is_in_the_table() -> None:
    table = README.partition("## Commands")[2].partition("## Layout")[0]
    named = set(re.findall(r"`\./lab (\w+)", table))
    assert set(COMMANDS) <= named
    assert named <= set(COMMANDS)


def test_every_setting_is_in_the_table_with_its_default() -> None:
    table = README.partition("## Configuration")[2].partition("## Commands")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    named = {key: row for row in rows for key in re.findall(r"`([\w-]+)`", row.split("|")[1])}
    fields = {name.replace("_", "-"): field for name, field in LabSettings.model_fields.items()}
    assert set(named) == set(fields)
    for key in ("nodes", "memory", "vcpus", "subnet", "etcd-version", "hypervisor", "image", "peers"):
        assert named[key].split("|")[2].strip() == str(fields[key].default)


def test_every_scenario_is_in_the_table_under_its_family() -> None:
    table = README.partition("## Scenarios")[2].partition("## Layout")[0]
    told: dict[str, set[str]] = {}
    for line in table.splitlines():
        if line.startswith("| `"):
            families, ids = line.split("|")[1:3]
            found: set[str] = set()
            for letter, first, last in re.findall(r"([A-Z])(\d+)(?: to [A-Z](\d+))?", ids):
                found |= {f"{letter}{number}" for number in range(int(first), int(last or first) + 1)}
            told[families.strip()] = found
    declared: dict[str, set[str]] = {}
    for path in (CHECKOUT / "chaos" / "scenarios").glob("test_*.py"):
        text = path.read_text()
        family = re.search(r"^pytestmark = pytest\.mark\.(\w+)", text, re.MULTILINE)
        for one in re.findall(r'^@scenario\(\s*"([^"]+)"', text, re.MULTILINE):
            declared.setdefault(family[1] if family else "", set()).add(one)
    assert declared.pop("") == {"S3", "S11"}, "which the line below the table tells"
    for families, expected in told.items():
        named = [declared.pop(name, set()) for name in re.findall(r"`(\w+)`", families)]
        assert {one for those in named for one in those} == expected, families
    assert not declared


def test_every_fault_has_a_row_with_its_parameters_and_the_defaults_it_names() -> None:
    lines = (CHECKOUT / "docs" / "faults.md").read_text().splitlines()
    for kind in KINDS.values():
        rows = [line for line in lines if line.startswith("| ") and f"`{kind.name}`" in line.split("|")[1]]
        assert len(rows) == 1, kind.name
        for one in kind.parameters:
            if one.name == "where":
                continue  # said once, for all cuts
            assert f"`{one.name}`" in rows[0], f"{one.name} of {kind.name}"
            for default in re.findall(rf"`{one.name}` \([^)]*default (\d+)\)", rows[0]):
                assert float(default) == one.default, f"{one.name} of {kind.name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_link_to_a_file_leads_somewhere(document: object) -> None:
    path = CHECKOUT / str(document)
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_decision_says_context_choice_and_consequence() -> None:
    decisions = sorted((CHECKOUT / "docs" / "decisions").glob("*.md"))
    assert [path.name[:4] for path in decisions] == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        text = path.read_text()
        assert all(f"**{word}.**" in text for word in ("Context", "Choice", "Consequence")), path.name
