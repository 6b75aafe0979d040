"""Which operations have to be searched together, and the search over them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from chaos.checker.model import NONE, History, Kind
from chaos.checker.order import RealTime
from chaos.checker.search import Answer, Limit, Result, World, search
from chaos.checker.specification import ALWAYS, Step, step


def steps_of(history: History, past: RealTime | None = None) -> list[Step]:
    """Every operation that says something, for the machine; with `past`, unknown ones know what they come after."""
    found = [one for row in range(len(history)) if (one := step(history, row)) is not None]
    if past is None:
        return found
    _later(found)
    free = [n for n, one in enumerate(found) if one.revision < 0]
    least = past.before(np.array([found[n].invoke for n in free], np.int64)).tolist()
    for n, after in zip(free, least, strict=True):
        found[n] = replace(found[n], after=after)
    return found


def _later(steps: list[Step]) -> None:
    """A serializable read at a revision comes after the last acknowledged write up to it: a narrower search."""
    sure = (one for one in steps if one.must and one.revision >= 0 and not one.reads_only)
    writes = sorted((one.revision, one.invoke) for one in sure)
    revisions = [revision for revision, _ in writes]
    for n, one in enumerate(steps):
        if one.invoke == ALWAYS and one.revision >= 0:
            at = bisect_right(revisions, one.revision) - 1
            if at >= 0:
                steps[n] = replace(one, invoke=min(writes[at][1], one.ret))


class Groups:
    """Keys that one operation, or one lease, ties together (union–find)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, key: int) -> int:
        """Representative of a key's group."""
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]
            key = self._parent[key]
        return key

    def tie(self, keys: Iterable[int]) -> None:
        """These belong together."""
        first = NONE
        for key in keys:
            if first == NONE:
                first = self.find(key)
            else:
                self._parent[self.find(key)] = first


def groups_of(history: History, steps: Iterable[Step]) -> Groups:
    """Groups such that every step and every lease stays within one."""
    groups = Groups(len(history.keys))
    leases: dict[int, set[int]] = {}
    for one in steps:
        groups.tie(one.keys)
        for part in one.parts:
            if part.lease >= 0:
                leases.setdefault(part.lease, set()).add(part.key)
    for keys in leases.values():
        groups.tie(keys)
    return groups


def apart(history: History, steps: list[Step], limit: Limit) -> tuple[Answer, Result | None, list[Step]]:
    """Decide a history without revisions group by group (linearizability is local: Herlihy and Wing 1990).

    Gives the first group that has no order, or one that met the limit, with its steps.
    """
    groups = groups_of(history, steps)
    lease_keys = {part.lease: part.key for one in steps for part in one.parts if part.lease >= 0}
    sorted_: dict[int, list[Step]] = {}
    for one in steps:
        lease = max(one.revoke, one.grant)
        key = next(iter(one.keys), lease_keys.get(lease, NONE))
        if key >= 0:
            sorted_.setdefault(groups.find(key), []).append(one)
    met: tuple[Answer, Result | None, list[Step]] = (Answer.YES, None, [])
    for group in sorted(sorted_.values(), key=len):
        result = search(group, history.initial, World(closed=False), limit)
        if result.answer == Answer.NO:
            return Answer.NO, result, group
        if result.answer == Answer.LIMIT:
            met = (Answer.LIMIT, result, group)
    return met


def together(history: History, steps: list[Step], limit: Limit) -> Result:
    """Decide a whole history at once (mixed, or a closed world)."""
    meta = history.meta
    world = World(meta.base_revision, meta.closed_world, meta.base_known)
    return search(steps, history.initial, world, limit)


def some_keys(
    history: History, steps: list[Step], keys: set[int], taken: frozenset[int], limit: Limit
) -> tuple[Result, list[Step]]:
    """Decide what the revision path left open: those keys, and all that steps of unknown outcome tie to them.

    All acknowledged steps carry revisions, and unknown ones know what they come after, so the steps of other keys
    matter only by the revisions they take. An open world is assumed: there an unknown write that nobody saw need not
    have happened.
    """
    loose = [one for one in steps if not one.must or one.refused or any(part.lease >= 0 for part in one.parts)]
    groups = groups_of(history, loose)
    wanted = {groups.find(key) for key in keys}
    inside = {key for key in range(len(history.keys)) if groups.find(key) in wanted}
    leases = {part.lease for one in steps for part in one.parts if part.key in inside and part.lease >= 0}
    chosen: list[Step] = []
    mine: set[int] = set()
    for one in steps:
        if max(one.revoke, one.grant) in leases and max(one.revoke, one.grant) >= 0:
            chosen.append(one)
            continue
        guards = tuple(guard for guard in one.guards if guard.key in inside)
        refused = tuple(guard for guard in one.refused if guard.key in inside)
        parts = tuple(part for part in one.parts if part.key in inside)
        if guards or refused or parts:
            chosen.append(replace(one, guards=guards, parts=parts, refused=refused))
            mine.update(own_revisions(one, inside))
    meta = history.meta
    world = World(meta.base_revision, closed=False, base_known=meta.base_known, taken=taken - mine)
    return search(chosen, history.initial, world, limit), chosen


def own_revisions(one: Step, inside: set[int]) -> set[int]:
    """Revisions that the search itself has to hand out: its own writes', and the mod revisions its reads name."""
    own = {part.mod for part in one.parts if part.key in inside and part.kind == Kind.GET and part.mod >= 0}
    writes = any(part.kind != Kind.GET and part.count != 0 and part.key in inside for part in one.parts)
    return own | ({one.revision} if one.revision >= 0 and (writes or one.revoke >= 0) else set())
