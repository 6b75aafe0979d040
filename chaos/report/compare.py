"""Two runs beside each other: settings, verdicts, and the figures that differ by more than noise.

What noise is, honestly:

- where a figure is a list, the wider of the two interquartile ranges, and the medians are compared;
- where three or more runs with the same settings have the figure, the widest range that those runs span, and not
  less than a tenth of the larger value, as a few runs never show all there is;
- else a stated threshold: a quarter of the larger value, and for times not less than the larger election timeout T,
  as etcd draws each election's wait at random from [T, 2T) (raft.go, resetRandomizedElectionTimeout).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.report.model import Report, Scenario
from chaos.report.runs import Run
from chaos.report.wording import figures, ordered, settings, tell, verdict_of

SHARE: Final = 0.25
"""Threshold for figures that have one value a run."""

SMALL_SHARE: Final = 0.1
"""Least threshold where several runs tell the spread."""

ENOUGH: Final = 3
"""Values that make a spread."""

NONE: Final = "–"

SECONDS: Final = {"seconds": 1.0, "_s": 1.0, "_ms": 1e-3}
"""Ends of the names of times, and what one of it is in seconds."""

SHORT: Final = 40
"""Characters up to which a text counts as a figure that can be compared."""

CALIBRATION: Final = "calibration"
"""First word of the names of figures that belong to no scenario."""

INSTANT: Final = "_ns"
"""End of the names of instants, which two runs cannot share."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what the first run has, what the second."""

    name: str
    first: str
    second: str
    differs: str
    """"yes" or ""."""


@dataclass(frozen=True, slots=True)
class Figure(Row):
    """One figure with its difference and what was taken for noise."""

    change: str
    noise: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of it; `told` is the sum in a sentence."""

    settings: tuple[Row, ...]
    verdicts: tuple[Row, ...]
    figures: tuple[Figure, ...]
    told: str


def compare(first: Run, second: Run, known: Sequence[Run]) -> Comparison:
    """Lay two runs side by side; `known`: all runs there are, for how much a figure varies by itself."""
    chosen = tuple(
        _row(name, one, two) for name, one, two in _paired(_settings(first.report), _settings(second.report))
    )
    verdicts = tuple(_row(*row) for row in _paired(_verdicts(first), _verdicts(second)))
    peers = [_values(run.report) for run in known if _alike(run, first)]
    others = [_values(run.report) for run in known if _alike(run, second)]
    election = max(_election_seconds(first.report), _election_seconds(second.report))
    both = {scenario.id for scenario in first.report.scenarios} & {scenario.id for scenario in second.report.scenarios}
    compared, differing = 0, []
    for name, one, two in _paired(_values(first.report), _values(second.report)):
        if name.split(" ")[0] not in {*both, CALIBRATION}:
            continue
        compared += 1
        spreads = [[run[name] for run in group if _number(run.get(name))] for group in (peers, others)]
        figure = _figure(name, one, two, spreads, election)
        if figure.differs:
            differing.append(figure)
    told = (
        f"{sum(bool(row.differs) for row in chosen)} settings, {sum(bool(row.differs) for row in verdicts)} verdicts "
        f"and {len(differing)} of {compared} figures of {len(both)} common scenarios differ. "
        "A figure differs when it does so by more than noise."
    )
    return Comparison(chosen, verdicts, tuple(differing), told)


def _paired(one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    """Names of either, with both values (None: not there); what is in one alone comes last."""
    for name in {**one, **two}:
        yield name, one.get(name), two.get(name)


def _row(name: str, one: object, two: object) -> Row:
    return Row(name, _told(one), _told(two), "yes" if one != two else "")


def _told(value: object) -> str:
    return NONE if value is None else tell(value)


def _settings(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = {}
    lab = report.lab
    if lab is not None:
        found |= {
            "etcd": lab.etcd_version,
            "members": len(lab.nodes),
            "heartbeat": f"{lab.timeouts.heartbeat_ms} ms",
            "election timeout": f"{lab.timeouts.election_ms} ms",
            "peers": lab.peers,
            "accelerator": lab.hypervisor.accelerator,
            "memory": f"{lab.nodes[0].memory_mib} MiB",
            "processors": lab.nodes[0].vcpus,
        }
        found |= {f"etcd-extra {key}": value for key, value in sorted(lab.etcd_extra.items())}
    if report.machine is not None:
        found |= {"machine": f"{report.machine.processors} × {report.machine.model}", "kernel": report.machine.kernel}
    found |= {f"workload {key}": value for key, value in figures(report.workload or {}).items()}
    return found


def _verdicts(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {"the run": f"{verdict_of(run)}{'' if run.state == 'finished' else f' ({run.state})'}"}
    return found | {scenario.id: scenario.verdict for scenario in ordered(run.report.scenarios)}


def _values(report: Report) -> dict[str, Any]:
    """Every figure by "ID name", the calibration's by "calibration name"."""
    found = {f"{CALIBRATION} {name}": value for name, value in figures(report.calibration or {}).items()}
    for scenario in ordered(report.scenarios):
        if scenario.ended_ns or scenario.seconds:
            found[f"{scenario.id} seconds"] = scenario.seconds
        found |= {f"{scenario.id} {name}": value for name, value in figures(_compared(scenario)).items()}
    return {name: value for name, value in found.items() if not name.endswith(INSTANT) and _shown(value)}


def _compared(scenario: Scenario) -> dict[str, Any]:
    """Metrics that two runs are compared by: traffic follows what each run's clients happened to ask for."""
    return {name: value for name, value in scenario.metrics.items() if name != "traffic"}


def _shown(value: object) -> bool:
    return _numbers(value) is not None or isinstance(value, bool) or (isinstance(value, str) and len(value) <= SHORT)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(value: object) -> list[float] | None:
    """A number or a list of numbers as a list; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [float(value)]
    if isinstance(value, list | tuple) and value and all(_number(one) for one in value):
        return [float(one) for one in value]
    return None


def _alike(run: Run, other: Run) -> bool:
    """Whether two runs differ in nothing that was set, so that their figures differ by chance."""
    same = _settings(run.report) == _settings(other.report)
    return same and settings(run.report) == settings(other.report)


def _election_seconds(report: Report) -> float:
    return report.lab.timeouts.election_ms / 1000 if report.lab is not None else 0.0


def _figure(name: str, one: object, two: object, spreads: Sequence[Sequence[float]], election: float) -> Figure:
    first, second = _numbers(one), _numbers(two)
    if first is None or second is None:
        row = _row(name, one, two)
        return Figure(row.name, row.first, row.second, row.differs, "", "")
    a, b = statistics.median(first), statistics.median(second)
    noise, told = _noise(name, first, second, spreads, election)
    change = f"{b - a:+.4g}" + (f" ({(b - a) / a:+.0%})" if a else "")
    return Figure(name, _median(first), _median(second), "yes" if abs(b - a) > noise else "", change, told)


def _median(values: Sequence[float]) -> str:
    if len(values) == 1:
        return tell(values[0])
    return f"{tell(statistics.median(values))} (median of {len(values)})"


def _noise(
    name: str, first: Sequence[float], second: Sequence[float], spreads: Sequence[Sequence[float]], election: float
) -> tuple[float, str]:
    """What a difference must exceed, in the figure's own unit, and how that was found."""
    larger = max(abs(statistics.median(first)), abs(statistics.median(second)))
    if min(len(first), len(second)) >= ENOUGH:
        wide = max(_middle_half(first), _middle_half(second))
        return wide, f"{wide:.4g}, interquartile range"
    several = [values for values in spreads if len(values) >= ENOUGH]
    if several:
        widest = max(several, key=lambda values: max(values) - min(values))
        span = max(max(widest) - min(widest), SMALL_SHARE * larger)
        return span, f"{span:.4g}, from {len(widest)} runs alike"
    share = SHARE * larger
    unit = next((size for end, size in SECONDS.items() if name.endswith(end)), None)
    if unit is None:
        return share, f"{share:.4g}, {SHARE:.0%}"
    random_wait = election / unit
    return max(share, random_wait), f"{max(share, random_wait):.4g}, {SHARE:.0%} or T"


def _middle_half(values: Sequence[float]) -> float:
    low, _, high = statistics.quantiles(values, n=4)
    return high - low
