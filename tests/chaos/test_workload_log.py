"""A worker's file: nothing that may have reached the cluster is lost, whatever dies."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chaos.checker.history_reader import read_history
from chaos.workload.log import Log, completed, join, lines, merge

PUT = {"op": "put", "key": "k", "value": "1"}
GET = {"op": "get", "key": "k"}


def test_an_operation_is_on_disk_before_it_is_sent_and_whole_when_it_is_over(tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    with Log(path, 2, "etcd3") as log:
        log.begin(PUT, 10)
        assert [line["invoke_ns"] for line in lines(path)] == [10]
        log.end({"invoke_ns": 10, "return_ns": 20, "code": "OK", "revision": 7})
        *_, last = lines(path)
    assert last == PUT | {
        "process": 2, "invoke_ns": 10, "member": "etcd3", "return_ns": 20, "revision": 7, "outcome": "ok"
    }  # fmt: skip


def test_an_unknown_outcome_and_a_broken_connection_end_the_process_number(tmp_path: Path) -> None:
    told = [("DEADLINE_EXCEEDED", ""), ("UNAVAILABLE", "Connection refused"), ("INVALID_ARGUMENT", ""), ("OK", "")]
    with Log(tmp_path / "w.jsonl", 1, "etcd2") as log:
        for number, (code, text) in enumerate(told):
            log.begin(PUT, 10 * number)
            log.end({"invoke_ns": 10 * number, "return_ns": 10 * number + 5, "code": code, "error": text})
    found = list(completed(lines(tmp_path / "w.jsonl")))
    assert [line["outcome"] for line in found] == ["unknown", "fail", "fail", "ok"]
    assert [line["process"] for line in found] == [1, 1001, 2001, 2001]
    assert found[0]["return_ns"] is None


def test_a_read_without_an_answer_did_nothing(tmp_path: Path) -> None:
    with Log(tmp_path / "w.jsonl", 1, "etcd2") as log:
        log.begin(GET, 1)
        assert log.end({"invoke_ns": 1, "return_ns": 2, "code": "DEADLINE_EXCEEDED", "error": ""})["outcome"] == "fail"


@given(
    st.lists(st.tuples(st.sampled_from([PUT, GET]), st.sampled_from(["OK", "UNAVAILABLE", "ABORTED", ""])), max_size=8),
    st.integers(0, 400),
)
def test_a_file_cut_off_anywhere_still_names_every_write_that_was_sent(
    operations: list[tuple[dict[str, Any], str]], cut: int
) -> None:
    """Wherever the file ends, the writes whose begin is on disk are in the history, and it can be read."""
    directory = tempfile.TemporaryDirectory()
    path = Path(directory.name) / "w.jsonl"
    with Log(path, 0, "m") as log:
        for number, (request, code) in enumerate(operations):
            log.begin(request | {"value": str(number)} if request is PUT else request, 10 * number)
            if code:
                log.end({"invoke_ns": 10 * number, "return_ns": 10 * number + 5, "code": code, "revision": number + 2})
            else:
                break
    text = path.read_bytes()
    path.write_bytes(text[: max(0, len(text) - cut)])
    begun = {line["value"] for line in lines(path) if line["op"] == "put"}
    into = path.with_suffix(".merged")
    count = merge([path], into, {"base_revision": 1, "initial": {}, "closed_world": False})
    merged = [json.loads(line) for line in into.read_text().splitlines()[1:]]
    assert {line["value"] for line in merged if line["op"] == "put"} == begun
    with into.open("rb") as file:
        assert len(read_history(file, "merged")) == count
    directory.cleanup()


def test_histories_are_merged_by_time_and_watches_one_after_the_other(tmp_path: Path) -> None:
    for worker, times in enumerate(((10, 40), (20, 30))):
        with Log(tmp_path / f"{worker}.jsonl", worker, f"m{worker}") as log:
            for at in times:
                log.begin(PUT | {"value": f"{at}"}, at)
                log.end({"invoke_ns": at, "return_ns": at + 5, "code": "OK", "revision": at})
    paths = [tmp_path / "0.jsonl", tmp_path / "1.jsonl", tmp_path / "missing.jsonl"]
    assert merge(paths, tmp_path / "h.jsonl", {"base_revision": 9}) == 4
    first, *rest = map(json.loads, (tmp_path / "h.jsonl").read_text().splitlines())
    assert first == {"meta": {"base_revision": 9}}
    assert [line["invoke_ns"] for line in rest] == [10, 20, 30, 40]
    assert join([tmp_path / "missing.jsonl"], tmp_path / "watch.jsonl") == 0
    assert not (tmp_path / "watch.jsonl").exists()
