"""Histories with appends: the search says what trying every order says."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from chaos.checker.errors import HistoryError
from chaos.checker.formats.appends import check_appends
from chaos.checker.formats.choices import choose
from chaos.checker.formats.judging import convert, judge
from chaos.checker.formats.opening import find, open_foreign
from chaos.checker.verdict import Verdict

CHOICES = choose("auto", "auto", None, "ignored")
Call = dict[str, Any]


def calls(rnd: random.Random) -> list[Call]:
    """A few operations on one key, with answers that a correct store gave, or in places did not."""
    state, found = "", []
    moments = sorted(rnd.sample(range(1, 40), 6))
    for n, moment in enumerate(moments[: rnd.randint(2, 6)]):
        op = rnd.choice(("get", "get", "append", "append", "put"))
        value = rnd.choice("ab") if op != "get" else state
        if op == "get" and rnd.random() < 0.2:
            value = value[:-1] + rnd.choice(("", "a", "b"))
        state = {"get": state, "append": state + value, "put": value}[op]
        begin, end = moment - rnd.randint(0, 9) - 0.5 + n / 100, moment + rnd.randint(0, 9) + 0.5 + n / 100
        known = rnd.random() < 0.8
        found.append({"process": n, "op": op, "value": value, "begin": begin, "end": end if known else None})
    return found


def possible(those: list[Call]) -> bool:
    """Whether some order of all that returned, and any of the others, explains what was read."""
    sure = [one for one in those if one["end"] is not None]
    open_ = [one for one in those if one["end"] is None and one["op"] != "get"]
    for count in range(len(open_) + 1):
        for some in itertools.combinations(open_, count):
            if any(explains(order) for order in itertools.permutations((*sure, *some))):
                return True
    return False


def explains(order: tuple[Call, ...]) -> bool:
    state = ""
    for n, one in enumerate(order):
        if any(later["end"] is not None and later["end"] < one["begin"] for later in order[n + 1 :]):
            return False
        if one["op"] == "get" and one["value"] != state:
            return False
        state = {"get": state, "append": state + one["value"], "put": one["value"]}[one["op"]]
    return True


def told(those: list[Call]) -> str:
    """As Porcupine's kv test logs them."""
    moments = [(one["begin"], "invoke", one) for one in those]
    moments += [(one["end"], "ok", one) for one in those if one["end"] is not None]
    lines = []
    for _, kind, one in sorted(moments, key=lambda moment: moment[0]):
        value = "nil" if one["op"] == "get" and kind == "invoke" else json.dumps(one["value"])
        lines.append(f'{{:process {one["process"]}, :type :{kind}, :f :{one["op"]}, :key "7", :value {value}}}\n')
    return "".join(lines)


def test_appends_are_decided_as_by_trying_every_order(tmp_path: Path) -> None:
    rnd = random.Random(4)  # noqa: S311
    verdicts: Counter[Verdict] = Counter()
    path = tmp_path / "kv.txt"
    for _ in range(400):
        those = calls(rnd)
        if all(one["op"] != "append" for one in those):
            continue
        path.write_text(told(those))
        judged = judge(open_foreign(find(path), CHOICES), path, seconds=10)
        right = Verdict.LINEARIZABLE if possible(those) else Verdict.VIOLATION
        assert judged.report.verdict == right, told(those)
        verdicts[right] += 1
    assert min(verdicts[Verdict.LINEARIZABLE], verdicts[Verdict.VIOLATION]) >= 20, verdicts


def test_a_violation_with_appends_names_key_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "kv.txt"
    path.write_text(
        '{:process 0, :type :invoke, :f :append, :key "3", :value "p"}\n'
        '{:process 0, :type :ok, :f :append, :key "3", :value "p"}\n'
        '{:process 1, :type :invoke, :f :get, :key "3", :value nil}\n'
        '{:process 1, :type :ok, :f :get, :key "3", :value ""}\n'
    )
    found = judge(open_foreign(find(path), CHOICES), path, seconds=5).report.violation
    assert found is not None
    assert (found.key, found.lines) == ("3", (1, 3))
    assert "get 3 -> ''" in found.text()


def test_a_history_with_appends_is_not_converted(tmp_path: Path) -> None:
    path = tmp_path / "kv.txt"
    path.write_text('{:process 0, :type :invoke, :f :append, :key "3", :value "p"}\n')
    with pytest.raises(HistoryError, match="has no append"):
        convert(open_foreign(find(path), CHOICES), path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_limit_of_memory_ends_in_unknown(tmp_path: Path) -> None:
    lines = []
    for kind in ("invoke", "ok"):
        lines += [f'{{:process {n}, :type :{kind}, :f :append, :key "k", :value "{n} "}}\n' for n in range(9)]
    lines.append('{:process 0, :type :invoke, :f :get, :key "k", :value nil}\n')
    lines.append('{:process 0, :type :ok, :f :get, :key "k", :value "8 7 6 5 4 3 2 0"}\n')
    lines.append('{:process 0, :type :invoke, :f :put, :key "k", :value ""}\n')
    path = tmp_path / "kv.txt"
    path.write_text("".join(lines))
    report = check_appends(open_foreign(find(path), CHOICES), seconds=30, places=500)
    assert report.verdict == Verdict.UNKNOWN
    assert "limit of memory" in report.reason
