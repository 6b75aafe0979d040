"""`./lab check`: what it prints and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from cli.check import register
from machine.errors import UsageError

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


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app(), [str(tmp_path / "none.jsonl")])
    assert isinstance(result.exception, UsageError)
    assert "No such file" in str(result.exception)
