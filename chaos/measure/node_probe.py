"""One node measured from inside: the script that runs there, what it prints, and the figures that come of it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Final

from infra import metrics
from infra.layout import DATA_DIR
from infra.manifest import METRICS_PORT, PEER_PORT

SCRIPT_LIMIT: Final = 3
"""Seconds after which the script in the guest is ended, so that what it has measured until then still arrives."""

PHASE: Final = 1.0
"""Seconds for each part of a node's measurements."""

SLEEPS: Final = 30
"""Short sleeps of the scheduling probe, 10 ms each: a third of a second in all on an idle machine."""

SLEEP: Final = 0.010
FLUSHES: Final = 5
CONNECTS: Final = 3

# bash's read -t waits by select(2), so that a late answer is a late wake-up; EPOCHREALTIME costs no process. Each part
# ends by itself after PHASE; the metrics page comes last, as it costs most.
_PROBE: Final = """
start=${{EPOCHREALTIME/[.,]/}}
trap 'rm -f "$f"; echo "script $(( ${{EPOCHREALTIME/[.,]/}} - start ))"; exit 0' EXIT TERM
f={data_dir}/.etcd-lab-probe
exec 9<> <(:)
began=${{EPOCHREALTIME/[.,]/}}
for ((i = 0; i < {sleeps} && (${{EPOCHREALTIME/[.,]/}} - began) < {phase}; i++)); do
  a=${{EPOCHREALTIME/[.,]/}}; read -r -t {sleep} -u 9 _; echo "sleep $(( ${{EPOCHREALTIME/[.,]/}} - a ))"
done
began=${{EPOCHREALTIME/[.,]/}}
for ((i = 0; i < {connects} && (${{EPOCHREALTIME/[.,]/}} - began) < {phase}; i++)); do for peer in {peers}; do
  a=${{EPOCHREALTIME/[.,]/}}
  if exec 8<>/dev/tcp/$peer/{port}; then echo "connect $(( ${{EPOCHREALTIME/[.,]/}} - a ))"; exec 8>&-; fi
done; done 2>/dev/null
LC_ALL=C dd if=/dev/zero of="$f" bs=4k count={flushes} oflag=dsync 2>&1 | sed -n 's/.*copied, \\(.*\\) s,.*/dd \\1/p'
curl -sf --max-time 2 http://{address}:{metrics_port}/metrics | grep {wanted}
"""


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """One node's measurements, in seconds."""

    scheduling_median: float = 0.0
    scheduling_worst: float = 0.0
    """Overrun of a sleep of 10 ms."""
    connect_median: float = 0.0
    connect_worst: float = 0.0
    """TCP connect to the peers' port: two late wake-ups of one machine and one of the other."""
    flush: float = 0.0
    """One 4 KiB write with O_DSYNC to the data volume."""
    fsync_p99: float = 0.0
    """etcd's own histogram, since its start."""
    fsync_median: float = 0.0
    peer_round_trip: float = 0.0
    """etcd's own: the slowest peer's median, since its start."""
    ssh: float = 0.0
    """What a command takes longer by ssh than by itself, with the start of bash."""
    stuck: float = 0.0
    """Seconds after which we gave up on all of it; 0: we did not."""
    problem: str = ""
    """What could not be measured."""


def probe_script(address: str, peers: list[str]) -> str:
    """Bash script for a node: prints `sleep` and `connect` MICROSECONDS, `dd SECONDS`, and lines of its metrics."""
    return _PROBE.format(
        data_dir=DATA_DIR,
        sleeps=SLEEPS,
        sleep=SLEEP,
        phase=round(PHASE * 1e6),
        peers=" ".join(peers),
        connects=CONNECTS,
        port=PEER_PORT,
        flushes=FLUSHES,
        address=address,
        metrics_port=METRICS_PORT,
        wanted=metrics.PATTERN,
    )


def read_probe(text: str) -> dict[str, list[float]]:
    """What the script printed, in seconds: `sleep` as overrun, `connect`, `dd` for all its flushes, `script` in all."""
    found: dict[str, list[float]] = {"sleep": [], "connect": [], "dd": [], "script": []}
    for line in text.splitlines():
        word, _, figure = line.partition(" ")
        try:
            value = float(figure)
        except ValueError:
            continue
        if word == "sleep":
            found[word].append(max(0.0, value / 1e6 - SLEEP))
        elif word in ("connect", "script"):
            found[word].append(max(0.0, value / 1e6))
        elif word == "dd":
            found[word].append(value)
    return found


def figures_of(text: str, took: float) -> NodeFigures:
    """A node's figures from what the script printed, `took` seconds all in all by our clock.

    What it did not come to is named as a problem; what it did not use of the time is ssh's.
    """
    probe, page = read_probe(text), metrics.parse(text)
    fsync, trips = page.histogram(metrics.FSYNC), page.histogram(metrics.ROUND_TRIP)
    parts = {"scheduling": probe["sleep"], "connect": probe["connect"], "flush": probe["dd"], "metrics": fsync}
    missing = [name for name, found in parts.items() if not found]
    return NodeFigures(
        scheduling_median=median(probe["sleep"]),
        scheduling_worst=_nearly_worst(probe["sleep"]),
        connect_median=median(probe["connect"]),
        connect_worst=max(probe["connect"], default=0.0),
        flush=median(probe["dd"]) / FLUSHES,
        fsync_p99=max((one.quantile(0.99) for one in fsync), default=0.0),
        fsync_median=max((one.quantile(0.5) for one in fsync), default=0.0),
        peer_round_trip=max((one.quantile(0.5) for one in trips), default=0.0),
        ssh=max(0.0, took - sum(probe["script"])) if probe["script"] else 0.0,
        problem=f"not measured in {SCRIPT_LIMIT} s: {', '.join(missing)}" if missing else "",
    )


def median(values: list[float]) -> float:
    """The median, 0 of nothing."""
    return statistics.median(values) if values else 0.0


def _nearly_worst(values: list[float]) -> float:
    """The worst but one of thirty, since one may be the probe's own start."""
    return sorted(values)[-2] if len(values) > 1 else max(values, default=0.0)
