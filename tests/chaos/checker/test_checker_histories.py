"""Recorded and made-up histories of real bugs and of fields that used to be passed over: each has its right verdict.

`row*` were recorded on real members, `k8s-*` are seven transactions as Kubernetes sends them, told in several ways and
damaged in some; `edge-*` are made up, a field or two each.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.checker.errors import HistoryError
from chaos.checker.files import check_file

HISTORIES = Path(__file__).with_name("histories")
L, V, NAMED = "linearizable", "violation", "exit 2"

RIGHT = {
    "edge-18089-fresh-watch": V,
    "edge-18089-product-resumes-at-6": L,  # it was resumed beyond the delete, so nothing can be known
    "edge-18089-resumed-at-5": V,
    "edge-cmp-greater": L,
    "edge-cmp-mod-right": L,
    "edge-cmp-mod-wrong-refusal": V,
    "edge-compact-op": L,
    "edge-delete-range": L,
    "edge-else-lies": V,
    "edge-else-writes": L,
    "edge-get-at-revision": L,
    "edge-keepalive-zero": V,
    "edge-lock-op": NAMED,
    "edge-lost-delete-last": L,  # nothing came after it, so nothing can be known
    "edge-lost-delete-notice": V,
    "edge-member-list-op": NAMED,
    "edge-put-prev-kv-lies": V,
    "edge-range-keys-only": L,
    "edge-range-limit": L,
    "edge-range-more": L,
    "edge-txn-get-at-revision": L,
    "edge-watch-silent": V,
    "k8s-effects-only": L,
    "k8s-naive": L,
    "k8s-naive-creates-only": L,
    "k8s-naive-damaged-else": V,
    "k8s-naive-lost-update": V,
    "k8s-nocompare": NAMED,
    "k8s-thenelse": L,
    "k8s-translated": L,
    "k8s-translated-damaged-else": V,
    "k8s-translated-lost-update": V,
    "row1-18667-3.6.16-compacted": V,
    "row1-18667-3.6.16-future": V,
    "row1-18667-3.7.3-compacted": L,
    "row1-18667-3.7.3-future": L,
    "row2-18089-3.5.15": V,
    "row2-18089-3.5.16": L,
}


def verdict(path: Path) -> str:
    try:
        return check_file(path, seconds=20).verdict.value
    except HistoryError:
        return NAMED


@pytest.mark.parametrize("name", RIGHT)
def test_each_history_has_its_right_verdict(name: str) -> None:
    assert verdict(HISTORIES / name / "history.jsonl") == RIGHT[name]


def test_every_history_there_is_in_the_table() -> None:
    assert {path.name for path in HISTORIES.iterdir()} == set(RIGHT)


@pytest.mark.parametrize(
    ("version", "right"),
    [("3.5.15", L), ("3.4.33", L), ("3.3.27", L), ("3.5.16", V), ("3.4.34", V), ("3.6.0", V), ("v3.5.34", V)],
)
@pytest.mark.parametrize("name", ["edge-18089-resumed-at-5", "edge-18089-fresh-watch"])
def test_a_delete_at_the_compact_revision_is_promised_by_some_versions_only(
    tmp_path: Path, name: str, version: str, right: str
) -> None:
    for path in (HISTORIES / name).iterdir():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        if "meta" in lines[0]:
            lines[0]["meta"]["etcd_version"] = version
        (tmp_path / path.name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert verdict(tmp_path / "history.jsonl") == right


@pytest.mark.parametrize("name", ["row1-18667-3.6.16-compacted", "row1-18667-3.6.16-future"])
def test_the_member_that_went_its_own_way_is_named(name: str) -> None:
    """E#18667: the member that was asked refused what the others applied."""
    report = check_file(HISTORIES / name / "history.jsonl", seconds=20)
    lines = [json.loads(line) for line in (HISTORIES / name / "history.jsonl").read_text().splitlines()]
    asked = next(line["member"] for line in lines if line.get("outcome") == "fail")
    others = " and ".join(sorted({"etcd1", "etcd2", "etcd3"} - {asked}))
    assert f"{asked} disagrees with {others} from revision 5 on" in report.text()
