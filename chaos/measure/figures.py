"""Figures of a scenario, from its samples, etcd's log, the faults and the clients' history: pure, all in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.measure.events import Event, rounds
from chaos.measure.samples import Sample


@dataclass(frozen=True, slots=True)
class LeaderChange:
    """A leader lost and the next one won, as etcd's own logs have it; ns of CLOCK_MONOTONIC."""

    lost_ns: int
    """When the first member said so."""
    elected_ns: int | None
    """When the new one said so itself, or the first follower did; None: nobody did."""
    term: int | None
    rounds: int


def leader_change(events: Sequence[Event], begin_ns: int, end_ns: int) -> LeaderChange | None:
    """The first leader lost between two times, and its successor."""
    lost = next((event for event in events if event.kind == "leader-lost" and begin_ns <= event.at_ns <= end_ns), None)
    campaign = next((event for event in events if event.kind == "election" and begin_ns <= event.at_ns <= end_ns), None)
    first = min((event.at_ns for event in (lost, campaign) if event), default=None)
    if first is None:
        return None
    old = max((event.term or 0 for event in events if event.at_ns <= first), default=0)
    won = next(
        (
            one
            for one in events
            if one.kind == "leader-elected" and first <= one.at_ns <= end_ns and (one.term or 0) > old
        ),
        None,
    )
    made = rounds(events, begin_ns, won.at_ns if won else end_ns)
    return LeaderChange(first, won.at_ns if won else None, won.term if won else None, made)


def new_leader_sampled(samples: Sequence[Sample], begin_ns: int) -> int | None:
    """When samples first showed a leader of a higher term than the highest before `begin_ns`."""
    before = max((one.term for one in samples if one.ok and one.at_ns < begin_ns), default=0)
    return next((one.at_ns for one in samples if one.at_ns >= begin_ns and one.leader and one.term > before), None)


def all_well(samples: Sequence[Sample], nodes: Iterable[str], begin_ns: int) -> int | None:
    """When, after `begin_ns`, the last sample of every node was well, with one leader for all; None: never."""
    latest: dict[str, Sample] = {}
    wanted = set(nodes)
    for one in samples:
        if one.at_ns < begin_ns:
            continue
        latest[one.node] = one
        now = latest.values()
        if set(latest) >= wanted and all(each.well for each in now) and len({each.leader_id for each in now}) == 1:
            return one.at_ns
    return None


def caught_up(samples: Sequence[Sample], nodes: Iterable[str], begin_ns: int) -> int | None:
    """When every node had applied what the furthest had when `begin_ns` came; None: never."""
    goal = max((one.applied for one in samples if one.ok and one.at_ns <= begin_ns), default=0)
    waiting = set(nodes)
    for one in samples:
        if one.at_ns >= begin_ns and one.ok and one.applied >= goal:
            waiting.discard(one.node)
            if not waiting:
                return one.at_ns
    return None


def first_write(history: Iterable[Mapping[str, Any]], begin_ns: int) -> int | None:
    """When the first write that was asked for after `begin_ns` was acknowledged."""
    done = [
        int(op["return_ns"])
        for op in history
        if op.get("op") in ("put", "cas", "txn", "delete")
        and op.get("outcome") == "ok"
        and op.get("return_ns")
        and int(op["invoke_ns"]) >= begin_ns
    ]
    return min(done, default=None)


def terms(samples: Sequence[Sample], begin_ns: int, end_ns: int) -> dict[str, tuple[int, int]]:
    """First and last term of each member that answered between two times."""
    found: dict[str, tuple[int, int]] = {}
    for one in samples:
        if one.ok and begin_ns <= one.at_ns <= end_ns:
            found[one.node] = (found.get(one.node, (one.term, 0))[0], one.term)
    return found


def recovery(
    *,
    nodes: Sequence[str],
    fault_ns: int,
    healed_ns: int,
    end_ns: int,
    samples: Sequence[Sample],
    events: Sequence[Event],
    history: Sequence[Mapping[str, Any]],
) -> dict[str, object]:
    """The figures of one fault: seconds from its making (the last two: from its healing) until each thing was seen.

    What was not seen is left out. `resolution` is how coarse those from samples are.
    """
    change = leader_change(events, fault_ns, healed_ns or end_ns)
    found: dict[str, int | None] = {
        "detected": change.lost_ns if change else None,
        "new_leader": (change.elected_ns if change else None) or new_leader_sampled(samples, fault_ns),
        "first_write": first_write(history, fault_ns),
    }
    figures: dict[str, object] = {name: _since(fault_ns, at) for name, at in found.items() if at is not None}
    if change:
        figures["election_rounds"] = change.rounds
    if healed_ns:
        after = {"all_healthy": all_well(samples, nodes, healed_ns), "caught_up": caught_up(samples, nodes, healed_ns)}
        figures |= {f"healed_to_{name}": _since(healed_ns, at) for name, at in after.items() if at is not None}
    return figures


def _since(begin_ns: int, at_ns: int) -> float:
    return round((at_ns - begin_ns) / 1e9, 3)
