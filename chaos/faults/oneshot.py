"""Faults that happen once and leave nothing in force: a reset, a kill, a compaction.

What was there before is written beside the undo record (`ID.before`), so that any process can prove later that
something happened; lifting such a fault forgets it and waits until its nodes are back.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from chaos.faults.base import Fault, Proof
from chaos.lab.lab import Lab
from machine.paths import StackPaths
from machine.process import write_private

UNKNOWN = "nothing written down"
"""What is shown where there are no facts from before."""


def remember(paths: StackPaths, fault_id: str, facts: Mapping[str, str]) -> None:
    """Write down what was there before the fault."""
    write_private(_path(paths, fault_id), json.dumps(dict(facts), indent=1) + "\n")


def recall(paths: StackPaths, fault_id: str) -> dict[str, str]:
    """What was written down; {} when nothing was, or when it cannot be read."""
    try:
        facts = json.loads(_path(paths, fault_id).read_text())
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in facts.items()} if isinstance(facts, dict) else {}


def forget(paths: StackPaths, fault_id: str) -> None:
    """Drop what was written down."""
    _path(paths, fault_id).unlink(missing_ok=True)


def _path(paths: StackPaths, fault_id: str) -> Path:
    return paths.faults / f"{fault_id}.before"


def known(facts: Mapping[str, str], where: str = "before") -> tuple[Proof, ...]:
    """That each fact is known: without it nothing can be compared afterwards."""
    return tuple(Proof(name, where, "known", value or "unknown", bool(value)) for name, value in facts.items())


def changed(what: str, where: str, before: str | None, now: str) -> Proof:
    """That something is known now and is not what it was before."""
    was = UNKNOWN if before is None else before
    return Proof(what, where, f"not {was}", now or "unknown", before is not None and bool(now) and now != before)


@dataclass(frozen=True)
class OneShot(Fault):
    """A fault that is over when `inject` returns."""

    lasting: ClassVar[bool] = False

    @abstractmethod
    def facts(self, lab: Lab) -> dict[str, str]:
        """What is there before, by name; "" for what cannot be told."""

    def before(self, lab: Lab) -> dict[str, str]:
        """The facts of the last injection."""
        return recall(lab.paths, self.id)

    def baseline(self, lab: Lab) -> tuple[Proof, ...]:
        """Write the facts down; each must be known."""
        facts = self.facts(lab)
        remember(lab.paths, self.id, facts)
        return known(facts)

    def lift(self, lab: Lab) -> None:
        """There is nothing to undo."""
        forget(lab.paths, self.id)
