"""Makes histories as a correct etcd would give them: one store, many clients, answers that come late or never."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Line = dict[str, Any]


@dataclass(frozen=True)
class Mix:
    """What clients do. Shares need not add up to one."""

    put: float = 0.45
    get: float = 0.4
    delete: float = 0.05
    cas: float = 0.1
    txn: float = 0.0
    range: float = 0.0
    unknown: float = 0.01
    fail: float = 0.0
    serializable: float = 0.0
    values: int = 0
    """How many different values are written; 0: every value is new."""
    foreign: float = 0.0
    """Share of revisions that writers outside of the history take."""
    lease: float = 0.0
    """Share of puts with a lease, of which some expire."""
    revisions: bool = True
    mods: bool = True


@dataclass
class Store:
    """The true store: what etcd would hold."""

    revision: int = 1
    cells: dict[str, tuple[Any, int, Any]] = field(default_factory=dict)
    past: list[tuple[int, dict[str, tuple[Any, int, Any]]]] = field(default_factory=list)
    events: list[Line] = field(default_factory=list)

    def put(self, key: str, value: Any, at: int, lease: Any = None) -> None:  # noqa: ANN401
        """Write a key at a revision."""
        before = self.cells.get(key)
        self.cells[key] = (value, at, lease)
        self.events.append(
            {
                "event": "put",
                "key": key,
                "value": value,
                "mod_revision": at,
                "prev_value": before[0] if before else None,
            }
        )

    def delete(self, key: str, at: int) -> bool:
        """Delete a key at a revision; whether there was one."""
        if self.cells.pop(key, None) is None:
            return False
        self.events.append({"event": "delete", "key": key, "mod_revision": at})
        return True


class Simulation:
    """Clients in closed loops against one store; `lines` yields operations in the order of their linearization."""

    def __init__(
        self, operations: int, *, processes: int, keys: int, seed: int, mix: Mix | None = None, keep_past: bool = False
    ) -> None:
        self.operations, self.mix, self.random = operations, mix or Mix(), random.Random(seed)  # noqa: S311
        self.keys = [f"k{n}" for n in range(keys)]
        self.store = Store()
        self.processes = processes
        self.next_process = processes
        self.value = 0
        self.keep_past = keep_past
        self.lease = 1
        self.last_seen: dict[int, int] = {}

    def lines(self) -> Iterator[Line]:
        """Operations, ok and unknown and failed alike."""
        roll = self.random.random
        heap: list[tuple[float, int, Line, int]] = []
        count = 0
        for process in range(self.processes):
            heapq.heappush(heap, self._invoke(process, roll() * 100, count))
            count += 1
        while heap:
            _, _, op, ret = heapq.heappop(heap)
            if roll() < self.mix.foreign:
                self.store.revision += 1
            if self.mix.lease and roll() < 0.05:
                self._expire()
            outcome = op["outcome"]
            if outcome == "late":
                if op["line"].get("lease", self.lease) >= self.lease:  # else refused: its lease has expired
                    self._do(op["line"])
                continue
            if outcome == "ok":
                self._do(op)
                op["return_ns"] = ret
            elif outcome == "fail":
                op["return_ns"] = ret
            elif roll() < 0.5:
                # the worker has long gone on when this one takes effect
                late = {"outcome": "late", "line": dict(op)}
                heapq.heappush(heap, (op["invoke_ns"] + roll() * 3000 * (1 + 5 * roll()), -count, late, 0))
            yield op
            process = op["process"]
            if outcome == "unknown":
                process, self.next_process = self.next_process, self.next_process + 1
            if count < self.operations:
                heapq.heappush(heap, self._invoke(process, ret + 1 + roll() * 50, count))
                count += 1

    def _invoke(self, process: int, now: float, number: int) -> tuple[float, int, Line, int]:
        mix, roll = self.mix, self.random.random
        invoke = int(now)
        ret = invoke + 2 + int(roll() * 1000)
        point = invoke + 0.5 + roll() * (ret - invoke - 1)
        kinds = ("put", "get", "delete", "cas", "txn", "range")
        kind = self.random.choices(kinds, (mix.put, mix.get, mix.delete, mix.cas, mix.txn, mix.range))[0]
        chance = roll()
        outcome = "unknown" if chance < mix.unknown else "fail" if chance < mix.unknown + mix.fail else "ok"
        op: Line = {
            "process": process,
            "op": kind,
            "invoke_ns": invoke,
            "return_ns": None,
            "outcome": outcome,
            "member": f"etcd{process % 3 + 1}",
        }
        key = self.random.choice(self.keys)
        if kind == "txn":
            some = self.random.sample(self.keys, min(2, len(self.keys)))
            op["ops"] = [self._part(one) for one in some]
            if roll() < 0.3:
                held = self.store.cells.get(key)
                op["compare"] = [{"key": key, "value": held[0] if held and roll() < 0.8 else None}]
        elif kind == "range":
            op["key"] = ""
        else:
            op["key"] = key
        if kind in ("put", "cas"):
            op["value"] = self._value()
        if kind == "put" and roll() < mix.lease:
            op["lease"] = self.lease
        if kind == "cas":
            held = self.store.cells.get(key)
            op["expect"] = held[0] if held and roll() < 0.9 else None
        if kind in ("get", "range") and outcome == "ok" and roll() < mix.serializable:
            op["serializable"] = True
        return (point, number, op, ret)

    def _part(self, key: str) -> Line:
        kind = self.random.choice(("put", "get", "delete"))
        return {"op": kind, "key": key} | ({"value": self._value()} if kind == "put" else {})

    def _value(self) -> str:
        self.value += 1
        return str(self.random.randrange(self.mix.values)) if self.mix.values else f"v{self.value}"

    def _expire(self) -> None:
        lease, self.lease = self.lease, self.lease + 1
        attached = [key for key, cell in self.store.cells.items() if cell[2] == lease]
        if attached:
            self.store.revision += 1
            for key in attached:
                self.store.delete(key, self.store.revision)
            self._remember()

    def _remember(self) -> None:
        if self.keep_past:
            self.store.past.append((self.store.revision, dict(self.store.cells)))

    def _do(self, op: Line) -> None:
        """Apply an operation and fill in its answer."""
        store, kind = self.store, op["op"]
        if op.get("lease") is not None and op["lease"] < self.lease:
            op.pop("lease")  # it has expired: this client puts without
        following, wrote = store.revision + 1, False
        if op.get("serializable") and store.past:
            least = self.last_seen.get(op["process"], 0)
            choices = [(r, cells) for r, cells in store.past[-5:] if r >= least] or [(store.revision, store.cells)]
            revision, cells = self.random.choice(choices)
            self._look(op, cells)
            self._seen(op, revision)
            return
        if kind == "put":
            store.put(op["key"], op["value"], following, op.get("lease"))
            wrote = True
        elif kind == "delete":
            wrote = store.delete(op["key"], following)
            op["deleted"] = int(wrote)
        elif kind == "cas":
            held = store.cells.get(op["key"])
            wrote = op["succeeded"] = (held[0] if held else None) == op["expect"]
            if wrote:
                store.put(op["key"], op["value"], following)
        elif kind == "txn":
            wrote = self._txn(op, following)
        else:
            self._look(op, store.cells)
        if wrote:
            store.revision = following
            self._remember()
        self._seen(op, store.revision)

    def _txn(self, op: Line, following: int) -> bool:
        store, wrote = self.store, False
        cells = {c["key"]: store.cells.get(c["key"]) for c in op.get("compare", ())}
        op["succeeded"] = all((cells[c["key"]] or (None,))[0] == c["value"] for c in op.get("compare", ()))
        op["ops"] = [dict(part) for part in op["ops"]]
        for part in op["ops"] if op["succeeded"] else ():
            if part["op"] == "put":
                store.put(part["key"], part["value"], following)
                wrote = True
            elif part["op"] == "delete":
                part["deleted"] = int(store.delete(part["key"], following))
                wrote = wrote or bool(part["deleted"])
            else:
                self._look(part, store.cells)
        return wrote

    def _look(self, op: Line, cells: dict[str, tuple[Any, int, Any]]) -> None:
        if op["op"] == "range":
            op["kvs"] = [
                {"key": k, "value": v} | ({"mod_revision": m} if self.mix.mods else {})
                for k, (v, m, _) in sorted(cells.items())
            ]
            return
        held = cells.get(op["key"])
        op["value"] = held[0] if held else None
        if held and self.mix.mods:
            op["mod_revision"] = held[1]

    def _seen(self, op: Line, revision: int) -> None:
        self.last_seen[op["process"]] = revision
        if self.mix.revisions:
            op["revision"] = revision
