"""Every kind of damage done to histories of a correct store, and of a real etcd, is found."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from bench.histories import Mix, Simulation
from chaos.checker.verdict import Verdict, check
from tests.chaos.checker.small import Line, lines_to_history

RECORDED = Path(__file__).with_name("recorded.jsonl")
"""From a single etcd 3.6.16 on loopback, stopped (SIGSTOP) four times for 0.3 s; five clients, 0.15 s deadlines."""


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - repeatable, not secret


def recorded() -> list[Line]:
    return [orjson.loads(line) for line in RECORDED.read_bytes().splitlines()]


def simulated(seed: int) -> list[Line]:
    mix = Mix(unknown=0.03, fail=0.03, delete=0.05, cas=0.1)
    lines = Simulation(400, processes=6, keys=3, seed=seed, mix=mix).lines()
    return [{"meta": {"base_revision": 1, "initial": {}, "closed_world": False}}, *lines]


def writes_of(lines: list[Line], key: str) -> list[Line]:
    """Acknowledged puts and successful cas of a key by revision."""
    done = [
        op
        for op in lines
        if op.get("key") == key
        and op["outcome"] == "ok"
        and (op["op"] == "put" or (op["op"] == "cas" and op["succeeded"]))
    ]
    return sorted(done, key=lambda op: op["revision"])


def reads(lines: list[Line], rnd: random.Random) -> list[Line]:
    """Reads that found something, in random order."""
    found = [op for op in lines if op.get("op") == "get" and op["outcome"] == "ok" and op["value"] is not None]
    rnd.shuffle(found)
    return found


def stale_read(lines: list[Line], rnd: random.Random) -> None:
    for read in reads(lines, rnd):
        older = [op for op in writes_of(lines, read["key"]) if op["revision"] < read["mod_revision"]]
        if older:
            read |= {"value": older[-1]["value"], "mod_revision": older[-1]["revision"]}
            return
    raise AssertionError("nothing to damage")


def lost_write(lines: list[Line], rnd: random.Random) -> None:
    """A put is acknowledged, and everybody goes on to see what was there before."""
    for read in reads(lines, rnd):
        done = writes_of(lines, read["key"])
        last = [op for op in done if op["revision"] <= read["revision"]]
        if len(last) > 1 and last[-1]["revision"] == read["mod_revision"] and last[-1]["op"] == "put":
            before, lost = last[-2], last[-1]
            for op in lines:
                if op.get("op") == "get" and op["key"] == read["key"] and op.get("mod_revision") == lost["revision"]:
                    op |= {"value": before["value"], "mod_revision": before["revision"]}
            return
    raise AssertionError("nothing to damage")


def double_apply(lines: list[Line], rnd: random.Random) -> None:
    """A put takes effect again later, over what was written since."""
    for read in reads(lines, rnd):
        older = [op for op in writes_of(lines, read["key"]) if op["revision"] < read["mod_revision"]]
        if older:
            read |= {"value": older[-1]["value"], "mod_revision": read["revision"]}
            return
    raise AssertionError("nothing to damage")


def swapped_order(lines: list[Line], rnd: random.Random) -> None:
    puts = [op for op in lines if op.get("op") == "put" and op["outcome"] == "ok"]
    rnd.shuffle(puts)
    for one in puts:
        later = [op for op in puts if op["invoke_ns"] > one["return_ns"]]
        if later:
            other = rnd.choice(later)
            one["revision"], other["revision"] = other["revision"], one["revision"]
            return
    raise AssertionError("nothing to damage")


def read_of_failed_write(lines: list[Line], rnd: random.Random) -> None:
    read = reads(lines, rnd)[0]
    failed = {
        "process": 7777,
        "op": "put",
        "key": read["key"],
        "value": "never",
        "invoke_ns": 1,
        "return_ns": 2,
        "outcome": "fail",
    }
    read["value"] = "never"
    lines.append(failed)


def invented_value(lines: list[Line], rnd: random.Random) -> None:
    reads(lines, rnd)[0]["value"] = "nobody wrote this"


DAMAGES = (stale_read, lost_write, double_apply, swapped_order, read_of_failed_write, invented_value)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("mods", [True, False], ids=["mods", "no mods"])
def test_damage_to_a_simulated_history_is_found(
    damage: Callable[[list[Line], random.Random], None], mods: bool
) -> None:
    for seed in range(5):
        lines = simulated(seed)
        assert check(lines_to_history(lines)).verdict == Verdict.LINEARIZABLE
        damage(lines, seeded(seed))
        if not mods:
            for line in lines:
                line.pop("mod_revision", None)
        report = check(lines_to_history(lines))
        assert report.verdict == Verdict.VIOLATION
        assert report.violation is not None
        assert 1 <= len(report.violation.operations) <= 21


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_a_real_recording_is_found(damage: Callable[[list[Line], random.Random], None]) -> None:
    for seed in range(5):
        lines = recorded()
        damage(lines, seeded(seed))
        assert check(lines_to_history(lines)).verdict == Verdict.VIOLATION


def test_the_real_recording_keeps_all_promises() -> None:
    lines = recorded()
    assert sum(line.get("outcome") == "unknown" for line in lines) > 10, "it should hold unknown outcomes"
    assert check(lines_to_history(lines)).verdict == Verdict.LINEARIZABLE


def test_an_operation_missing_from_a_closed_world_is_a_gap() -> None:
    lines = [line for line in recorded() if line.get("outcome") != "unknown" or line["op"] == "get"]
    settled = check(lines_to_history(recorded())).settled
    assert settled, "an unknown write of the recording has been seen"
    report = check(lines_to_history(lines))
    assert report.verdict == Verdict.VIOLATION


def test_a_gap_is_a_violation_in_a_closed_world_alone() -> None:
    puts = list(Simulation(50, processes=3, keys=2, seed=1, mix=Mix(put=1, get=0, delete=0, cas=0, unknown=0)).lines())
    del puts[20]
    for closed, verdict in ((False, Verdict.LINEARIZABLE), (True, Verdict.VIOLATION)):
        report = check(lines_to_history([{"meta": {"closed_world": closed}}, *puts]))
        assert report.verdict == verdict
    assert report.violation is not None
    assert report.violation.rule == "gap in revisions"
