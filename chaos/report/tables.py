"""Figures with what they mean: judgements, traffic and the calibration as a person reads them, each with its unit.

report.json keeps them bare, in seconds or in the rule's unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from chaos.oracle.delays import DELAYS
from chaos.oracle.judge import told, told_interval
from chaos.oracle.rules import RULES
from chaos.report.model import Scenario
from chaos.report.wording import APART, displayed, tell

MEASURED: Final[Mapping[str, str]] = {
    **{name: words.strip(",") for name, words in DELAYS.items()},
    "late_heartbeat": "heartbeat that a leader sent late, by its own log",
    "stuck": "probe given up after",
    "put": "idle put, median",
    "get": "idle get, median",
}
"""Measurements of the machine (chaos.oracle.delays.Machine), in seconds there."""

NODES: Final[Mapping[str, str]] = {
    "scheduling_median": "late wake-up, median",
    "scheduling_worst": "late wake-up, worst",
    "connect_median": "TCP connect to a peer, median",
    "connect_worst": "TCP connect to a peer, worst",
    "flush": "one flushed write of 4 KiB",
    "fsync_median": "flush of etcd's log since its start, median",
    "fsync_p99": "flush of etcd's log since its start, 99 %",
    "peer_round_trip": "round trip to the slowest peer, by etcd",
    "ssh": "a command by ssh",
    "stuck": "probe given up after",
}
"""Measurements of one node (chaos.measure: the calibration's figures), in seconds there."""


RECOVERY: Final[Mapping[str, str]] = {
    "detected": "leader lost",
    "new_leader": "new leader",
    "first_write": "first write begun after it done",
    "healed_to_all_healthy": "healing to all healthy",
    "healed_to_caught_up": "healing to all caught up",
    "resolution": "samples every",
}
"""Times of `recovery` (chaos.measure: recovery figures), in seconds from the fault's injection or from its healing."""


def judgements(scenario: Scenario) -> list[dict[str, str]]:
    """Each figure that was held against a rule: rule, title, observed, allowed, verdict and why."""
    found = scenario.metrics.get("judgements")
    if not isinstance(found, list | tuple):
        return []
    return [_judgement(one) for one in found if isinstance(one, Mapping)]


def _judgement(one: Mapping[str, Any]) -> dict[str, str]:
    name, why = str(one.get("rule", "")), str(one.get("why", ""))
    seen, low, high = (one.get(key) for key in ("observed", "allowed_low", "allowed_high"))
    rule = RULES.get(name)
    if rule is not None and isinstance(seen, int | float) and isinstance(low, int | float):
        end = float(high) if isinstance(high, int | float) else math.inf
        observed = "nothing" if math.isnan(seen) else told(seen, rule.unit)
        allowed = told_interval(low, end, rule.unit)
        said, formula, further = why.partition(f" by {rule.formula}")
        if formula and ", allowed " in said:  # the same figures as in the steps, where they were rounded but once
            observed, _, allowed = said.partition(", allowed ")
            why = f"{rule.formula}{further}"
    else:
        observed, allowed = tell(seen), f"{tell(low)} to {'any' if high is None else tell(high)}"
    return {
        "rule": name,
        "title": rule.title if rule else "",
        "observed": observed,
        "allowed": allowed,
        "verdict": str(one.get("verdict", "")),
        "why": why,
    }


def calibration(found: Mapping[str, Any]) -> dict[str, Any]:
    """The calibration for people: what each figure is, in milliseconds; nothing is said of what was not met.

    >>> calibration({"machine": {"fsync": 0.0317, "stuck": 0.0}, "slow": []})
    {'flush of the log to disk (fsync)': '31.7 ms'}
    """
    rest = {key: value for key, value in found.items() if value or key not in {"slow", "advice", "problems"}}
    shown: dict[str, Any] = {}
    machine = rest.pop("machine", None)
    if isinstance(machine, Mapping):
        shown |= {MEASURED.get(key, key): _milliseconds(value) for key, value in machine.items() if value}
    nodes = rest.pop("nodes", None)
    if isinstance(nodes, Mapping):
        shown["on each member"] = [
            {"": str(name), **{label: _milliseconds(one[key]) for key, label in NODES.items() if one.get(key)}}
            | ({"not measured": str(one["problem"])} if one.get("problem") else {})
            for name, one in nodes.items()
            if isinstance(one, Mapping)
        ]
    for key, label in (("slow", "more than the election timeout holds"), ("problems", "not measured")):
        if key in rest:
            shown[label] = rest.pop(key)
    if isinstance(rest.get("seconds"), int | float):
        shown["measuring took"] = f"{rest.pop('seconds'):.1f} s"
    return shown | displayed(rest)


def traffic(scenario: Scenario) -> list[dict[str, str]]:
    """Flushes and traffic by phase and member, as cells of a table; [] when nothing was read."""
    told = scenario.metrics.get("traffic")
    by_phase = told.get("phases") if isinstance(told, Mapping) else None
    if not isinstance(by_phase, Mapping):
        return []
    found = []
    for phase, members in by_phase.items():
        for member, one in members.items() if isinstance(members, Mapping) else ():
            if not isinstance(one, Mapping):
                continue
            anew = ", counted since its restart" if one.get("restarted") else ""
            found.append(
                {
                    "phase": str(phase),
                    "member": f"{member}{anew}",
                    "seconds": _figure(one.get("seconds"), 1, "s"),
                    "fsync": _figure(one.get("fsync_mean_seconds"), 1000, "ms"),
                    "fsyncs": _figure(one.get("fsyncs_per_second"), 1, "/s"),
                    "commit": _figure(one.get("commit_mean_seconds"), 1000, "ms"),
                    "peers_out": _figure(one.get("peer_sent_bytes_per_second"), 1e-3, "kB/s"),
                    "peers_in": _figure(one.get("peer_received_bytes_per_second"), 1e-3, "kB/s"),
                    "clients_out": _figure(one.get("client_sent_bytes_per_second"), 1e-3, "kB/s"),
                    "clients_in": _figure(one.get("client_received_bytes_per_second"), 1e-3, "kB/s"),
                }
            )
    return found


def no_traffic(scenario: Scenario) -> str:
    """Why a scenario has no figures of flushes and traffic; "" where it has, or where nobody asked."""
    told = scenario.metrics.get("traffic")
    return str(told.get("why") or "") if isinstance(told, Mapping) else ""


def _figure(value: object, times: float, unit: str) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "none"
    return f"{value * times:.3g} {unit}"


def figures(scenario: Scenario) -> dict[str, Any]:
    """What else was measured in a scenario, for people: what the page shows in no other place."""
    found = {name: value for name, value in scenario.metrics.items() if name not in APART}
    recovery = found.pop("recovery", None)
    shown: dict[str, Any] = {}
    if isinstance(recovery, list | tuple) and all(isinstance(one, Mapping) for one in recovery):
        shown["recovery, from each fault's injection"] = [_recovery(one) for one in recovery]
    elif recovery is not None:
        found["recovery"] = recovery
    return shown | displayed(found, scenario.started_ns)


def _recovery(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        RECOVERY.get(key, key): f"{value:.2f} s" if key in RECOVERY and isinstance(value, int | float) else value
        for key, value in one.items()
    }


def _milliseconds(value: object) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return tell(value)
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
