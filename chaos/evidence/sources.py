"""The sources of evidence, what rests on each, and which of them a lab's settings take away.

One table for both ends of a run: before it the missing ones are named with what cannot be judged without them
(chaos.measure.preflight), and each scenario holds its figures, faults and rules against the same table.

etcd's own log is the source that a setting can take away: `log-level` and `log-outputs` (E embed/config.go,
config_logging.go; the same keys in 3.4 to 3.7). Raft's elections are of level info (R raft.go, node.go through
E server/etcdserver/zap_raft.go), late heartbeats of level warn (E etcdserver/raft.go, processMessages).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from infra.manifest import Manifest

ALL: Final = "all nodes"
"""Where a source is missing everywhere, as by a setting."""


@dataclass(frozen=True, slots=True)
class Source:
    """One source: what it is, and what cannot be judged without it."""

    name: str
    title: str
    file: str
    """Where a run keeps it: below scenarios/ID/, artefacts/ID/ or in report.json."""
    figures: tuple[str, ...] = ()
    """Fields of a scenario's metrics, or of the calibration, that it is read for."""
    rules: tuple[str, ...] = ()
    """Rules of the oracle whose figure or further rounds are read from it."""
    faults: tuple[str, ...] = ()
    """Faults whose proof is read from it."""
    steps: tuple[str, ...] = ()
    """Checks at a scenario's end that are made of it."""

    @property
    def rests(self) -> str:
        """What rests on it, in words; "" where only the page and the reader's eye do."""
        parts = (
            ("figures", self.figures),
            ("rules", self.rules),
            ("faults", self.faults),
            ("checks", self.steps),
        )
        return "; ".join(f"{what} {', '.join(names)}" for what, names in parts if names)


_TABLE: Final = (
    Source(
        "log",
        "log of etcd of level info",
        "events.jsonl",
        figures=("detected", "election_rounds", "cold_start_election"),
        rules=(
            "election",
            "first-write",
            "rejoin",
            "cold-start",
            "step-down",
            "leader-lost",
            "term-alone",
            "term-alone-without-pre-vote",
            "lease-life-new-leader",
        ),
        faults=("snapshot-lag", "rollback"),
    ),
    Source(
        "warnings",
        "log of etcd of level warn and above",
        "events.jsonl",
        figures=("late_heartbeat",),
        steps=("whether a wait ran out on a slow machine",),
    ),
    Source(
        "lines",
        "log of etcd as JSON lines in the journal",
        "events.jsonl",
        faults=("snapshot-lag", "rollback"),
        steps=("why a member ended",),
    ),
    Source(
        "earlier-boots",
        "log of etcd of earlier boots",
        "events.jsonl",
        figures=("detected", "election_rounds"),
        steps=("what a member wrote before its machine went down",),
    ),
    Source(
        "samples",
        "samples of each member",
        "samples.jsonl",
        figures=("new_leader", "healed_to_all_healthy", "healed_to_caught_up"),
    ),
    Source(
        "metrics",
        "metrics page of etcd",
        "traffic.jsonl",
        figures=("traffic", "fsync_median", "fsync_p99", "peer_round_trip"),
    ),
    Source(
        "clock",
        "readings of the guest's clock",
        "report.json",
        figures=("detected", "election_rounds", "cold_start_election"),
        rules=("election", "first-write", "rejoin", "cold-start", "step-down", "leader-lost"),
    ),
    Source(
        "history",
        "operations of the recording clients",
        "history.jsonl",
        figures=("unavailability", "first_write"),
        steps=("workload", "workload went on", "ledger", "linearizable"),
    ),
    Source("watch", "watch events of the recording clients", "watch.jsonl", steps=("final reads", "linearizable")),
    Source("wal", "copy of the write-ahead log", "wal/", figures=("settled_by_log",), steps=("linearizable",)),
    Source("hash", "hash of the data", "report.json", steps=("hash equality",)),
    Source("console", "console of the machine", "NODE.console.log"),
)

SOURCES: Final[Mapping[str, Source]] = {one.name: one for one in _TABLE}
"""Every source by name."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A source that is not there: on which node (or `ALL`), and why."""

    source: str
    node: str
    why: str
    known: bool = True
    """Whether it is known to be missing; false of a node that did not answer just then, and may the next time."""

    def __str__(self) -> str:
        return f"no {SOURCES[self.source].title} on {self.node}: {self.why}"

    @property
    def full(self) -> str:
        """The same with what rests on it."""
        rests = SOURCES[self.source].rests
        return f"{self}; inconclusive without it: {rests}" if rests else str(self)

    @property
    def next(self) -> str:
        """What to do where a setting took it away."""
        key = self.why.partition(" is ")[0]
        usual = {"log-level": "info", "log-outputs": "[stderr]", "log-format": "json", "logger": "zap"}.get(key)
        return f"Set {key} of etcd-extra to {usual}, or remove it, and run ./lab up." if usual else ""

    def on(self, nodes: Iterable[str]) -> bool:
        """Whether it is missing on one of these."""
        return self.node == ALL or self.node in set(nodes)

    def as_json(self) -> dict[str, str]:
        """For report.json."""
        return {"source": self.source, "node": self.node, "why": self.why, "rests": SOURCES[self.source].rests}


QUIET: Final[Mapping[str, tuple[str, ...]]] = {
    "debug": (),
    "info": (),
    "warn": ("log",),
    "error": ("log", "warnings"),
    "dpanic": ("log", "warnings"),
    "panic": ("log", "warnings"),
    "fatal": ("log", "warnings"),
}
"""etcd's levels (zapcore.Level, as `log-level` spells them) -> what is not written any more."""

JOURNALED: Final = frozenset({"default", "stderr", "stdout", "systemd/journal"})
"""Outputs that end in the journal of our unit (E embed/config.go, config_logging.go)."""


def in_settings(manifest: Manifest) -> list[Missing]:
    """What the lab's etcd settings take away, known before anything is asked."""
    return of_settings(manifest.etcd_extra)


def of_settings(extra: Mapping[str, Any]) -> list[Missing]:
    """The same of settings as etcd's file spells them."""
    outputs = _outputs(extra)
    if outputs is not None and not outputs & JOURNALED:
        why = f"log-outputs is {', '.join(sorted(outputs))}, and only the journal is read"
        return [Missing(name, ALL, why) for name in ("log", "warnings", "lines")]
    level = str(extra.get("log-level", "info")).strip().lower() or "info"
    found = [
        Missing(name, ALL, f"log-level is {level}, so that etcd does not write it") for name in QUIET.get(level, ())
    ]
    for key, readable in (("log-format", "json"), ("logger", "zap")):
        if (value := str(extra.get(key) or readable)) != readable:
            found.append(Missing("lines", ALL, f"{key} is {value}"))
    return found


def _outputs(extra: Mapping[str, Any]) -> set[str] | None:
    value = extra.get("log-outputs", extra.get("log-output"))
    if value is None:
        return None
    words = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, Sequence) else [value]
    return {str(one).strip() for one in words}


def lacking(missing: Iterable[Missing], source: str, nodes: Iterable[str]) -> Missing | None:
    """How a source is missing on one of these nodes; None: it is not."""
    wanted = set(nodes)
    return next((one for one in missing if one.source == source and one.on(wanted)), None)


def without_rule(missing: Iterable[Missing], rule: str, nodes: Iterable[str]) -> Missing | None:
    """The missing source that a rule's figure would be read from on these nodes; None: there is none."""
    wanted = set(nodes)
    return next((one for one in missing if rule in SOURCES[one.source].rules and one.on(wanted)), None)


def without_fault(missing: Iterable[Missing], fault: str, nodes: Iterable[str]) -> Missing | None:
    """The missing source without which a fault cannot be proved on these nodes; None: there is none."""
    wanted = set(nodes)
    return next((one for one in missing if fault in SOURCES[one.source].faults and one.on(wanted)), None)


def unprovable(manifest: Manifest, fault: str) -> Missing | None:
    """The setting of a lab by which a fault cannot be proved there; None: there is none."""
    if not any(fault in source.faults for source in SOURCES.values()):
        return None
    return without_fault(in_settings(manifest), fault, manifest.node_names)
