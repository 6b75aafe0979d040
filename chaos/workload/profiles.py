"""The clients: each a generator that yields its next request and is sent the recorded answer.

They yield None to let a turn pass. Nothing here does I/O, beyond a look at the clock; a request has the fields of a
history line. Values are unique to the worker, so that what is read says who wrote it.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

from chaos.workload.plan import MIXES, Plan

Line = dict[str, Any]
Client = Generator[Line | None, Line, None]


@dataclass(frozen=True, slots=True)
class Worker:
    """Who a client is: its plan, the prefix of its keys, its number among the workers, its own chance."""

    plan: Plan
    prefix: str
    index: int
    random: random.Random

    def get(self, key: str) -> Line:
        """A read, serializable by the plan's share."""
        line: Line = {"op": "get", "key": key}
        return line | ({"serializable": True} if self.random.random() < self.plan.serializable else {})


def register(me: Worker) -> Client:
    """Put, get, delete and cas on a few keys that all workers share."""
    names, weights = list(me.plan.mix), list(me.plan.mix.values())
    known: dict[str, str | None] = {}
    for number in itertools.count():
        key, value = f"{me.prefix}r/{me.random.randrange(me.plan.keys)}", f"{me.index}-{number}"
        kind = me.random.choices(names, weights)[0]
        if kind == "get":
            done = yield me.get(key)
            value_now = done.get("value")
        elif kind == "delete":
            done = yield {"op": "delete", "key": key}
            value_now = None
        elif kind == "cas":
            done = yield {"op": "cas", "key": key, "expect": known.get(key), "value": value}
            value_now = value if done.get("succeeded") else known.get(key)
        else:
            done = yield {"op": "put", "key": key, "value": value}
            value_now = value
        if done["outcome"] == "ok":
            known[key] = value_now


def ledger(me: Worker) -> Client:
    """Writes that are never overwritten: each acknowledged one must be found at the end."""
    for number in itertools.count():
        yield {"op": "put", "key": f"{me.prefix}l/{me.index}/{number:06d}", "value": f"{me.index}:{number}"}


def txn(me: Worker) -> Client:
    """Transactions on several of a few shared keys, half of them guarded by what was last seen of one."""
    known: dict[str, str | None] = {}
    keys = [f"{me.prefix}t/{number}" for number in range(max(2, me.plan.keys))]
    for number in itertools.count():
        chosen = me.random.sample(keys, min(len(keys), me.random.choice((2, 3))))
        parts: list[Line] = []
        for key in chosen:
            kind = me.random.choices(("put", "get", "delete"), (5, 4, 1))[0]
            parts.append({"op": kind, "key": key} | ({"value": f"{me.index}-{number}"} if kind == "put" else {}))
        guards = []
        if me.random.random() < 0.5:
            guards = [{"key": chosen[0], "value": known.get(chosen[0])}]
        done = yield {"op": "txn", "compare": guards, "ops": parts}
        if done["outcome"] == "ok" and not done.get("succeeded", True):
            seen = yield {"op": "get", "key": chosen[0]}  # what the guard should have been
            if seen["outcome"] == "ok":
                known[chosen[0]] = seen.get("value")
        elif done["outcome"] == "ok":
            known |= {one["key"]: one.get("value") for one in done["ops"]}


def lease(me: Worker) -> Client:
    """A lease with one key at a time: granted, renewed a few times, then revoked or left to expire, and watched go."""
    for number in itertools.count():
        name = lease_name(me, number)
        granted = yield {"op": "lease_grant", "lease": name, "ttl": me.plan.lease_ttl}
        if granted["outcome"] != "ok":
            continue
        key = f"{me.prefix}e/{me.index}/{number}"
        done = yield {"op": "put", "key": key, "value": f"{me.index}-{number}", "lease": name}
        if done["outcome"] != "ok":
            continue
        for _ in range(me.random.randrange(3)):
            yield {"op": "get", "key": key}
            yield {"op": "lease_keepalive", "lease": name}
        if me.random.random() < 0.3:
            yield {"op": "lease_revoke", "lease": name}
            yield {"op": "get", "key": key}
            continue
        while True:
            done = yield {"op": "get", "key": key}
            if done["outcome"] == "ok" and done.get("value") is None:
                break
            yield None


def lock(me: Worker) -> Client:
    """A lock made of a lease and a key, and two counters read and written under it.

    `x/plain` is written without a look at the lock, as an article's example would do: a holder that was slow, or whose
    lease ran out, overwrites what the next holder wrote. `x/fenced` is written only while the lock is still held (one
    transaction), and loses nothing. etcd promises only the second (learning/why, "Lock is not safe on its own").
    """
    held, plain, fenced = f"{me.prefix}x/lock", f"{me.prefix}x/plain", f"{me.prefix}x/fenced"
    for number in itertools.count():
        name, token = lease_name(me, number), f"{me.index}-{number}"
        granted = yield {"op": "lease_grant", "lease": name, "ttl": me.plan.lease_ttl}
        if granted["outcome"] != "ok":
            continue
        done: Line = {}
        while not done.get("succeeded"):
            done = yield {"op": "cas", "key": held, "expect": None, "value": token, "lease": name}
            if done["outcome"] != "ok":
                break
            if not done.get("succeeded"):
                yield {"op": "lease_keepalive", "lease": name}
        if not done.get("succeeded"):
            yield {"op": "lease_revoke", "lease": name}
            continue
        for key in (plain, fenced):
            seen = yield {"op": "get", "key": key}
            if seen["outcome"] != "ok":
                continue
            if number % 3 == me.index % 3:
                yield from pause(me.plan.lease_ttl * 1.5)  # a holder that was slow; its lease is over by then
            step = str(int(seen.get("value") or 0) + 1)
            if key == plain:
                yield {"op": "put", "key": key, "value": step}
            else:
                guard = [{"key": held, "value": token}]
                yield {"op": "txn", "compare": guard, "ops": [{"op": "put", "key": key, "value": step}]}
        yield {"op": "lease_revoke", "lease": name}


def pause(seconds: float) -> Client:
    """Let turns pass for a time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield None


def lease_name(me: Worker, number: int) -> int:
    """An id of our own choice, so that also a grant of unknown outcome has a name; unlike any other's."""
    return (me.random.getrandbits(46) << 16 | number & 0xFFFF) or 1


CLIENTS: Final[dict[str, Callable[[Worker], Client]]] = {
    "register": register,
    "ledger": ledger,
    "txn": txn,
    "lease": lease,
    "lock": lock,
}


def clients(me: Worker) -> Client:
    """One worker: the clients of its profile, one operation of one of them at a time, chosen by weight."""
    mix = MIXES[me.plan.profile]
    made = {name: CLIENTS[name](me) for name in mix}
    waiting = {name: next(client) for name, client in made.items()}
    while True:
        name = me.random.choices(list(mix), list(mix.values()))[0]
        request = waiting[name]
        answer = yield request
        waiting[name] = made[name].send(answer)
