"""Parameters of faults: what users may give, its unit and limits. Checked before anything is touched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from machine.errors import UsageError

Param = str | int | float
"""Value of a fault's parameter."""

Kind = Literal["whole", "number", "word"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: `whole` and `number` have limits (both included), `word` may have choices."""

    name: str
    kind: Kind
    default: Param
    summary: str
    """With the unit, as `./lab fault list` shows it."""
    low: float = 0.0
    high: float = float("inf")
    choices: tuple[str, ...] = ()

    def parse(self, fault: str, value: Param) -> Param:
        """The value, of the right type; UsageError when it is none, or out of its limits."""
        if self.kind == "word":
            return self._word(fault, str(value))
        try:
            number = int(str(value)) if self.kind == "whole" else float(value)
            finite = math.isfinite(number)
        except (ValueError, OverflowError):  # a whole number may be more than any float
            raise self._wrong(fault, value, f"Give a {'whole ' if self.kind == 'whole' else ''}number.") from None
        if not (finite and self.low <= number <= self.high):
            limits = f"from {self.low:g}" + ("" if self.high == float("inf") else f" to {self.high:g}")
            raise self._wrong(fault, value, f"Give a number {limits}.")
        return number

    def _word(self, fault: str, value: str) -> str:
        if self.choices and value not in self.choices:
            raise self._wrong(fault, value, f"It knows: {', '.join(self.choices)}.")
        return value

    def _wrong(self, fault: str, value: Param, remedy: str) -> UsageError:
        return UsageError(f"{self.name} of {fault} is {value!r}", where=f"--set {self.name}={value}", next=remedy)


def check(fault: str, known: Sequence[Parameter], given: Mapping[str, Param]) -> dict[str, Param]:
    """What was given, each of its type; raises UsageError for what is unknown or impossible."""
    by_name = {parameter.name: parameter for parameter in known}
    for name in given:
        if name not in by_name:
            raise UsageError(
                f"The fault {fault} has no parameter {name!r}",
                where="--set",
                next=f"It knows: {', '.join(by_name) or 'none'}.",
            )
    return {name: by_name[name].parse(fault, value) for name, value in given.items()}
