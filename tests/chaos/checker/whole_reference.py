"""The specification of the whole KV API by brute force, on the raw lines of a small history.

Shares no code with chaos/checker, nor with the narrower `reference.py`: it tries every order of the operations, every
revision that others may have taken, and every moment at which a lease may have expired. The rules are those of
docs/checker.md. A state is the list of all stores there have been (one for each revision from the base on), the lowest
revision that can still be read, and the leases that are gone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

Line = dict[str, Any]
Kv = dict[str, Any]
ANY = None
"""A fact of an initial key that nobody told."""


class Contradiction(Exception):  # noqa: N818 - not an error of a program
    """An answer that this state does not give."""


class Open(Exception):  # noqa: N818
    """A comparison that may come out either way."""


def linearizable(lines: list[Line]) -> bool:
    """Whether some order explains every answer."""
    meta: Line = {}
    if lines and "meta" in lines[0]:
        meta, lines = lines[0]["meta"], lines[1:]
    return Brute(meta, [op for op in lines if op["outcome"] != "fail"]).run()


def named(thing: Any) -> set[int]:
    """Every revision that a line mentions."""
    found: set[int] = set()
    if isinstance(thing, dict):
        for name, value in thing.items():
            if name.endswith("revision") and isinstance(value, int):
                found.add(value)
            else:
                found |= named(value)
    elif isinstance(thing, list):
        for one in thing:
            found |= named(one)
    return found


class Brute:
    def __init__(self, meta: Line, ops: list[Line]) -> None:
        self.base = meta.get("base_revision") or 1
        self.ops = ops
        self.must = frozenset(n for n, op in enumerate(ops) if op["outcome"] == "ok")
        said = set().union(*(named(ops[n]) for n in self.must)) - {0} if self.must else set()
        self.foreign = bool(said) and not meta.get("closed_world")
        self.top = max([self.base, *said]) + len(ops)
        self.seen: set[Any] = set()
        self.good = True
        facts: dict[str, Kv] = {}
        for key, value in (meta.get("initial") or {}).items():
            if value is not None:
                kv = value if isinstance(value, dict) else {"value": value}
                facts[key] = {
                    "value": kv["value"],
                    "mod": kv.get("mod_revision", ANY),
                    "create": kv.get("create_revision", ANY),
                    "version": kv.get("version", ANY),
                    "lease": kv.get("lease", ANY),
                }
        for n in self.must:
            self.learn(ops[n], facts)
        self.start = self.freeze(facts)

    def learn(self, thing: Any, facts: dict[str, Kv], key: str | None = None) -> None:
        """An answered key whose mod revision is of before the beginning was always so."""
        if isinstance(thing, list):
            for one in thing:
                self.learn(one, facts, key)
        if not isinstance(thing, dict):
            return
        key = thing.get("key", key)
        if thing.get("op") not in ("put", "cas", "txn") and 0 < (thing.get("mod_revision") or 0) <= self.base:
            for name, field in (
                ("mod", "mod_revision"),
                ("create", "create_revision"),
                ("version", "version"),
                ("lease", "lease"),
            ):
                told = thing.get(field)
                if key in facts and told is not None:
                    told = told or ("" if name == "lease" else told)
                    if facts[key][name] is ANY:
                        facts[key][name] = told
                    elif facts[key][name] != told:
                        self.good = False
        branch = "ops" if thing.get("succeeded", True) else "else"
        for name in ("prev_kv", "prev_kvs", "kvs", *((branch,) if thing.get("op") == "txn" else ())):
            self.learn(thing.get(name), facts, key)

    @staticmethod
    def freeze(store: dict[str, Kv]) -> Any:
        return tuple(sorted((key, tuple(kv.items())) for key, kv in store.items()))

    def run(self) -> bool:
        return self.good and self.explore(frozenset(), (self.start,), 0, frozenset())

    def explore(self, done: frozenset[int], past: tuple[Any, ...], floor: int, dead: frozenset[str]) -> bool:
        if self.must <= done:
            return True
        place = (done, past, floor, dead)
        if place in self.seen:
            return False
        self.seen.add(place)
        head = self.base + len(past) - 1
        for n, op in enumerate(self.ops):
            blocked = any(m not in done and self.ops[m]["return_ns"] < op["invoke_ns"] for m in self.must if m != n)
            if n in done or blocked:
                continue
            for after, low, gone in self.ways(op, past, floor, dead):
                if self.explore(done | {n}, after, low, gone):
                    return True
        if self.foreign and head < self.top and self.explore(done, (*past, past[-1]), floor, dead):
            return True
        now = {key: dict(kv) for key, kv in past[-1]}
        for lease in {kv["lease"] for kv in now.values()} - {ANY, ""}:
            left = self.freeze({key: kv for key, kv in now.items() if kv["lease"] != lease})
            if self.explore(done, (*past, left), floor, dead | {lease}):
                return True
        return False

    def ways(self, op: Line, past: tuple[Any, ...], floor: int, dead: frozenset[str]) -> list[Any]:
        """Each (stores, floor, dead leases) that there may be after an operation."""
        head, ok = self.base + len(past) - 1, op["outcome"] == "ok"
        at, found = op.get("revision") if ok else None, []
        if op.get("serializable"):
            for r in range(self.base, head + 1):
                with suppress(Contradiction):
                    if at is None or at == r or at < self.base:
                        if at is None or at >= self.base:
                            self.do(op, past[: r - self.base + 1], floor, dead, ok=ok, either=None, lags=True)
                        found = [(past, floor, dead)]
            return found
        choices: tuple[Any, ...] = (None,)
        try:
            return self.checked(self.do(op, past, floor, dead, ok=ok, either=None, lags=False), at)
        except Contradiction:
            return []
        except Open:
            choices = (True, False)
        for either in choices:
            with suppress(Contradiction):
                found += self.checked(self.do(op, past, floor, dead, ok=ok, either=either, lags=False), at)
        return found

    def checked(self, after: Any, at: int | None) -> list[Any]:
        return [after] if at is None or at == self.base + len(after[0]) - 1 else []

    def do(  # noqa: PLR0911, PLR0912 - easier to believe in one piece
        self,
        op: Line,
        past: tuple[Any, ...],
        floor: int,
        dead: frozenset[str],
        *,
        ok: bool,
        either: bool | None,
        lags: bool,
    ) -> Any:
        head, kind, answer = self.base + len(past) - 1, op["op"], op.get("answer")
        if kind in ("lease_ttl", "lease_keepalive"):
            return past, floor, dead
        if kind == "lease_grant":
            return past, floor, dead - {op["lease"]}
        store = {key: dict(kv) for key, kv in past[-1]}
        if kind == "lease_revoke":
            left = {key: kv for key, kv in store.items() if kv["lease"] != op["lease"]}
            if answer == "not_found":
                if left != store:
                    raise Contradiction
                return past, floor, dead | {op["lease"]}
            if op["lease"] in dead:
                raise Contradiction
            return (past if left == store else (*past, self.freeze(left))), floor, dead | {op["lease"]}
        if kind == "compact":
            c = op["compact_revision"]
            if not ok:
                return past, floor, dead
            if answer == "future":
                return self.demand(c > head, (past, floor, dead))
            if answer == "compacted":
                return self.demand(c <= head, (past, max(floor, c), dead))
            return self.demand(floor < c <= head, (past, c, dead))
        branch, compares = [op], []
        if kind == "cas":
            compares = [{"key": op["key"], "value": op["expect"]}]
            branch = [{"op": "put", "key": op["key"], "value": op["value"], "lease": op.get("lease")}]
        elif kind == "txn":
            compares = op.get("compare") or []
        if kind in ("cas", "txn"):
            holds = self.all_hold(compares, store, either)
            if ok and not answer and bool(op.get("succeeded", True)) != holds:
                raise Contradiction
            if kind == "txn":
                branch = op["ops"] if holds else op.get("else") or []
            elif not holds:
                branch = []
        if answer:
            low = self.refused(answer, branch, store, head, lags=lags)
            return past, max(floor, low), dead
        wrote = False
        for part in branch:
            wrote |= self.part(part, store, past, floor, dead, ok=ok, lags=lags)
        return ((*past, self.freeze(store)) if wrote else past), floor, dead

    @staticmethod
    def demand(holds: bool, what: Any) -> Any:
        if not holds:
            raise Contradiction
        return what

    @staticmethod
    def refused(answer: str, branch: list[Line], store: dict[str, Kv], head: int, *, lags: bool) -> int:
        """Whether an error may be the answer; how far the store is compacted at least, then."""
        old = [part["at_revision"] for part in branch if part.get("at_revision")]
        if answer == "compacted" and old and min(old) < head:
            return int(min(old)) + 1
        if answer == "future" and old and (lags or max(old) > head):
            return 0
        keeps = [p["key"] for p in branch if p.get("ignore_value") or p.get("ignore_lease")]
        if answer == "not_found" and any(key not in store for key in keeps):
            return 0
        raise Contradiction

    def all_hold(self, compares: list[Line], store: dict[str, Kv], either: bool | None) -> bool:
        answers = [self.holds(one, store.get(one["key"])) for one in compares]
        if False in answers:
            return False
        if ANY in answers:
            if either is None:
                raise Open
            return either
        return True

    def holds(self, one: Line, kv: Kv | None) -> Any:  # noqa: PLR0911 - one rule after the other
        result = one.get("result", "=")
        if "value" in one:
            if one["value"] is None:
                return (kv is None) == (result == "=")
            return kv is not None and self.ordered(result, kv["value"], one["value"])
        name = next(n for n in ("mod_revision", "create_revision", "version", "lease") if n in one)
        short = name.removesuffix("_revision")
        if short == "lease":
            held = "" if kv is None else kv["lease"]
            if held is ANY:
                return ANY
            return ((held or "") == (one["lease"] or "")) == (result == "=")
        if kv is None:
            return self.ordered(result, 0, one[name])
        if kv[short] is not ANY:
            return self.ordered(result, kv[short], one[name])
        most = self.base if short != "version" else max(9, one[name] + 2)
        answers = {self.ordered(result, n, one[name]) for n in range(1, most + 1)}
        return answers.pop() if len(answers) == 1 else ANY

    @staticmethod
    def ordered(result: str, held: Any, wanted: Any) -> bool:
        return (
            bool({"=": held == wanted, "!=": held != wanted}.get(result))
            if result in ("=", "!=")
            else (held < wanted if result == "<" else held > wanted)
        )

    def told(self, said: Line, kv: Kv | None) -> None:
        """What an answer says of one key must be so."""
        if kv is None:
            if said.get("value") is not None or said.get("mod_revision"):
                raise Contradiction
            return
        for name, field in (("value", "value"), ("mod", "mod_revision"), ("create", "create_revision")):
            if said.get(field) is None:
                continue
            if kv[name] is ANY:
                if said[field] > self.base:
                    raise Contradiction
            elif kv[name] != said[field]:
                raise Contradiction
        for name in ("version", "lease"):
            if said.get(name) is not None and kv[name] is not ANY and (kv[name] or 0) != (said[name] or 0):
                raise Contradiction

    def part(  # noqa: PLR0912
        self,
        part: Line,
        store: dict[str, Kv],
        past: tuple[Any, ...],
        floor: int,
        dead: frozenset[str],
        *,
        ok: bool,
        lags: bool,
    ) -> bool:
        """Do one part in `store`; whether it took a revision."""
        kind, key, head = part["op"], part.get("key") or "", self.base + len(past) - 1
        if kind == "put":
            before = store.get(key)
            keeps = part.get("ignore_value") or part.get("ignore_lease")
            if (part.get("lease") in dead and part.get("lease")) or (keeps and before is None):
                raise Contradiction
            if ok and "prev_kv" in part:
                if (part["prev_kv"] is None) != (before is None):
                    raise Contradiction
                self.told(part["prev_kv"] or {}, before)
            if ok and "prev_value" in part and part["prev_value"] != (before["value"] if before else None):
                raise Contradiction
            store[key] = {
                "value": before["value"] if before and part.get("ignore_value") else part.get("value"),
                "mod": head + 1,
                "create": before["create"] if before else head + 1,
                "version": 1 if before is None else ANY if before["version"] is ANY else before["version"] + 1,
                "lease": before["lease"] if before and part.get("ignore_lease") else part.get("lease") or "",
            }
            return True
        end, prefix = part.get("range_end"), part.get("prefix") or kind == "range"

        def inside(name: str) -> bool:
            if end is not None:
                return key <= name and (end == "\0" or name < end)
            return name.startswith(key) if prefix else name == key

        if kind == "delete":
            hit = {name: store.pop(name) for name in list(store) if inside(name)}
            if ok and part.get("deleted") is not None and part["deleted"] != len(hit):
                raise Contradiction
            if ok and "prev_kv" in part:
                if (part["prev_kv"] is None) != (not hit):
                    raise Contradiction
                self.told(part["prev_kv"] or {}, hit.get(key))
            if ok and part.get("prev_kvs") is not None:
                if {kv["key"] for kv in part["prev_kvs"]} != set(hit):
                    raise Contradiction
                for kv in part["prev_kvs"]:
                    self.told(kv, hit[kv["key"]])
            return bool(hit)
        if not ok:
            return False
        r = part.get("at_revision")
        view = store
        if r:
            if r > head or (r < floor and not lags):
                raise Contradiction
            if r < self.base:
                return False
            view = {name: dict(kv) for name, kv in past[r - self.base]}
        if kind == "get":
            if not part.get("keys_only"):
                if part.get("value") != (view[key]["value"] if key in view else None):
                    raise Contradiction
            elif (key in view) != bool(part.get("mod_revision")):
                raise Contradiction
            self.told(part, view.get(key))
            return False
        self.range(part, {name: kv for name, kv in view.items() if inside(name)})
        return False

    def range(self, part: Line, there: dict[str, Kv]) -> None:
        """A range's answer: some choice of the keys whose revisions nobody knows must give it."""
        if part.get("count") is not None and part["count"] != len(there):
            raise Contradiction
        low, high = part.get("min_mod_revision") or 0, part.get("max_mod_revision") or 0
        first, last = part.get("min_create_revision") or 0, part.get("max_create_revision") or 0

        def may(held: int | None, least: int, most: int) -> set[bool]:
            held_ = range(1, self.base + 1) if held is ANY else (held,)
            return {(not least or one >= least) and (not most or one <= most) for one in held_}

        kept: list[list[str]] = [[]]
        for name in sorted(there):
            one = may(there[name]["mod"], low, high)
            two = may(there[name]["create"], first, last)
            ways = {a and b for a in one for b in two}
            kept = [(*names, name) if way else names for names in kept for way in ways]  # type: ignore[misc]
        for names in kept:
            cut = list(names)[: part["limit"]] if part.get("limit") else list(names)
            if part.get("more") is not None and not part.get("count_only") and part["more"] != (len(cut) < len(names)):
                continue
            if part.get("kvs") is not None and not part.get("count_only"):
                if [kv["key"] for kv in sorted(part["kvs"], key=lambda kv: kv["key"])] != cut:
                    continue
                for kv in part["kvs"]:
                    self.told(kv, there[kv["key"]])
            return
        raise Contradiction
