"""Of small histories of the whole KV API the checker says what trying everything says, in both directions."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from chaos.checker.errors import HistoryError
from chaos.checker.verdict import Verdict, check
from tests.chaos.checker.small import lines_to_history
from tests.chaos.checker.whole_reference import linearizable
from tests.chaos.checker.whole_small import Line, Maker, damaged


def history(seed: int) -> list[Line]:
    """One small history, right or damaged."""
    rnd = random.Random(seed)  # noqa: S311 - repeatable, not secret
    lines = Maker(rnd).lines(rnd.randint(2, 6), unknown=rnd.choice((0, 0, 0.3)), headers=rnd.choice((1, 1, 1, 0.6, 0)))
    for _ in range(rnd.choice((0, 1, 1, 2))):
        lines = damaged(lines, rnd)
    return lines


def compared(seed: int, decided: Counter[bool]) -> None:
    """Both verdicts of one history are equal; a history that damage made unreadable does not count."""
    lines = history(seed)
    try:
        read = lines_to_history(lines)
    except HistoryError:
        return
    expected = linearizable(lines)
    report = check(read, seconds=20)
    text = "\n".join(map(str, lines))
    if expected and not read.acknowledged:
        assert report.verdict == Verdict.UNKNOWN, "nothing was acknowledged, so there is nothing to judge"
        return
    wanted = Verdict.LINEARIZABLE if expected else Verdict.VIOLATION
    assert report.verdict == wanted, f"seed {seed}: {report.text()}\n{text}"
    decided[expected] += 1


def test_verdict_on_the_whole_api_is_that_of_brute_force() -> None:
    decided: Counter[bool] = Counter()
    for seed in range(250):
        compared(seed, decided)
    assert decided[True] > 50
    assert decided[False] > 50


@pytest.mark.parametrize("unknown", [0, 0.01])
def test_a_long_history_is_decided_and_a_lie_in_it_found(unknown: float) -> None:
    for seed in range(4):
        lines = Maker(random.Random(seed)).lines(600, unknown=unknown, headers=1)  # noqa: S311 - repeatable
        assert check(lines_to_history(lines), seconds=20).verdict == Verdict.LINEARIZABLE
        refused = [line for line in lines if line.get("succeeded") is False and line["op"] == "cas"]
        refused[len(refused) // 2]["succeeded"] = True
        report = check(lines_to_history(lines), seconds=20)
        assert report.verdict == Verdict.VIOLATION
        assert report.violation is not None


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_verdict_on_the_whole_api_is_that_of_brute_force_for_long() -> None:
    """At least 1,000 histories, always others, and as many as some minutes allow."""
    decided: Counter[bool] = Counter()
    began = time.monotonic()
    while sum(decided.values()) < 1000 or time.monotonic() < began + 240:
        compared(random.SystemRandom().getrandbits(48), decided)
    assert decided[True] > 200
    assert decided[False] > 200


def test_found_by_chance_and_kept() -> None:
    """Histories on which the two once differed."""
    decided: Counter[bool] = Counter()
    for seed in (249, 1171, 1424, 1826, 2662, 25123):
        compared(seed, decided)
    assert sum(decided.values()) >= 5
    revoked = {"process": 1, "op": "lease_revoke", "lease": "7", "outcome": "ok", "revision": 3}
    lines: list[Line] = [
        {"meta": {"base_revision": 1}},
        {"process": 0, "op": "put", "key": "b", "value": "1", "lease": "7", "outcome": "ok", "revision": 2}
        | {"invoke_ns": 4, "return_ns": 11, "prev_kv": None},
        {"process": 2, "op": "get", "key": "b", "value": "1", "outcome": "ok", "revision": 3}
        | {"invoke_ns": 14, "return_ns": 22, "version": 1},
        revoked | {"invoke_ns": 24, "return_ns": 45},
    ]
    assert check(lines_to_history(lines)).verdict == Verdict.VIOLATION
    assert not linearizable(lines)
