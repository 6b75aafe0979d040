"""Random histories, told in each format and read back, keep their verdict."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.checker.action_reading import prefix_end
from chaos.checker.errors import HistoryError
from chaos.checker.formats.choices import choose
from chaos.checker.formats.judging import convert, judge
from chaos.checker.formats.opening import find, open_foreign
from chaos.checker.verdict import Verdict, check
from tests.chaos.checker.foreign_words import Line, edn_map, events, log_line, map_of
from tests.chaos.checker.small import correct, damaged, lines_to_history

REGISTER: Line = {"txn": 0, "range": 0, "delete": 0, "revisions": False, "mods": False, "foreign": 0}
REFUSED = choose("auto", "auto", None, "refused")

Maps = list[dict[str, Any]]


def in_edn(maps: Maps) -> str:
    return "".join(edn_map(one) + "\n" for one in maps)


def in_one_vector(maps: Maps) -> str:
    return "[" + "\n ".join(edn_map(one, "#jepsen.history.Op") for one in maps) + "]"


def in_one_list(maps: Maps) -> str:
    return "; of a test\n(" + "\n".join(edn_map(one) for one in maps) + ")\n"


def in_log(maps: Maps) -> str:
    return "INFO  jepsen.core - Run begins\n" + "\n".join(map(log_line, maps)) + "\n"


def in_json(maps: Maps) -> str:
    return json.dumps(maps)


def misread(lines: list[Line], rnd: random.Random) -> list[Line]:
    """One read that answers what some other operation wrote, or nothing."""
    reads = [n for n, line in enumerate(lines) if line.get("op") == "get" and line["outcome"] == "ok"]
    values = [None, *(line["value"] for line in lines if "value" in line)]
    if not reads:
        return lines
    chosen = rnd.choice(reads)
    return [line | ({"value": rnd.choice(values)} if n == chosen else {}) for n, line in enumerate(lines)]


def report_of(lines: list[Line]) -> dict[str, list[Line]]:
    """Operations with revisions as the clients of etcd's robustness tests record them."""
    clients: dict[str, list[Line]] = {}
    for line in (line for line in lines if "op" in line):
        ok, op = line["outcome"] == "ok", line["op"]
        answered: Line = {"Revision": line.get("revision") or 0} if ok else {"Error": "context deadline exceeded"}
        if op in ("get", "range"):
            got = [line] if ok and line.get("value") is not None else []
            kvs = got if op == "get" else line.get("kvs", [])
            end = "" if op == "get" else prefix_end(line["key"])
            asked: Line = {"Type": "range", "Range": {"Start": line["key"], "End": end, "Limit": 0, "Revision": 0}}
            answered["Range"] = {"KVs": [in_report(kv) for kv in kvs], "Count": len(kvs)}
        else:
            part: Line = {"Type": f"{op}-operation", op.title(): {"Key": line["key"]}}
            if op == "put":
                part["Put"]["Value"] = {"Value": str(line["value"])}
            asked = {"Type": "txn", "Txn": {"Conditions": None, "OperationsOnSuccess": [part]}}
            answered["Txn"] = {"Failure": False, "Results": [{"Deleted": line.get("deleted") or 0}]}
        one = {
            "ClientId": line["process"],
            "Input": asked,
            "Call": line["invoke_ns"],
            "Output": answered,
            "Return": line["return_ns"] or 2**40,
        }
        clients.setdefault(f"client-{line['process'] % 3 + 1}", []).append(one)
    return clients


def in_report(kv: Line) -> Line:
    """A pair as an answer holds it."""
    return {"Key": kv["key"], "Value": {"Value": str(kv["value"])}, "ModRevision": kv.get("mod_revision") or 0}


FORMS: dict[str, tuple[Callable[[Maps], str], str]] = {
    "edn": (in_edn, "jepsen"),
    "vector": (in_one_vector, "jepsen"),
    "list": (in_one_list, "jepsen"),
    "log": (in_log, "jepsen-log"),
    "json": (in_json, "elle"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_random_history_keeps_its_verdict_in_other_words(form: str, tmp_path: Path) -> None:
    tell, name = FORMS[form]
    rnd = random.Random(form)  # noqa: S311
    verdicts: Counter[Verdict] = Counter()
    for n in range(80):
        lines = correct(rnd, **REGISTER)
        lines = misread(damaged(lines, rnd) if n % 4 == 1 else lines, rnd) if n % 3 else lines
        try:
            right = check(lines_to_history(lines), seconds=10).verdict
        except HistoryError:  # the damage made it broken input
            continue
        keyed = len({line["key"] for line in lines if "key" in line}) > 1
        path = tmp_path / f"{n}"
        path.write_text(tell([map_of(event, key=keyed) for event in events(lines)]))
        place = find(path)
        assert place.format == name, path.read_text()
        foreign = open_foreign(place, REFUSED)
        judged = judge(foreign, path, seconds=10)
        assert judged.report.verdict == right, (lines, path.read_text())
        verdicts[right] += 1
        out = tmp_path / f"{n}-ours"
        written = convert(foreign, place.path, out)
        ours = [json.loads(line) for line in written[0].read_text().splitlines()]
        assert check(lines_to_history(ours), seconds=10).verdict == right
    assert min(verdicts[Verdict.LINEARIZABLE], verdicts[Verdict.VIOLATION]) >= 5, verdicts


def test_a_random_history_keeps_its_verdict_as_a_robustness_report(tmp_path: Path) -> None:
    rnd = random.Random(17)  # noqa: S311
    verdicts: Counter[Verdict] = Counter()
    for n in range(120):
        lines = correct(rnd, txn=0, cas=0, fail=0, range=0.2, foreign=0, revisions=True)
        lines = misread(lines, rnd) if n % 2 else lines
        lines = [line | ({"value": str(line["value"])} if line.get("value") is not None else {}) for line in lines]
        lines[0] = {"meta": {"base_revision": 1, "closed_world": False}}
        try:
            right = check(lines_to_history(lines), seconds=10).verdict
        except HistoryError:
            continue
        folder = tmp_path / f"{n}"
        for client, operations in report_of(lines).items():
            (folder / client).mkdir(parents=True)
            text = "".join(json.dumps(one) + "\n" for one in operations)
            (folder / client / "operations.json").write_text(text)
        place = find(folder)
        assert place.format == "etcd-robustness"
        judged = judge(open_foreign(place, REFUSED), folder, seconds=10)
        assert judged.report.verdict == right, lines
        verdicts[right] += 1
    assert min(verdicts[Verdict.LINEARIZABLE], verdicts[Verdict.VIOLATION]) >= 10, verdicts
