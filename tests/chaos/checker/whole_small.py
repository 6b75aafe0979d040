"""Small random histories of the whole KV API: what a correct etcd answers, then perhaps damaged.

A third account of the rules, as plain as possible: it makes answers, where `whole_reference` looks for an explanation.
"""

from __future__ import annotations

import copy
import random
from typing import Any

Line = dict[str, Any]
KEYS = ("a", "b", "c")
VALUES = ("1", "2", "3")
OPERATORS = ("=", "!=", "<", ">")


class Etcd:
    """One correct store; `do` gives the answer of a request."""

    def __init__(self, base: int, initial: Line) -> None:
        self.base, self.revision, self.floor = base, base, 0
        self.now: dict[str, Line] = {key: dict(kv) for key, kv in initial.items()}
        self.past: dict[int, dict[str, Line]] = {base: copy.deepcopy(self.now)}
        self.gone: set[str] = set()

    def commit(self) -> None:
        """One more revision."""
        self.revision += 1
        self.past[self.revision] = copy.deepcopy(self.now)

    def expire(self, lease: str) -> None:
        """A lease ends."""
        keys = [key for key, kv in self.now.items() if kv["lease"] == lease]
        self.gone.add(lease)
        for key in keys:
            del self.now[key]
        if keys:
            self.commit()

    def holds(self, one: Line) -> Any:
        kv = self.now.get(one["key"])
        result = one.get("result", "=")
        if "value" in one:
            if one["value"] is None:
                return (kv is None) == (result == "=")
            if kv is None:
                return False
        name = next(n for n in ("value", "mod_revision", "create_revision", "version", "lease") if n in one)
        held = kv[name] if kv else "" if name == "lease" else 0
        other = one[name]
        return (
            bool({"=": held == other, "!=": held != other}[result])
            if result in ("=", "!=")
            else (held < other if result == "<" else held > other)
        )

    def do(self, op: Line) -> Line:  # noqa: PLR0911 - one refusal after the other
        """The answer; requests that etcd refuses answer {"refused": …}."""
        kind = op["op"]
        if kind == "compact":
            at = op["compact_revision"]
            if at > self.revision or at <= self.floor:
                return {"answer": "future" if at > self.revision else "compacted"}
            self.floor = at
            return {"revision": self.revision}
        if kind == "lease_revoke":
            if op["lease"] in self.gone:
                return {"answer": "not_found"}
            self.expire(op["lease"])
            return {"revision": self.revision}
        answer: Line = {}
        parts, inner = [op], [answer]
        if kind == "cas":
            answer["succeeded"] = self.holds({"key": op["key"], "value": op["expect"]})
            parts = [{**op, "op": "put"}] if answer["succeeded"] else []
            inner = [{}] * len(parts)
        elif kind == "txn":
            answer["succeeded"] = all(map(self.holds, op.get("compare", ())))
            parts = op["ops"] if answer["succeeded"] else op.get("else", [])
            inner = [{} for _ in parts]
        for part in parts:
            at = part.get("at_revision", 0)
            if at > self.revision or (at and at < self.floor):
                return {"answer": "future" if at > self.revision else "compacted"}
            if (part.get("ignore_value") or part.get("ignore_lease")) and part["key"] not in self.now:
                return {"answer": "not_found"}
            if part.get("lease") in self.gone:
                return {"refused": True}
        wrote = [self.part(part, said) for part, said in zip(parts, inner, strict=True)]
        if any(wrote):
            self.commit()
        if kind == "txn":
            done = [{**part, **said} for part, said in zip(parts, inner, strict=True)]
            answer["ops" if answer["succeeded"] else "else"] = done
        return answer | {"revision": self.revision}

    def part(self, part: Line, said: Line) -> bool:  # noqa: PLR0912 - easier to believe in one piece
        """Do one part, and say what it answers."""
        kind, key = part["op"], part.get("key", "")
        if kind == "put":
            before = self.now.get(key)
            if part.get("x_prev"):
                said["prev_kv"] = before and {n: v for n, v in before.items() if n != "lease"}
            self.now[key] = {
                "value": before["value"] if before and part.get("ignore_value") else part.get("value"),
                "mod_revision": self.revision + 1,
                "create_revision": before["create_revision"] if before else self.revision + 1,
                "version": before["version"] + 1 if before else 1,
                "lease": before["lease"] if before and part.get("ignore_lease") else part.get("lease", ""),
            }
            return True
        end = part.get("range_end")
        view = self.now
        if part.get("at_revision"):
            if part["at_revision"] < self.base:
                view = {"a": {"value": "old", "mod_revision": 1, "create_revision": 1, "version": 1, "lease": ""}}
            else:
                view = self.past[part["at_revision"]]
        if kind == "get":
            hit = view.get(key)
            said["value"] = hit["value"] if hit else None
            if part.get("x_facts") and hit:
                said |= {name: hit[name] for name in ("mod_revision", "create_revision", "version")}
            return False
        inside = sorted(k for k in view if k == key or ((end or kind == "range") and k >= key and (not end or k < end)))
        if kind == "delete":
            if part.get("x_prev"):
                kvs = [{"key": k, **{n: self.now[k][n] for n in ("value", "mod_revision")}} for k in inside]
                if end:
                    said["prev_kvs"] = kvs
                else:
                    said["prev_kv"] = {n: v for n, v in kvs[0].items() if n != "key"} if kvs else None
            said["deleted"] = len(inside)
            for k in inside:
                del self.now[k]
            return bool(inside)
        said["count"] = len(inside)
        bounds = (("min_", min), ("max_", max))
        kept = [
            k
            for k in inside
            if all(
                not part.get(name + field) or pick(view[k][field], part[name + field]) == part[name + field]
                for name, pick in bounds
                for field in ("mod_revision", "create_revision")
            )
        ]
        if part.get("count_only"):
            return False
        cut = kept[: part["limit"]] if part.get("limit") else kept
        if part.get("limit"):
            said["more"] = len(cut) < len(kept)
        names = ["value", "mod_revision"] + (["create_revision", "version", "lease"] if part.get("x_facts") else [])
        names = names[1:] if part.get("keys_only") else names
        said["kvs"] = [{"key": k, **{n: view[k][n] for n in names}} for k in cut]
        return False


class Maker:
    """Requests, answered by one Etcd in their order."""

    def __init__(self, rnd: random.Random) -> None:
        self.rnd = rnd
        self.keys = KEYS[: rnd.randint(1, 3)]
        base = rnd.choice((1, 1, 4))
        initial: Line = {}
        if base > 1 and rnd.random() < 0.7:
            fact = {
                "mod_revision": rnd.randint(1, base),
                "create_revision": 1,
                "version": rnd.randint(1, 3),
                "lease": "",
            }
            initial = {self.keys[0]: {"value": rnd.choice(VALUES), **fact}}
        self.etcd = Etcd(base, initial)
        self.closed = rnd.random() < 0.5
        told = initial if rnd.random() < 0.3 else {key: kv["value"] for key, kv in initial.items()}
        self.meta = {"base_revision": base, "initial": told, "closed_world": self.closed}

    def lines(self, count: int, *, unknown: float, headers: float) -> list[Line]:
        """A history with its meta; `headers` is the share of answers that carry a revision."""
        rnd, out = self.rnd, []
        for n in range(count):
            if not self.closed and rnd.random() < 0.15:
                self.etcd.commit()
            if rnd.random() < 0.05:
                self.etcd.expire("7")
            op = self.request()
            at = 10 * (n + 1)
            line = {"process": n, **op, "invoke_ns": at - rnd.randint(0, 25), "return_ns": at + rnd.randint(1, 25)}
            if rnd.random() < unknown and op["op"] not in ("get", "range"):
                if rnd.random() < 0.6:
                    self.etcd.do(op)
                out.append(line | {"return_ns": None, "outcome": "unknown"})
                continue
            serial = op["op"] in ("get", "range") and rnd.random() < 0.15
            answer = self.etcd.do(op)
            if "refused" in answer:
                out.append(line | {"outcome": "fail"})
                continue
            if serial:
                answer["serializable"] = True
            if rnd.random() >= headers:
                answer.pop("revision", None)
            out.append(line | {"outcome": "ok"} | answer)
        rnd.shuffle(out)
        return [{"meta": self.meta}, *out]

    def request(self) -> Line:
        rnd = self.rnd
        kind = rnd.choice(("put", "put", "get", "delete", "txn", "txn", "range", "compact", "cas", "lease_revoke"))
        if kind == "compact":
            return {"op": kind, "compact_revision": rnd.randint(1, self.etcd.revision + 1)}
        if kind == "lease_revoke":
            return {"op": kind, "lease": "7"} if rnd.random() < 0.5 else self.simple("put")
        if kind == "cas":
            return {"op": kind, "key": self.key(), "expect": rnd.choice((None, *VALUES)), "value": rnd.choice(VALUES)}
        if kind != "txn":
            return self.simple(kind)
        op: Line = {"op": "txn", "ops": self.several()}
        if rnd.random() < 0.8:
            op["compare"] = [self.compare() for _ in range(rnd.choice((1, 1, 2)))]
            if rnd.random() < 0.7:
                op["else"] = self.several()
        return op

    def several(self) -> list[Line]:
        """Parts that etcd takes: no key is written twice."""
        parts: list[Line] = []
        written: set[str] = set()
        for _ in range(self.rnd.randint(1, 2)):
            part = self.simple(self.rnd.choice(("put", "put", "get", "delete", "range")))
            touched = set(self.keys) if part.get("range_end") else {part["key"]}
            if part["op"] in ("put", "delete"):
                if touched & written:
                    continue
                written |= touched
            parts.append(part)
        return parts

    def key(self) -> str:
        return self.rnd.choice(self.keys)

    def near(self) -> int:
        """A revision that may well matter."""
        return max(1, self.etcd.revision - self.rnd.randint(-1, 3))

    def compare(self) -> Line:
        rnd = self.rnd
        target = rnd.choice(("value", "mod_revision", "create_revision", "version", "lease"))
        one: Line = {"key": self.key(), "result": rnd.choice(OPERATORS)}
        held = self.etcd.now.get(one["key"])
        if target == "value":
            one["value"] = rnd.choice((None, *VALUES)) if one["result"] in ("=", "!=") else rnd.choice(VALUES)
        elif target == "lease":
            one |= {"lease": rnd.choice(("", "7")), "result": rnd.choice(("=", "!="))}
        elif target == "version":
            one["version"] = rnd.randint(0, 3)
        else:
            one[target] = held[target] if held and rnd.random() < 0.5 else rnd.choice((0, self.near()))
        return one

    def simple(self, kind: str) -> Line:
        rnd = self.rnd
        op: Line = {"op": kind, "key": self.key()}
        if kind == "put":
            if rnd.random() < 0.15:
                op["ignore_value"] = True
            else:
                op["value"] = rnd.choice(VALUES)
            if rnd.random() < 0.15:
                op["ignore_lease"] = True
            elif rnd.random() < 0.2:
                op["lease"] = "7"
            return op | ({"x_prev": True} if rnd.random() < 0.4 else {})
        if kind == "delete":
            op |= {"key": "a", "range_end": rnd.choice(("b", "c", "z"))} if rnd.random() < 0.4 else {}
            return op | ({"x_prev": True} if rnd.random() < 0.4 else {})
        op |= {"at_revision": self.near()} if rnd.random() < 0.25 else {}
        op |= {"x_facts": True} if rnd.random() < 0.6 else {}
        if kind == "range":
            op["key"] = ""
            op |= {"limit": rnd.randint(1, 2)} if rnd.random() < 0.4 else {}
            op |= rnd.choice(({}, {}, {"keys_only": True}, {"count_only": True}))
            for name in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
                op |= {name: self.near()} if rnd.random() < 0.1 else {}
        return op


def damaged(lines: list[Line], rnd: random.Random) -> list[Line]:
    """One change somewhere in an answer (or a question), which may or may not break a promise."""
    lines = copy.deepcopy(lines)
    places: list[tuple[Line, str]] = []

    def walk(thing: Any) -> None:
        if isinstance(thing, dict):
            for name, value in thing.items():
                if name in (
                    "value",
                    "succeeded",
                    "deleted",
                    "count",
                    "more",
                    "version",
                    "answer",
                    "lease",
                ) or name.endswith("revision"):
                    places.append((thing, name))
                else:
                    walk(value)
        elif isinstance(thing, list):
            for one in thing:
                walk(one)

    walk(lines[1:])
    if not places:
        return lines
    chance = rnd.random()
    if chance < 0.15 and len(lines) > 2:
        lines.remove(rnd.choice(lines[1:]))
        return lines
    if chance < 0.25:
        ok = [line for line in lines[1:] if line["outcome"] == "ok" and "answer" not in line]
        if ok:
            one = rnd.choice(ok)
            one |= {"outcome": "unknown", "return_ns": None}
            return lines
    thing, name = rnd.choice(places)
    held = thing[name]
    if isinstance(held, bool):
        thing[name] = not held
    elif isinstance(held, int):
        thing[name] = max(0 if name in ("deleted", "count", "version") else 1, held + rnd.choice((-1, 1)))
    elif name == "answer":
        thing[name] = rnd.choice(("compacted", "future", "not_found"))
    elif name == "lease":
        return lines
    elif held is not None or thing.get("op") == "get":
        thing[name] = rnd.choice(VALUES)
    return lines
