"""The specification by brute force: tries every order and every revision, on the raw lines of a small history.

Shares no code with chaos/checker: it is the second source for its tests. Serializable reads see any state there was
so far, or one of before the history, of which nothing is known; all else is as docs/checker.md says.
"""

from __future__ import annotations

from typing import Any

Line = dict[str, Any]
Store = dict[str, tuple[Any, Any, Any]]  # key -> (value, mod revision, lease); mod revision "old": initial


def linearizable(lines: list[Line]) -> bool:
    """Whether some order of the operations, and of the revisions others took, explains every answer."""
    meta: Line = {}
    if lines and "meta" in lines[0]:
        meta, lines = lines[0]["meta"], lines[1:]
    initial = {k: v for k, v in (meta.get("initial") or {}).items() if v is not None}
    base = meta.get("base_revision")
    ops = [
        op
        for op in lines
        if op["outcome"] != "fail" and not (op["outcome"] == "unknown" and op["op"] in ("get", "range"))
    ]
    mentioned = [r for op in ops for r in _revisions(op)]
    writes = sum(op["op"] not in ("get", "range") for op in ops)
    top = max([base or 1, *mentioned]) + writes
    closed = bool(meta.get("closed_world"))
    numbered = bool(mentioned)
    must = frozenset(n for n, op in enumerate(ops) if op["outcome"] == "ok")
    seen: set[object] = set()

    def explore(  # noqa: PLR0911, PLR0912 - easier to believe in one piece
        done: frozenset[int],
        past: tuple[tuple[int, tuple[Any, ...]], ...],
        olds: tuple[Any, ...],
        views: tuple[Any, ...],
        dead: frozenset[Any],
    ) -> bool:
        if must <= done:
            return True
        key = (done, past, olds, views, dead)
        if key in seen:
            return False
        seen.add(key)
        revision, frozen = past[-1]
        store: Store = dict(frozen)
        for n, op in enumerate(ops):
            if n in done or any(
                m not in done and m != n and m in must and ops[m]["return_ns"] < op["invoke_ns"] for m in must
            ):
                continue
            if op.get("serializable"):
                if 0 < (op.get("revision") or 0) < (base or 0):  # of before: nothing is known of it
                    after = _views(op, op["revision"], views)
                    if after is not None and explore(done | {n}, past, olds, after, dead):
                        return True
                    continue
                for at, then in past:
                    after = _views(op, at, views)
                    if after is None or (op.get("revision") is not None and op["revision"] != at):
                        continue
                    result = _apply(op, dict(then), at, dict(olds), base, dead)
                    if result and explore(done | {n}, past, tuple(sorted(result[2].items())), after, dead):
                        return True
                continue
            result = _apply(op, dict(store), revision, dict(olds), base, dead)
            if result is None:
                continue
            new, wrote, learned, gone = result
            now = revision + wrote
            if op["outcome"] == "ok" and op.get("revision") is not None and op["revision"] != now:
                continue
            after = _views(op, now, views) if op["outcome"] == "ok" and op.get("revision") is not None else views
            if after is None:
                continue
            later = (*past, (now, _freeze(new))) if wrote else past
            if explore(done | {n}, later, tuple(sorted(learned.items())), after, gone):
                return True
        if (
            numbered
            and not closed
            and revision < top
            and explore(done, (*past, (revision + 1, frozen)), olds, views, dead)
        ):
            return True
        for lease in {lease for _, _, lease in store.values()} - {None}:
            left = {k: cell for k, cell in store.items() if cell[2] != lease}
            if explore(done, (*past, (revision + 1, _freeze(left))), olds, views, dead | {lease}):
                return True
        return False

    start = _freeze({k: (v, "old", None) for k, v in initial.items()})
    return explore(frozenset(), ((base or 1, start),), (), (), frozenset())


def _freeze(store: Store) -> tuple[Any, ...]:
    return tuple(sorted(store.items(), key=lambda item: item[0]))


def _revisions(op: Line) -> list[int]:
    parts = [op, *op.get("ops", []), *op.get("kvs", [])]
    return [
        part[name]
        for part in parts
        for name in ("revision", "mod_revision")
        if part.get(name) and op["outcome"] == "ok"
    ]


def _views(op: Line, at: int, views: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """What each process saw last on each member; None when this would be a step back."""
    if op.get("member") is None or op.get("revision") is None:
        return views
    known = dict(views)
    one = (op["process"], op["member"])
    if op.get("serializable") and known.get(one, 0) > at:
        return None
    known[one] = max(at, known.get(one, 0))
    return tuple(sorted(known.items()))


def _apply(  # noqa: PLR0911, PLR0912, PLR0917 - easier to believe in one piece
    op: Line, store: Store, revision: int, olds: dict[str, int], base: int | None, dead: frozenset[Any]
) -> tuple[Store, bool, dict[str, int], frozenset[Any]] | None:
    """The store after an operation, whether it took a revision, what is known of old mod revisions, dead leases."""
    ok = op["outcome"] == "ok"
    wrote = False
    first = {k: cell[0] for k, cell in store.items()}
    parts: list[Line] = []
    if op["op"] == "txn":
        holds = all(first.get(c["key"]) == c.get("value") for c in op.get("compare") or [])
        if ok and holds != op.get("succeeded", True):
            return None
        parts = op["ops"] if holds else []
    elif op["op"] == "cas":
        holds = first.get(op["key"]) == op["expect"]
        if ok and holds != op["succeeded"]:
            return None
        parts = [{**op, "op": "put", "mod_revision": None}] if holds else []
    elif op["op"] == "range":
        hits = {k: cell for k, cell in store.items() if k.startswith(op["key"])}
        if {kv["key"] for kv in op["kvs"]} != set(hits):
            return None
        parts = [{"op": "get", **kv} for kv in op["kvs"]]
    elif op["op"] == "lease_revoke":
        if op["lease"] in dead:
            return None
        left = {k: cell for k, cell in store.items() if cell[2] != op["lease"]}
        return left, left != store, olds, dead | {op["lease"]}
    elif op["op"] == "lease_grant":
        return store, False, olds, dead - {op["lease"]}
    else:
        parts = [op]
    for part in parts:
        cell = store.get(part["key"])
        if part["op"] == "put":
            if part.get("lease") in dead:
                return None
            store[part["key"]] = (part["value"], revision + 1, part.get("lease"))
            wrote = True
        elif part["op"] == "delete":
            if ok and part.get("deleted") is not None and part["deleted"] != (cell is not None):
                return None
            if cell is not None:
                del store[part["key"]]
                wrote = True
        elif ok:
            if (cell[0] if cell else None) != part.get("value"):
                return None
            mod = part.get("mod_revision")
            if cell and mod:
                if cell[1] != "old":
                    if cell[1] != mod:
                        return None
                elif (base is not None and mod > base) or olds.setdefault(part["key"], mod) != mod:
                    return None
    return store, wrote, olds, dead
