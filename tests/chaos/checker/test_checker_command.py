"""`./lab check`: what it prints and how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.check import register
from machine.errors import UsageError
from machine.paths import CHECKOUT
from machine.process import run

PUT = {
    "process": 0,
    "op": "put",
    "key": "x",
    "value": "1",
    "invoke_ns": 10,
    "return_ns": 20,
    "outcome": "ok",
    "revision": 5,
}
GET = {"process": 1, "op": "get", "key": "x", "invoke_ns": 30, "return_ns": 40, "outcome": "ok", "revision": 5}


def app() -> typer.Typer:
    made = typer.Typer()
    register(made)
    return made


def write(directory: Path, *lines: object, name: str = "history.jsonl") -> str:
    path = directory / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_linearizable_exits_0_and_prints_the_contract(tmp_path: Path) -> None:
    result = CliRunner().invoke(app(), [write(tmp_path, PUT, GET | {"value": "1"}), "--json"])
    assert result.exit_code == 0
    told = json.loads(result.output)
    assert told.pop("seconds") >= 0
    assert told == {"verdict": "linearizable", "operations": 2, "keys": 1, "violation": None}


def test_violation_exits_1_with_an_explanation(tmp_path: Path) -> None:
    history = write(tmp_path, PUT, GET | {"value": None})
    result = CliRunner().invoke(app(), [history, "--json"])
    assert result.exit_code == 1
    told = json.loads(result.output)
    assert told["verdict"] == "violation"
    assert told["violation"]["lines"] == [2]
    plain = CliRunner().invoke(app(), [history])
    assert plain.exit_code == 1
    assert "lost write" in plain.output
    assert "line 2: process 1, get x -> nothing" in plain.output


def test_the_watch_beside_the_history_is_checked(tmp_path: Path) -> None:
    history = write(tmp_path, PUT)
    write(
        tmp_path,
        {"watch": 0, "event": "created", "key": "x", "start_revision": 1},
        {"watch": 0, "event": "progress", "revision": 9},
        name="watch.jsonl",
    )
    result = CliRunner().invoke(app(), [history])
    assert result.exit_code == 1
    assert "gap in a watch" in result.output


def test_broken_input_is_a_usage_error_that_names_the_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app(), [write(tmp_path, PUT, PUT | {"op": "putt"})])
    assert isinstance(result.exception, UsageError)
    assert result.exception.exit_code == 2
    assert result.exception.where.endswith("history.jsonl:2")


LEDGER = {"meta": {"ledger": True}}
LATER = {"invoke_ns": 30, "return_ns": 40}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (json.dumps(PUT) + "\n" + json.dumps(PUT | LATER)[:-12] + "\n", 2, "cut off"),
        (json.dumps(PUT | {"op": "putt"}) + "\n", 1, "'putt' is not an operation"),
        (json.dumps(PUT | {"return_ns": 9}) + "\n", 1, "before it is invoked"),
        (json.dumps(PUT) + "\n" + json.dumps(GET | {"process": 0, "invoke_ns": 15}) + "\n", 2, "still running"),
        ("".join(json.dumps(one) + "\n" for one in (LEDGER, PUT, PUT | LATER)), 3, "already written in line 2"),
    ],
    ids=["truncated line", "unknown op", "return before invoke", "overlap of one process", "value twice in a ledger"],
)
def test_each_kind_of_broken_input_ends_with_2_and_never_with_a_verdict(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    """As a user runs it: exit status, message and place of the whole command."""
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    done = run([sys.executable, "-P", "-m", "cli", "check", str(path), "--json"], check=False, cwd=CHECKOUT)
    assert done.status == 2, done
    assert f"history.jsonl:{line}" in done.stderr
    assert said in " ".join(done.stderr.split())
    assert "verdict" not in done.stdout


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app(), [str(tmp_path / "none.jsonl")])
    assert isinstance(result.exception, UsageError)
    assert "No such file" in str(result.exception)


UNKNOWN = PUT | {"outcome": "unknown", "return_ns": None, "revision": None}
META = {"meta": {"base_revision": 1, "initial": {}, "closed_world": False}}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "the history holds no operation"),
        ((META,), "the history holds no operation"),
        ((META, PUT | {"outcome": "fail"}, GET | {"value": None, "outcome": "fail"}), "(2 failed)"),
        ((UNKNOWN,), "(1 of unknown outcome)"),
        ((PUT | {"outcome": "fail"}, UNKNOWN | {"process": 3}), "(1 failed, 1 of unknown outcome)"),
    ],
    ids=["empty", "meta alone", "all failed", "all unknown", "both"],
)
def test_a_history_without_an_answer_has_nothing_to_judge(tmp_path: Path, lines: tuple[object, ...], said: str) -> None:
    history = write(tmp_path, *lines)
    result = CliRunner().invoke(app(), [history, "--json"])
    told = json.loads(result.output)
    assert (result.exit_code, told["verdict"], told["violation"]) == (3, "unknown", None)
    assert "there is nothing to judge" in told["reason"]
    assert said in told["reason"]
    plain = CliRunner().invoke(app(), [history])
    assert plain.exit_code == 3
    assert "nothing to judge" in plain.output


def test_what_is_wrong_without_an_answer_is_wrong_all_the_same(tmp_path: Path) -> None:
    history = write(tmp_path, UNKNOWN)
    event = {"watch": 0, "event": "put", "key": "x", "value": "never written", "mod_revision": 2}
    write(tmp_path, {"watch": 0, "event": "created", "key": "x", "start_revision": 1}, event, name="watch.jsonl")
    assert CliRunner().invoke(app(), [history]).exit_code == 1


def test_the_explanation_speaks_of_the_operations_of_this_history(tmp_path: Path) -> None:
    """Two reads that contradict each other, and writes beside them that make no difference."""
    bare = {"revision": None}

    def op(process: int, at: int, name: str, value: str | None, key: str = "x") -> dict[str, object]:
        times = {"invoke_ns": at, "return_ns": at + 5}
        return PUT | bare | times | {"process": process, "op": name, "key": key, "value": value}

    clash = [op(0, 10, "put", "1"), op(0, 20, "put", "2"), op(1, 30, "get", "2"), op(1, 40, "get", "1")]
    alone = CliRunner().invoke(app(), [write(tmp_path, *clash)])
    assert alone.exit_code == 1
    assert "whatever else" not in alone.output
    more = [op(2, 50 + 10 * at, "put", f"y{at}", "y") for at in range(3)]
    beside = CliRunner().invoke(app(), [write(tmp_path, *clash, *more)])
    assert "of this history" in beside.output
