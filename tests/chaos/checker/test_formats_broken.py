"""Broken input of every format: file, line and reason, exit 2, and never a verdict or another error."""

# ruff: noqa: E501 - a case a line
from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from machine.errors import UsageError
from tests.chaos.checker.test_checker_command import app
from tests.chaos.checker.test_formats_verdicts import LOG, REPORT, WRITE, ops, write_report

EDN = ops(*WRITE)
VECTOR = f"[{EDN}]"
KV = '{:process 0, :type :invoke, :f :put, :key "0", :value "v"}\n{:process 0, :type :ok, :f :put, :key "0", :value "v"}\n'
JSON = json.dumps(
    [
        {"type": "invoke", "f": "write", "value": 5, "process": 0},
        {"type": "ok", "f": "write", "value": 5, "process": 0},
    ],
    indent=0,
)


def error_of(path: Path, *words: str) -> UsageError:
    """What the command ends with."""
    result = CliRunner().invoke(app(), [str(path), *words])
    assert isinstance(result.exception, UsageError), (result.exit_code, result.output, result.exception)
    assert result.exception.exit_code == 2
    assert result.exception.next
    return result.exception


BROKEN = [
    ("edn, cut off", EDN[:-10], 2, "cut off"),
    ("edn, cut off in a string", EDN + '{:type :invoke, :f :write, :process 1, :value "ab', 3, "cut off"),
    ("edn, wrong bracket", EDN.replace("}", "]", 1), 1, "] where } was due"),
    ("edn, bracket too many", EDN + "]\n", 3, "closes nothing"),
    ("vector, cut off", VECTOR[:-1], 1, "cut off"),
    ("vector, something after it", VECTOR + "7", 3, "after the end"),
    ("edn, no process", EDN.replace(":process 0, ", "", 1), 1, "process is missing"),
    ("edn, no process later", EDN.splitlines()[0] + "\n" + EDN.splitlines()[1].replace(":process 0, ", ""), 2, "process is missing"),
    ("edn, no type", EDN.replace(":type :invoke, ", "", 1), 1, "type is missing"),
    ("edn, no f", EDN.replace(":f :write, ", "", 1), 1, "f is missing"),
    ("edn, unknown type", EDN.replace(":type :ok", ":type :fine"), 2, "none of invoke, ok, fail, info"),
    ("edn, unknown f", EDN.replace(":write", ":scribble"), 1, "f is scribble"),
    ("edn, two models", EDN.replace(":index 0, ", "") + "{:type :invoke, :process 1, :f :acquire}", 3, "f is acquire"),
    ("edn, process is a fraction", EDN.replace(":process 0", ":process 1/2"), 1, "process is"),
    ("edn, index is text", EDN.replace(":index 1", ':index "1"'), 2, "index is '1'"),
    ("edn, index twice", EDN.replace(":index 1", ":index 0"), 2, "comes twice"),
    ("edn, time is text", EDN.replace(":index 1", ':time "x"'), 2, "time is 'x'"),
    ("edn, a map without a value", "{:type :invoke, :f}\n", 1, "a key that has no value"),
    ("edn, a key twice", EDN.replace(":index", ":f", 1), 1, "a key twice"),
    ("edn, not a map", EDN + "17\n", 3, "must be a map"),
    ("edn, completes nothing", ops(WRITE[1]), 1, "never invoked"),
    ("edn, completes another", EDN.replace(":ok, :process 0, :f :write", ":ok, :process 0, :f :read"), 2, "line 1 invoked write"),
    ("edn, answered with another value", ops("0 invoke write 5", "0 ok write 6"), 2, "is answered with 6"),
    ("edn, invokes twice", ops(WRITE[0], WRITE[0]), 2, "line 1 is open"),
    ("edn, cas of one value", ops("0 invoke cas 5"), 1, "[old new]"),
    ("edn, another key answered", ops("0 invoke read [1 nil]", "0 ok read [2 3]"), 2, "asked for 1"),
    ("edn, txn of no list", ops("0 invoke txn 5"), 1, "instead of a list"),
    ("edn, txn answers more", ops("0 invoke txn [[:r 1 nil]]", "0 ok txn []"), 2, "another number of parts"),
    ("edn, a number with a zero", EDN.replace(":value 5", ":value 005"), 1, "not EDN"),
    ("edn, nested beyond all measure", "[{:a " + "[" * 100_000, 1, "within each other"),
    ("edn, tags without end", "{:a " + "#a " * 100_000, 1, "within each other"),
    ("kv, no key", KV.replace(':key "0", ', "", 1), 1, "key is missing"),
    ("kv, append of a number", KV.replace(":put", ":append").replace('"v"', "7"), 1, "instead of a string"),
    ("kv, cut off", KV[:-9], 2, "cut off"),
    ("log, cut off", LOG.replace("SEEN", "5")[:-20], 8, "cut off"),
    ("log, a value that is none", LOG.replace("SEEN", "[1 "), 6, "never ends"),
    ("log, no value", LOG.replace("SEEN", "1 2"), 6, "2 values"),
    ("log, completes nothing", LOG.replace(":invoke\t:read", ":invoke\t:cas"), 6, "line 5 invoked cas"),
    ("log, unknown type", LOG.replace(":ok\t:write", ":good\t:write"), 4, "type is good"),
    ("log, unknown f", LOG.replace(":write", ":scribble").replace(":read", ":look"), 2, "f is scribble"),
    ("json, cut off", JSON[:-20], 11, "cut off"),
    ("json, not closed", JSON.rstrip("]"), 14, "cut off"),
    ("json, wrong bracket", JSON.replace("},", "],", 1), 7, "not JSON"),
    ("json, no process", JSON.replace('"value": 5,\n"process": 0', '"value": 5', 1), 2, "process is missing"),
    ("json, process is text of a list", JSON.replace('"process": 0', '"process": [0]', 1), 2, "process is [0]"),
    ("json, a key twice", JSON.replace('"value": 5', '"f": "x"', 1), 2, "a key twice"),
    ("json, not a number", JSON.replace('"value": 5', '"value": NaN', 1), 2, "NaN"),
    ("json, nested beyond all measure", JSON.replace('"value": 5', '"value": ' + "[" * 100_000), 2, "too many arrays"),
    ("json, unknown f", JSON.replace("write", "scribble"), 2, "f is scribble"),
    ("json, something after it", JSON + "7", 14, "follows the end"),
    ("json, array of numbers", "[1, 2]", 1, "not an object"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "why"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_broken_input_is_named_with_file_line_and_reason(text: str, line: int, why: str, tmp_path: Path) -> None:
    path = tmp_path / "history.edn"
    path.write_text(text)
    error = error_of(path)
    assert error.where == f"{path}:{line}", str(error)
    assert why in error.what


FORMATS = ("jepsen", "porcupine", "jepsen-log", "elle")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("content", [b"", b"  \n", b"\x00\x01\xfe\xff" * 50, b"\x1f\x8b\x08\x00" + bytes(90)])
def test_garbage_and_nothing_are_broken_input_of_each_format(form: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    assert error_of(path, "--format", form).where == f"{path}:1"


@pytest.mark.parametrize("suffix", [".edn", ".log", ".txt", ".json", ".bin", ""])
@pytest.mark.parametrize("content", [b"\x00\x01\xfe\xff" * 50, b"hello\n", b"{}\n", b"[]x"])
def test_what_is_of_no_format_is_broken_input(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    assert error_of(path).where.startswith(f"{path}:1")


@pytest.mark.parametrize("suffix", [".edn", ".log", ".txt", ".json"])
def test_an_empty_file_is_broken_input(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.touch()
    assert "empty" in error_of(path).what


WHOLE = {"edn": EDN, "vector": VECTOR, "kv": KV, "log": LOG.replace("SEEN", "5"), "json": JSON}


@pytest.mark.parametrize("name", WHOLE)
def test_no_damage_ends_in_anything_but_a_verdict_or_a_usage_error(name: str, tmp_path: Path) -> None:
    rnd = random.Random(name)  # noqa: S311
    path = tmp_path / "history.edn"
    for _ in range(50):
        text = WHOLE[name]
        for _ in range(rnd.randint(1, 3)):
            at = rnd.randrange(len(text))
            text = text[:at] + rnd.choice(("", "", *'()[]{}":#;\\/, \n\t^a1é\0')) + text[at + rnd.randint(0, 3) :]
        path.write_text(text)
        result = CliRunner().invoke(app(), [str(path)])
        assert result.exit_code in (0, 1, 3) or isinstance(result.exception, UsageError), (text, result.exception)


REPORTS = [
    ("client-1/operations.json", ('"ClientId": 1, ', ""), 1, "ClientId is missing"),
    ("client-1/operations.json", ('"Type": "defragment"', '"Type": "polish"'), 2, "polish"),
    ("client-1/operations.json", ('"Call": 10', '"Call": "10"'), 1, "not an integer"),
    ("client-1/operations.json", ('"Results": [{}]', '"Results": []'), 1, "0 results"),
    (
        "client-1/operations.json",
        ('"Type": "put-operation", "Put": {"Key": "l"', '"Type": "x", "Put": {"Key": "l"'),
        4,
        "'x'",
    ),
    ("client-2/operations.json", ('"Count": 1}', '"Count": 1'), 2, "not JSON"),
    (
        "client-2/operations.json",
        ('"Key": "k", "Value": {"Hash"', '"Key": "q", "Value": {"Hash"'),
        1,
        "answers another",
    ),
    ("client-2/watch.json", ('"Request"', '"Wish"'), 1, "Request is missing"),
    ("client-2/watch.json", ('"Time": 71, "Revision": 0}]}', '"Time": 71'), 2, "not JSON"),
]


@pytest.mark.parametrize(("file", "change", "line", "why"), REPORTS)
def test_a_broken_report_is_named_with_client_line_and_reason(
    file: str, change: tuple[str, str], line: int, why: str, tmp_path: Path
) -> None:
    folder = write_report(tmp_path, change=change, file=file)
    error = error_of(folder)
    assert error.where == f"{folder}/{file}:{line}"
    assert why in error.what


def test_a_report_of_one_process_at_once_in_two_places_is_broken(tmp_path: Path) -> None:
    folder = write_report(tmp_path, change=('"ClientId": 2', '"ClientId": 1'), file="client-2/operations.json")
    text = (folder / "client-2" / "operations.json").read_text()
    (folder / "client-2" / "operations.json").write_text(text.replace('"Call": 30', '"Call": 15'))
    assert "client-2/operations.json:1" in error_of(folder).where
    assert "client-2/operations.json:1" in error_of(folder, "--convert", str(tmp_path / "out")).where
    assert not (tmp_path / "out").exists()


def test_the_report_above_is_whole_without_damage(tmp_path: Path) -> None:
    """Else the cases of damage would show nothing."""
    assert CliRunner().invoke(app(), [str(write_report(tmp_path))]).exit_code == 0
    assert len(REPORT) == 3


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--format", "xml"), "--format xml"),
        (("--model", "queue-of-hearts"), "--model queue-of-hearts"),
        (("--failed-cas", "perhaps"), "--failed-cas perhaps"),
        (("--initial", "[1"), "--initial [1"),
        (("--initial", "1 2"), "--initial 1 2"),
        (("--model", "mutex"), "f is write"),
    ],
)
def test_options_that_do_not_fit_are_refused(words: tuple[str, ...], why: str, tmp_path: Path) -> None:
    path = tmp_path / "history.edn"
    path.write_text(EDN)
    result = CliRunner().invoke(app(), [str(path), *words])
    assert isinstance(result.exception, UsageError)
    assert why in str(result.exception)


def test_options_for_others_are_refused_for_ours(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(
        '{"process": 0, "op": "put", "key": "k", "value": "1", "invoke_ns": 1, "return_ns": 2, "outcome": "ok"}\n'
    )
    for words in (("--model", "register"), ("--convert", str(tmp_path / "o")), ("--initial", "0")):
        assert "this is ours" in error_of(path, *words).what


def test_a_report_has_to_be_a_folder_with_clients(tmp_path: Path) -> None:
    path = tmp_path / "history.edn"
    path.write_text(EDN)
    assert "no folder" in error_of(path, "--format", "etcd-robustness").what
    assert "client-N" in error_of(tmp_path, "--format", "etcd-robustness").what
    (tmp_path / "none").mkdir()
    assert "no history here" in error_of(tmp_path / "none").what
    assert "No such file" in error_of(tmp_path / "gone").what
