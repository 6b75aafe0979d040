"""The record of the deployment that began last, and whether a state speaks for the nodes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from deploy.journal import Journal
from machine.errors import ToolError
from machine.paths import StackPaths


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(StackPaths(tmp_path, "lab"))


def test_a_lab_from_before_there_were_records_is_believed(journal: Journal) -> None:
    assert journal.unfinished(None) == ""


def test_a_deployment_that_the_state_records_is_finished_and_a_later_one_is_not(journal: Journal) -> None:
    first = journal.begin("etcd 3.6.16")
    assert journal.unfinished(first) == ""
    second = journal.begin("etcd 3.6.17")
    assert second != first
    assert "etcd 3.6.17" in journal.unfinished(first)
    assert "did not finish" in journal.unfinished(None), "the first one of all, in a state that has none"
    assert journal.unfinished(second) == ""


def test_why_it_failed_is_told_to_whoever_asks_and_is_one_line(journal: Journal) -> None:
    one = journal.begin("etcd 3.6.16")
    journal.failed(one, ToolError("Deploying etcd: etcd2 failed\n at 'restart'", tail="a log"))
    assert journal.unfinished(None).endswith("did not finish: Deploying etcd: etcd2 failed at 'restart'")
    other = journal.begin("etcd 3.6.16")
    journal.failed(one, ToolError("too late"))
    assert "too late" not in journal.unfinished(None)
    assert journal.unfinished(other) == ""


@pytest.mark.parametrize("content", ["", "{", "[]", '{"deployment": 3}', "\x00\x80"])
def test_a_record_that_cannot_be_read_speaks_for_nothing(journal: Journal, content: str) -> None:
    one = journal.begin("etcd 3.6.16")
    journal.path.write_bytes(content.encode("latin-1"))
    assert "cannot be read" in journal.unfinished(one)
    assert "cannot be read" in journal.unfinished(None)


def test_a_record_that_is_gone_speaks_for_nothing(journal: Journal) -> None:
    one = journal.begin("etcd 3.6.16")
    journal.remove()
    journal.remove()
    assert "no record" in journal.unfinished(one)


def test_the_record_is_its_owners_alone_and_leaves_nothing_beside_it(journal: Journal) -> None:
    journal.begin("etcd 3.6.16")
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert list(journal.path.parent.iterdir()) == [journal.path]


def test_what_cannot_be_recorded_does_not_begin(journal: Journal) -> None:
    journal.path.parent.parent.mkdir(parents=True)
    journal.path.parent.write_text("in the way")
    with pytest.raises(ToolError, match="No node was touched"):
        journal.begin("etcd 3.6.16")
