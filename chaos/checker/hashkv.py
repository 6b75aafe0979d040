"""HashKV: members that hold the same data have the same hash at one revision and one compact revision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chaos.checker.violation import Violation


@dataclass(frozen=True, slots=True)
class Hash:
    """What one member answered to HashKV(revision)."""

    member: str
    revision: int
    """The revision asked for (`hash_revision` where the member tells it)."""
    compact_revision: int
    hash: int


def check_hashes(hashes: Iterable[Hash]) -> tuple[Violation | None, str]:
    """(violation, why nothing can be said).

    Members are compared only where revision and compact revision agree; when they do not agree in these, or fewer
    than two answered, nothing can be said, which is not a pass. Ask again, after the workload, at one revision.
    """
    answers = list(hashes)
    if len(answers) < 2:
        return None, f"only {len(answers)} members answered"
    groups: dict[tuple[int, int], list[Hash]] = {}
    for one in answers:
        groups.setdefault((one.revision, one.compact_revision), []).append(one)
    for (revision, compact), group in groups.items():
        if len({one.hash for one in group}) > 1:
            told = ", ".join(f"{one.member} {one.hash}" for one in group)
            why = f"At revision {revision}, compacted at {compact}, members hold different data: {told}."
            return Violation("members differ", why), ""
    if len(groups) > 1:
        told = ", ".join(f"{one.member} {one.revision} (compacted {one.compact_revision})" for one in answers)
        return None, f"members answered for different revisions: {told}"
    return None, ""
