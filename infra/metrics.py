"""etcd's own figures from the metrics page of a member: flush times, round trips between members, traffic."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FSYNC: Final = "etcd_disk_wal_fsync_duration_seconds"
ROUND_TRIP: Final = "etcd_network_peer_round_trip_time_seconds"
SENT: Final = "etcd_network_peer_sent_bytes_total"
RECEIVED: Final = "etcd_network_peer_received_bytes_total"
COMMIT: Final = "etcd_disk_backend_commit_duration_seconds"
CLIENT_SENT: Final = "etcd_network_client_grpc_sent_bytes_total"
CLIENT_RECEIVED: Final = "etcd_network_client_grpc_received_bytes_total"
STARTED: Final = "process_start_time_seconds"
WANTED: Final = (
    FSYNC,
    ROUND_TRIP,
    SENT,
    RECEIVED,
    COMMIT,
    CLIENT_SENT,
    CLIENT_RECEIVED,
    STARTED,
)

PATTERN: Final = " ".join(f"-e ^{name}" for name in (FSYNC, ROUND_TRIP))
"""Words for grep: the lines of a page that calibration uses."""

_LINE: Final = re.compile(r"^(\w+?)(_bucket|_sum|_count)?(?:\{(.*)\})? ([-+0-9.eEInfNa]+)$")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram: counts up to each bound, in all, and the sum of what was counted."""

    buckets: tuple[tuple[float, float], ...]
    total: float
    sum: float

    @property
    def mean(self) -> float:
        """Average, 0 of nothing."""
        return self.sum / self.total if self.total else 0.0

    def quantile(self, share: float) -> float:
        """Upper bound of the bucket that holds this share (0 to 1); 0 of nothing, so never too small otherwise."""
        if not self.total:
            return 0.0
        finite = [bound for bound, _ in self.buckets if bound != float("inf")]
        found = next((bound for bound, count in self.buckets if count >= share * self.total), float("inf"))
        return min(found, finite[-1]) if finite else self.mean


@dataclass(frozen=True, slots=True)
class Page:
    """What of a metrics page we use; series by name and label of the peer ("" without)."""

    histograms: Mapping[tuple[str, str], Histogram]
    numbers: Mapping[tuple[str, str], float]

    def histogram(self, name: str) -> list[Histogram]:
        """All series of a histogram."""
        return [one for (series, _), one in self.histograms.items() if series == name]

    def number(self, name: str) -> float:
        """Sum of all series of a counter."""
        return sum(value for (series, _), value in self.numbers.items() if series == name)


def parse(text: str) -> Page:
    """A metrics page in Prometheus' text format (prometheus.io, Exposition formats)."""
    buckets: dict[tuple[str, str], list[tuple[float, float]]] = {}
    sums: dict[tuple[str, str], float] = {}
    counts: dict[tuple[str, str], float] = {}
    numbers: dict[tuple[str, str], float] = {}
    for line in text.splitlines():
        found = _LINE.match(line)
        if not found or found[1] not in WANTED:
            continue
        labels = dict(_LABEL.findall(found[3] or ""))
        key, value = (found[1], labels.get("To") or labels.get("From") or ""), float(found[4])
        if found[2] == "_bucket":
            buckets.setdefault(key, []).append((float(labels["le"]), value))
        elif found[2] == "_sum":
            sums[key] = value
        elif found[2] == "_count":
            counts[key] = value
        else:
            numbers[key] = value
    made = {key: Histogram(tuple(sorted(rows)), counts.get(key, 0), sums.get(key, 0)) for key, rows in buckets.items()}
    return Page(made, numbers)
