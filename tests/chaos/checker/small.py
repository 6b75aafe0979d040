"""Small random histories for the brute-force comparison: what a correct store answers, then perhaps damaged."""

from __future__ import annotations

import random
from typing import Any

import orjson

from bench.histories import Mix, Simulation
from chaos.checker.history_reader import read_history
from chaos.checker.model import History

Line = dict[str, Any]


def lines_to_history(lines: list[Line]) -> History:
    """As if read from a file."""
    return read_history([orjson.dumps(line) for line in lines], "history.jsonl")


def correct(rnd: random.Random, **mix: Any) -> list[Line]:
    """Operations of a correct store, two to seven of them, over one or two keys."""
    settings: Line = {
        "unknown": rnd.choice((0, 0.3, 0.5)),
        "values": rnd.choice((0, 1, 2, 3)),
        "foreign": rnd.choice((0, 0.2)),
        "txn": rnd.choice((0, 0.2)),
        "range": rnd.choice((0, 0.1)),
        "delete": 0.15,
        "cas": 0.2,
        "mods": rnd.random() < 0.6,
        "fail": 0.1,
    }
    chosen = Mix(**(settings | mix))
    simulation = Simulation(
        rnd.randint(2, 7),
        processes=rnd.randint(1, 4),
        keys=rnd.randint(1, 2),
        seed=rnd.randrange(2**32),
        mix=chosen,
        keep_past=True,
    )
    closed = chosen.foreign == 0 and chosen.revisions and rnd.random() < 0.5
    return [{"meta": {"base_revision": 1, "initial": {}, "closed_world": closed}}, *simulation.lines()]


def begun_late(lines: list[Line], rnd: random.Random) -> list[Line]:
    """The same history on a store that was not empty: what was at first is in `initial`, revisions are shifted."""
    base = rnd.choice((1, 5))
    shift = base - 1
    out = []
    for line in lines[1:]:
        one = dict(line)
        for name in ("revision", "mod_revision"):
            if one.get(name):
                one[name] += shift
        one["ops"] = [
            p | ({"mod_revision": p["mod_revision"] + shift} if p.get("mod_revision") else {})
            for p in one.get("ops", [])
        ]
        if "kvs" in one:
            one["kvs"] = [
                kv | ({"mod_revision": kv["mod_revision"] + shift} if kv.get("mod_revision") else {})
                for kv in one["kvs"]
            ]
        out.append({name: value for name, value in one.items() if name != "ops" or value})
    meta = lines[0]["meta"] | {"base_revision": base, "initial": {"k0": rnd.choice((None, "0", "old"))}}
    return [{"meta": meta}, *out]


def damaged(lines: list[Line], rnd: random.Random) -> list[Line]:
    """One random change, which may or may not break a promise."""
    lines = [dict(line) for line in lines]
    operations = lines[1:]
    if not operations:
        return lines
    one, chance = rnd.choice(operations), rnd.random()
    if chance < 0.3 and "value" in one:
        one["value"] = rnd.choice([other.get("value") for other in operations]) or "zz"
    elif chance < 0.5 and one.get("revision"):
        one["revision"] = max(1, one["revision"] + rnd.choice((-1, 1)))
    elif chance < 0.6 and one.get("mod_revision"):
        one["mod_revision"] = max(1, one["mod_revision"] + rnd.choice((-1, 1)))
    elif chance < 0.75:
        lines.remove(one)
    elif chance < 0.85 and one["op"] == "cas" and "succeeded" in one:
        one["succeeded"] = not one["succeeded"]
    elif chance < 0.9 and "deleted" in one:
        one["deleted"] = 1 - one["deleted"]
    elif one["outcome"] == "ok" and "ops" not in one and "kvs" not in one:
        one |= {"outcome": "unknown", "return_ns": None, "process": 1000 + rnd.randrange(1000)}
    return lines
