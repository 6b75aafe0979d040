"""The README is true: each of its commands is run, each link leads somewhere, each table matches the code."""

from __future__ import annotations

import re

import pytest

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
