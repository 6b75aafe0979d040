"""The ledger: unique writes, of which every acknowledged one has to be found again, with its revision.

Used after every fault and after a full power cut, with what a range of the whole prefix returned. A pure function: it
does not know how the range was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from chaos.checker.model import History, Kind, Outcome
from chaos.checker.violation import Violation, violation

COLUMNS = ("line", "process", "kind", "key", "value", "expect", "invoke", "ret", "outcome", "revision", "mod", "count")


def puts_under(history: History, prefix: str) -> History:
    """The ledger within a history of more: its puts to keys that begin with `prefix`."""
    keys = [number for number, name in enumerate(history.keys) if name.startswith(prefix)]
    rows = np.flatnonzero((history.kind == Kind.PUT) & np.isin(history.key, keys))
    columns = {name: getattr(history, name)[rows] for name in (*COLUMNS, "member", "lease", "serializable")}
    return replace(history, txns={}, ranges={}, **columns)


def check_ledger(history: History, found: Mapping[str, tuple[str | int, int]], revision: int) -> Violation | None:
    """Compare the ledger of a history with what was `found` at `revision`: key -> (value, mod revision).

    The last acknowledged put of every key must be there, unless one of unknown outcome may have come after it; nothing
    may be there that no put wrote, or that a put wrote which certainly failed. Keys are written by puts only.
    """
    puts = history.kind == Kind.PUT
    last: dict[int, int] = {}
    for row in np.flatnonzero(puts & (history.outcome == Outcome.OK)).tolist():
        key = int(history.key[row])
        if key not in last or history.revision[row] > history.revision[last[key]]:
            last[key] = row
    unknown: dict[int, list[int]] = {}
    for row in np.flatnonzero(puts & (history.outcome == Outcome.UNKNOWN)).tolist():
        unknown.setdefault(int(history.key[row]), []).append(row)
    for key, row in last.items():
        wrong = _missing(history, key, row, found.get(history.keys[key]), unknown.get(key, []), revision)
        if wrong is not None:
            return wrong
    acknowledged = {history.keys[key] for key in last}
    numbers = {name: number for number, name in enumerate(history.keys)}
    for name, (value, mod) in found.items():
        if name in acknowledged or name not in numbers:
            continue
        key = numbers[name]
        writers = [row for row in unknown.get(key, []) if history.values[history.value[row]] == value]
        if not writers and history.initial.get(key) is None:
            failed = np.flatnonzero(puts & (history.key == key) & (history.outcome == Outcome.FAIL)).tolist()
            why = f"{name} holds {value!r} of revision {mod}, which no write that may have happened put there."
            return violation(history, "ledger: invented write", why, failed, key)
    return None


def _missing(  # noqa: PLR0917 - one entry of the ledger, and all that is known of it
    history: History, key: int, row: int, there: tuple[str | int, int] | None, unknown: list[int], revision: int
) -> Violation | None:
    """What is wrong with the entry of one acknowledged write."""
    at, value = int(history.revision[row]), history.values[history.value[row]]
    if at > revision:
        why = f"It was acknowledged at revision {at}, and the store is at {revision}."
        return violation(history, "ledger: lost write", why, [row], key)
    if there is None:
        return violation(history, "ledger: lost write", "It was acknowledged and is not there.", [row], key)
    if there == (value, at) or (at < 0 and there[0] == value):
        return None
    if there[1] > at and any(history.values[history.value[one]] == there[0] for one in unknown):
        return None
    why = f"Acknowledged at revision {at}, but {there[0]!r} of revision {there[1]} is there."
    rule = "ledger: wrong revision" if there[0] == value else "ledger: lost write"
    return violation(history, rule, why, [row], key)
