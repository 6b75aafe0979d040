"""The verdict and the figures in words: the same for the page and for the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from chaos.evidence.sources import SOURCES, Missing
from chaos.report.model import Report, Scenario, Step, Verdict
from chaos.report.runs import Run

ENDED: Final = "The run was ended before its end"

ROUTINE: Final = frozenset(
    {
        "steady state before",
        "workload",
        "background writer in calm",
        "healed and healthy after",
        "workload went on",
        "final reads",
        "hash equality",
        "ledger",
        "linearizable",
    }
)
"""Steps that (nearly) every scenario has: where they pass, they say nothing of its own."""

REASON_CHARACTERS: Final = 260
"""Of a reason, so much is shown where only the reason is wanted: three lines of a page. The steps have all."""

APART: Final = frozenset({"finding", "judgements", "traffic", "measurement_problems"})
"""Metrics that are shown in a place of their own."""

SHOWN_VALUES: Final = 6
"""Of a list of figures, how many are written out."""


def verdict_of(run: Run) -> Verdict:
    """The run's verdict; what was not played is not a pass, so a run that did not finish is inconclusive at best."""
    judged = run.report.judge()
    return judged if run.state == "finished" or judged == "fail" else "inconclusive"


def headline(run: Run) -> str:
    """The verdict in a sentence."""
    said = _judgement(run.report)
    if run.state == "ended":
        return f"{ENDED}. Until then: {said[0].lower()}{said[1:]}"
    if run.state == "running":
        return f"The run still goes on. So far: {said[0].lower()}{said[1:]}"
    return said


def _judgement(report: Report) -> str:
    failed, doubtful, passed, skipped = (
        ids(report, verdict) for verdict in ("fail", "inconclusive", "pass", "skipped")
    )
    played = len(report.scenarios) - len(skipped)
    if not report.scenarios:
        return "No scenario was played."
    tail = f" {_count(len(skipped), 'scenario')} did not apply to this lab." if skipped else ""
    rest = f" The other {len(passed)} passed." if len(passed) > 1 else ""
    if failed:
        also = f" Inconclusive: {', '.join(doubtful)}." if doubtful else ""
        return f"{len(failed)} of {_count(played, 'scenario')} failed: {', '.join(failed)}.{also}{rest}{tail}"
    if doubtful:
        verb = "is" if len(doubtful) == 1 else "are"
        none = " None failed." if played > 1 else ""
        told = f"{len(doubtful)} of {_count(played, 'scenario')} {verb} inconclusive: {', '.join(doubtful)}."
        return f"{told}{none}{rest}{tail}"
    if not passed:
        return f"Nothing was tried.{tail}"
    all_ = "all " if played > 1 else ""
    return f"The cluster did what was expected of it: {all_}{_count(played, 'scenario')} passed.{tail}"


def ids(report: Report, verdict: str) -> list[str]:
    """Ids of the scenarios with a verdict, in reading order."""
    return [scenario.id for scenario in ordered(report.scenarios) if scenario.verdict == verdict]


def ordered(scenarios: Iterable[Scenario]) -> list[Scenario]:
    """By family, then number: S2 before S10; the article's own family first."""
    return sorted(scenarios, key=lambda one: order_key(one.id))


def around(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Those in whose time others began and ended, such as one that is the whole run: no time of their own."""
    return [
        one
        for one in scenarios
        if any(0 < one.started_ns < other.started_ns and other.ended_ns < one.ended_ns for other in scenarios)
    ]


def order_key(scenario_id: str) -> tuple[bool, str, int, str]:
    """Sort key of an id such as S10 or N2b."""
    found = re.fullmatch(r"([A-Za-z_-]*)(\d*)(.*)", scenario_id, re.S)
    family, number, rest = found.groups() if found else (scenario_id, "", "")
    return family != "S", family, int(number or 0), rest


def id_ranges(names: Sequence[str]) -> str:
    """Ids in short, neighbours drawn together.

    >>> id_ranges(["S1", "S2", "S3", "P1", "P3"])
    'S1–S3, P1, P3'
    """
    groups: list[list[str]] = []
    for name in names:
        last = order_key(groups[-1][-1]) if groups else None
        here = order_key(name)
        if last and not here[3] and not last[3] and here[:2] == last[:2] and here[2] == last[2] + 1:
            groups[-1].append(name)
        else:
            groups.append([name])
    return ", ".join(group[0] if len(group) == 1 else f"{group[0]}–{group[-1]}" for group in groups)


def own_steps(scenario: Scenario) -> list[Step]:
    """The steps that make the scenario what it is; where there are none, all."""
    own = [
        step
        for step in scenario.steps
        if step.verdict != "pass"
        or (step.title not in ROUTINE and not step.title.startswith(("leader on ", "inject ", "heal ")))
    ]
    return own or scenario.steps


def telling(scenario: Scenario, count: int) -> list[Step]:
    """Those of the own steps that tell most, in their order: what did not pass before what did."""
    own = own_steps(scenario)
    chosen = sorted(range(len(own)), key=lambda index: own[index].verdict == "pass")[:count]
    return [own[index] for index in sorted(chosen)]


def reasons(scenario: Scenario) -> list[str]:
    """Why a scenario did not pass, one sentence each: the cause before what came of it."""
    found = [
        f"the fault {fault.name} on {fault.target} was not proved, so what followed says nothing about it"
        for fault in scenario.faults
        if not fault.proved_ns
    ]
    found += [
        f"{step.title}: expected {step.expected}; saw {step.observed or 'no end of it'}"
        for step in scenario.steps
        if step.verdict in {"fail", "inconclusive"}
    ]
    if scenario.started_ns and not scenario.ended_ns:
        found.append("it was still under way")
    elif not scenario.steps:
        found.append("it has no steps: it ended as it began")
    if not found and scenario.verdict in {"fail", "inconclusive"}:
        found.append("its test ended with an error outside the steps (see junit.xml)")
    return found


def brief(text: str, most: int = REASON_CHARACTERS) -> str:
    """A text on one line, cut between words where it is longer than `most` characters.

    >>> brief("the fault did not show, after all", 20)
    'the fault did not …'
    """
    shown = " ".join(text.split())
    if len(shown) <= most:
        return shown
    return (shown[: most - 1].rpartition(" ")[0] or shown[: most - 2]) + " …"


def finding(scenario: Scenario) -> str:
    """What a scenario found out, in its own words; "" for one that only checks."""
    return str(scenario.metrics.get("finding") or "")


def evidence(report: Report) -> list[str]:
    """Sources of evidence that the lab lacked from the start, a sentence each."""
    return [Missing(one["source"], one["node"], one["why"]).full for one in report.evidence or () if _known(one)]


def problems(scenario: Scenario) -> list[str]:
    """What could not be measured in a scenario."""
    told = scenario.metrics.get("measurement_problems")
    return [str(one) for one in told] if isinstance(told, list | tuple) else []


def _known(one: Mapping[str, str]) -> bool:
    return {"source", "node", "why"} <= one.keys() and one["source"] in SOURCES


def figures(metrics: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Figures by dotted name, nested ones too; lists stay lists.

    >>> figures({"a": {"b": 1}, "c": [1, 2]})
    {'a.b': 1, 'c': [1, 2]}
    """
    found: dict[str, Any] = {}
    for key, value in metrics.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            found |= figures(value, f"{name}.")
        else:
            found[name] = value
    return found


def beside(text: str) -> str:
    """What was observed, fit for a cell: drawn tables stand elsewhere."""
    if "\n" not in text:
        return text
    return f"{len(text.splitlines())} lines, see the steps below"


def columns(value: object) -> list[str]:
    """Names of the columns where a figure is a list of records, else nothing."""
    if not isinstance(value, list | tuple) or not value or not all(isinstance(one, Mapping) for one in value):
        return []
    return list(dict.fromkeys(str(key) for one in value for key in one))


def displayed(metrics: Mapping[str, Any], zero_ns: int = 0, above: str = "") -> dict[str, Any]:
    """Figures for people: records that are alike as one table, instants as seconds since `zero_ns`.

    >>> displayed({"nodes": {"a": {"x": 1}, "b": {"x": 2}}, "begin_ns": 2_500_000_000}, 1_000_000_000)
    {'nodes': [{'': 'a', 'x': 1}, {'': 'b', 'x': 2}], 'begin': 'at 1.500 s'}
    """
    found: dict[str, Any] = {}
    for key, value in metrics.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and _alike(value):
            found[name] = [{"": str(one), **_at(record, zero_ns)} for one, record in value.items()]
        elif isinstance(value, Mapping):
            found |= displayed(value, zero_ns, f"{name}.")
        else:
            found |= {f"{above}{one}": shown for one, shown in _at({key: value}, zero_ns).items()}
    return found


def _alike(value: Mapping[str, Any]) -> bool:
    """Whether a figure holds records that all have the same fields."""
    records = list(value.values())
    return bool(records) and all(isinstance(one, Mapping) and one.keys() == records[0].keys() for one in records)


def _at(record: Mapping[str, Any], zero_ns: int) -> dict[str, Any]:
    """A record with its instants (`…_ns`) told as seconds since the scenario's begin, also within its lists."""
    found: dict[str, Any] = {}
    for key, value in record.items():
        if key.endswith("_ns") and isinstance(value, int) and zero_ns:
            found[key.removesuffix("_ns")] = f"at {(value - zero_ns) / 1e9:.3f} s" if value else "never"
        elif isinstance(value, Mapping):
            found[key] = _at(value, zero_ns)
        elif isinstance(value, list | tuple):
            found[key] = [_at(one, zero_ns) if isinstance(one, Mapping) else one for one in value]
        else:
            found[key] = value
    return found


def tell(value: object) -> str:
    """A figure as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {tell(one)}" for key, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        if not value:
            return "none"
        shown = "; ".join(tell(one) for one in value[:SHOWN_VALUES])
        return shown if len(value) <= SHOWN_VALUES else f"{shown}; … {len(value)} in all"
    return "not known" if value is None else str(value) or "none"


def moment(text: str) -> str:
    """A time of the report for people.

    >>> moment("2026-01-02T03:04:05+00:00")
    '2026-01-02 03:04:05 UTC'
    """
    return text.replace("T", " ").replace("+00:00", " UTC")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def settings(report: Report) -> str:
    """What a run was played with, in short."""
    lab = report.lab
    if lab is None:
        return "no lab"
    extra = "".join(f", {key}={value}" for key, value in sorted(lab.etcd_extra.items()))
    return (
        f"{len(lab.nodes)} members, H {lab.timeouts.heartbeat_ms} ms, T {lab.timeouts.election_ms} ms, "
        f"peers by {lab.peers}, {lab.hypervisor.accelerator}{extra}"
    )
