"""What a workload is asked to do: words to a plan, wrong words refused, and clients that follow it repeatably."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from chaos.workload.plan import MIXES, REGISTER, Plan
from chaos.workload.profiles import Worker, clients
from machine.errors import UsageError


def test_words_become_a_plan_and_survive_json() -> None:
    plan = Plan.parse("txn, rate=12.5,keys=7,seed=9,serializable=0.5,deadline=1,lease_ttl=8,mix=put:3/get")
    assert (plan.profile, plan.rate, plan.keys, plan.seed, plan.serializable) == ("txn", 12.5, 7, 9, 0.5)
    assert (plan.deadline, plan.lease_ttl, plan.mix) == (1.0, 8, {"put": 3, "get": 1})
    assert Plan.from_json(json.loads(json.dumps(plan.as_json()))) == plan


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("registers", "no workload 'registers'"),
        ("register,rate", "'rate' is not KEY=VALUE"),
        ("register,speed=3", "'speed=3'"),
        ("register,rate=-1", "not between 0 and"),
        ("register,keys=0", "not between 1 and"),
        ("register,keys=many", "invalid literal"),
        ("register,serializable=2", "not between 0 and 1"),
        ("register,mix=pull:1", "'pull' is none of"),
        ("register,mix=put:0", "nothing has a weight"),
        ("register,mix=put:-1", "not negative"),
    ],
)
def test_words_that_mean_nothing_are_refused_before_anything_is_done(text: str, said: str) -> None:
    with pytest.raises(UsageError) as told:
        Plan.parse(text)
    assert said in str(told.value)
    assert told.value.exit_code == 2
    assert told.value.where == "--workload"


def played(plan: Plan, turns: int, *, index: int = 0) -> list[dict[str, Any]]:
    """Requests of one worker against a store that says yes to everything."""
    play = clients(Worker(plan, "p/", index, random.Random(f"{plan.seed}/{index}")))  # noqa: S311
    requests, answer = [], {}
    request = next(play)
    for _ in range(turns):
        if request is not None:
            requests.append(request)
            answer = request | {"outcome": "ok", "succeeded": True, "value": request.get("value")}
        request = play.send(answer)
    return requests


@pytest.mark.parametrize("profile", MIXES)
def test_the_same_seed_asks_the_same_and_another_does_not(profile: str) -> None:
    plan = Plan.parse(f"{profile},seed=1")
    assert played(plan, 60) == played(plan, 60)
    assert played(plan, 60) != played(plan, 60, index=1)
    assert all(request["key"].startswith("p/") for request in played(plan, 60) if "key" in request)


def test_the_mix_is_followed_and_values_are_unique() -> None:
    requests = played(Plan.parse("register,keys=2,mix=put:8/get:1/delete:1"), 2000)
    kinds = Counter(request["op"] for request in requests)
    assert "cas" not in kinds
    assert 0.75 < kinds["put"] / len(requests) < 0.85
    written = [request["value"] for request in requests if request["op"] == "put"]
    assert len(set(written)) == len(written)
    assert {request["key"] for request in requests} == {"p/r/0", "p/r/1"}
    assert set(REGISTER) >= set(kinds)


def test_the_share_of_serializable_reads_is_followed() -> None:
    reads = [one for one in played(Plan.parse("register,serializable=0.5,mix=get:1"), 1000) if one["op"] == "get"]
    assert 0.4 < sum("serializable" in one for one in reads) / len(reads) < 0.6
    assert not any("serializable" in one for one in played(Plan.parse("register,serializable=0,mix=get:1"), 100))


def test_a_txn_never_puts_a_key_twice_since_etcd_refuses_that() -> None:
    for request in played(Plan.parse("txn,keys=3"), 400):
        if request["op"] == "txn":
            keys = [part["key"] for part in request["ops"]]
            assert len(set(keys)) == len(keys) >= 2
