"""Why no order exists, in as few operations as a short effort finds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from chaos.checker.model import NEVER, NONE, History
from chaos.checker.search import Answer, Limit, Result, World, search
from chaos.checker.steps import Step
from chaos.checker.violation import Violation, violation

SHRINK_SECONDS = 2.0
SHRINK_STEPS = 400
"""Longer groups are only cut to a prefix."""


def unordered(history: History, steps: Sequence[Step], result: Result, limit: Limit) -> Violation:
    """Explain that `steps` have no order: the operations that cannot all be true, or where the longest order stops."""
    deadline = min(time.monotonic() + SHRINK_SECONDS, max(limit.deadline, time.monotonic() + 0.2))
    meta = history.meta
    world = World(meta.base_revision, meta.closed_world, meta.base_known)
    core = _core(history, steps, world, Limit(deadline, 100_000)) if len(steps) <= SHRINK_STEPS else None
    rows = [one.row for one in core] if core else [*result.order[-3:], *result.stuck]
    rows = [row for row in rows if row >= 0]
    keys = {key for one in (core or steps) for key in one.keys}
    key = keys.pop() if len(keys) == 1 else None
    what = f"key {history.keys[key]}" if key is not None else f"{len({*keys})} keys"
    if core:
        why = f"No order of these operations on {what} explains all their answers, whatever else happened."
    else:
        shown = len(result.order)
        why = (
            f"The longest order found explains {shown} of {len(steps)} operations on {what}; "
            "then none of these can be next."
        )
    return violation(history, "no order exists", why, rows, key)


def _core(history: History, steps: Sequence[Step], world: World, limit: Limit) -> list[Step] | None:
    """Acknowledged steps that contradict each other even if all the others are free to happen or not.

    Each is loosened in turn: one that only reads is dropped, one that writes becomes an unknown one, invoked when it
    was; both only allow more orders, so what stays contradictory is so in the whole history.
    """
    kept = list(steps)
    if world.closed or not _contradicts(history, kept, world, limit):
        return None
    size = max(1, len(kept) // 2)
    while size:
        at = 0
        while at < len(kept):
            fewer = _loosen(kept, at, at + size)
            if fewer is not None and _contradicts(history, fewer, world, limit):
                kept = fewer
            else:
                at += size
            if limit.passed():
                return [one for one in kept if one.must] if len(kept) < len(steps) else None
        size //= 2
    return [one for one in kept if one.must]


def _loosen(steps: list[Step], first: int, last: int) -> list[Step] | None:
    middle = steps[first:last]
    if not any(one.must for one in middle):
        return None
    loose = [
        replace(one, must=False, ret=NEVER, revision=NONE)
        for one in middle
        if one.must and not one.reads_only and one.revoke < 0 and not one.refused and one.grant < 0
    ]
    loose = [replace(one, parts=tuple(part for part in one.parts if part.kind != 1)) for one in loose]
    loose = [replace(one, parts=tuple(replace(part, count=NONE) for part in one.parts)) for one in loose]
    kept = [one for one in middle if not one.must or one.revoke >= 0]
    return [*steps[:first], *kept, *loose, *steps[last:]]


def _contradicts(history: History, steps: Sequence[Step], world: World, limit: Limit) -> bool:
    return search(steps, history.initial, world, limit).answer == Answer.NO
