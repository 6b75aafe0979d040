"""What a checker found wrong, in words for a person and as data for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from chaos.checker.model import History


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise broken.

    `rule` is a short name of the promise, `why` one or two sentences, `operations` the few lines that show it,
    `lines` their numbers in the history, `window_ns` the time they span.
    """

    rule: str
    why: str
    key: str | None = None
    operations: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()
    window_ns: tuple[int, int] | None = None

    def text(self) -> str:
        """The whole explanation, a few lines."""
        shown = "".join(f"\n  {operation}" for operation in self.operations)
        return f"{self.rule}: {self.why}{shown}"

    def data(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def violation(history: History, rule: str, why: str, rows: Sequence[int], key: int | None = None) -> Violation:
    """A violation shown by some rows of a history, in order of invocation, each once."""
    rows = sorted({row for row in rows if row >= 0}, key=lambda row: (int(history.invoke[row]), row))
    times = [int(history.invoke[row]) for row in rows]
    ends = [int(history.ret[row]) for row in rows if history.ret[row] < 2**62]
    return Violation(
        rule,
        why,
        None if key is None else history.keys[key],
        tuple(history.operation(row) for row in rows),
        tuple(int(history.line[row]) for row in rows),
        (min(times), max([*times, *ends])) if rows else None,
    )
