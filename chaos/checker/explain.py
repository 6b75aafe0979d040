"""Why no order exists, in as few operations as a short effort finds.

Everything done to make the story shorter only allows more orders (an operation loosened, the beginning forgotten), so
what is still contradictory afterwards is so in the whole history.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from chaos.checker.model import NEVER, NONE, NULL, History, Kind, Outcome
from chaos.checker.search import Answer, Limit, Result, World, search
from chaos.checker.specification import Step
from chaos.checker.tables import effects
from chaos.checker.violation import Violation, violation

SHRINK_SECONDS = 0.6
SHRINK_STEPS = 2000
"""Of longer groups only the place where the longest order stops is told."""
SHOWN = 16
"""Operations that a reader can take in."""


def unordered(history: History, steps: Sequence[Step], result: Result, limit: Limit) -> Violation:
    """Explain that `steps` have no order: the operations that cannot all be true, or where the longest order stops."""
    now = time.monotonic()
    meta = history.meta
    world = World(meta.base_revision, meta.closed_world, meta.base_known)
    patience = Limit(min(now + SHRINK_SECONDS, max(limit.deadline, now + 0.2)), 100_000)
    keys = {key for one in steps for key in one.keys}
    story = Story(history, world, patience, list(steps), sorted(keys))
    if len(steps) <= SHRINK_STEPS and not world.closed:
        story.shrink()
    core = [one for one in story.steps if one.must]
    what = f"key {history.keys[min(keys)]}" if len(keys) == 1 else f"{len(keys)} keys"
    if len(core) <= SHOWN:
        rows = [one.row for one in core]
        start = f", whatever {what} held before" if story.starts else ""
        why = f"No order of these operations on {what} explains all their answers{start}{_others(history, rows)}."
    else:
        done = len([row for row in result.order if row >= 0])
        why = f"The longest order found explains {done} operations on {what}; then none of the last ones can be next."
        rows = [*[row for row in result.order if row >= 0][-5:], *result.stuck[:SHOWN]]
    return violation(history, "no order exists", why, rows, min(keys) if len(keys) == 1 else None)


def _others(history: History, rows: Sequence[int]) -> str:
    """How much of this history makes no difference to a contradiction between `rows`."""
    left = len(history) - len(set(rows))
    if not left:
        return ": they are the whole history"
    return (
        f", wherever the other {left} operations of this history are placed"
        if left > 1
        else (", wherever the one other operation of this history is placed")
    )


def invented(history: History, steps: Sequence[Step]) -> Violation | None:
    """An acknowledged step that saw a value which nothing ever wrote: one operation tells it all."""
    written = {(part.key, part.value) for one in steps for part in one.parts if part.kind == Kind.PUT}
    written |= set(history.initial.items())
    for one in steps:
        if not one.must:
            continue
        seen = [(guard.key, guard.value) for guard in one.guards if guard.equal]
        seen += [(part.key, part.value) for part in one.parts if part.kind == Kind.GET]
        for key, value in seen:
            if value != NULL and (key, value) not in written:
                failed = np.flatnonzero((history.outcome == Outcome.FAIL) & (history.value == value)).tolist()
                failed = [row for row in failed if effects(history, row).get(key) == value][:2]
                why = f"{history.keys[key]} was {history.show(value)}, which " + (
                    "only an operation that certainly failed would have written."
                    if failed
                    else "no operation of the history ever wrote."
                )
                rule = "read of a failed write" if failed else "wrong value"
                return violation(history, rule, why, [one.row, *failed], key)
    return None


@dataclass(slots=True)
class Story:
    """Steps that contradict each other, made fewer as long as patience lasts."""

    history: History
    world: World
    limit: Limit
    steps: list[Step]
    keys: list[int]
    starts: list[int] | None = None
    """Values that the key may have had at the start; None: the initial state."""

    def shrink(self) -> None:
        """Cut the end, then the beginning, then loosen what is between, one by one."""
        if not self._contradicts(self.steps):
            return
        self._cut(sorted({one.ret for one in self.steps if one.must}), self._until, latest=False)
        if len(self.keys) == 1 and all(one.revision < 0 for one in self.steps):
            self._forget_beginning()
        self._loosen_each()

    def _contradicts(self, steps: Sequence[Step]) -> bool:
        """Whether there is certainly no order, from any of the starts."""
        if self.starts is None:
            return search(steps, self.history.initial, self.world, self.limit).answer == Answer.NO
        return all(
            search(steps, {self.keys[0]: value} if value != NULL else {}, self.world, self.limit).answer == Answer.NO
            for value in self.starts
        )

    def _cut(self, moments: list[int], cut: Callable[[int], list[Step]], *, latest: bool) -> None:
        """Bisect for the moment that leaves least and still contradicts."""
        low, high, best = 0, len(moments) - 1, self.steps
        while low <= high and not self.limit.passed():
            middle = (low + high) // 2
            fewer = cut(moments[middle])
            bad = self._contradicts(fewer)
            best = fewer if bad else best
            if bad == latest:
                low = middle + 1
            else:
                high = middle - 1
        self.steps = best

    def _until(self, moment: int) -> list[Step]:
        """What returns after `moment` may still have happened."""
        running = [one for one in self.steps if one.ret > moment and one.invoke <= moment]
        return [one for one in self.steps if one.ret <= moment] + loosened(running)

    def _forget_beginning(self) -> None:
        """What had returned by some moment left one of the values there are; find the latest such moment."""
        values = {part.value for one in self.steps for part in one.parts} | {NULL}
        values |= {guard.value for one in self.steps for guard in one.guards} | set(self.history.initial.values())
        whole = self.steps
        self.starts = sorted(values)
        moments = sorted({one.ret for one in whole if one.must})
        self._cut(moments, lambda moment: [one for one in whole if one.ret > moment], latest=True)
        if self.steps is whole:
            self.starts = None

    def _loosen_each(self) -> None:
        size = max(1, len(self.steps) // 2)
        while size and not self.limit.passed():
            at = 0
            while at < len(self.steps) and not self.limit.passed():
                middle = self.steps[at : at + size]
                fewer = [*self.steps[:at], *loosened(middle), *self.steps[at + size :]]
                if any(one.must for one in middle) and self._contradicts(fewer):
                    self.steps = fewer
                else:
                    at += size
            size //= 2


def loosened(steps: list[Step]) -> list[Step]:
    """Steps that bind less: one that only reads is dropped, one that writes may have happened at any time or never."""
    out: list[Step] = []
    for one in steps:
        if not one.must or one.revoke >= 0 or one.grant >= 0:
            out.append(one)
        elif not one.reads_only and not one.refused:
            parts = tuple(replace(part, count=NONE) for part in one.parts if part.kind != Kind.GET)
            out.append(replace(one, must=False, ret=NEVER, revision=NONE, parts=parts))
    return out
