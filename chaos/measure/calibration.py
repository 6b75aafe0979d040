"""The machine measured before anything is broken: what its links, disks and processors cost, and whether T holds it.

Connections first, all at once; then put and get with nothing beside; then the probes, on all nodes at once. Some 5 s,
8 s on a lab that is quiet at most; what could not be measured is left out and said. Kept in report.json.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final

from chaos.lab.lab import Lab
from chaos.lab.probes import linked
from chaos.measure.node_probe import SCRIPT_LIMIT, NodeFigures, figures_of, median, probe_script
from chaos.oracle.delays import Machine
from chaos.oracle.timing import Timing
from chaos.workload.clients import Clients
from chaos.workload.outcome import Op
from infra.manifest import Manifest
from machine.errors import DeadlineError, LabError

LIMIT: Final = 6.0
"""Seconds that a node's measurements may take, ssh included; put and get before them take at most CALL_LIMIT."""

CALL_LIMIT: Final = 2.0

PREPARE_LIMIT: Final = 3.0
"""Seconds for connecting, by ssh and as a client, before anything is measured."""

CALLS: Final = 7
"""Puts, and gets: enough for a median, and half of what a slow machine has time for."""

CALIBRATION_KEY: Final = "etcd-lab/calibration"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured, per node and in all."""

    machine: Machine
    nodes: Mapping[str, NodeFigures]
    seconds: float
    slow: tuple[str, ...] = ()
    """Measurements that T does not hold."""
    advice: str = ""
    problems: tuple[str, ...] = field(default_factory=tuple)

    def as_json(self) -> dict[str, Any]:
        """For report.json; seconds rounded to 0.1 ms."""
        return {**_rounded(asdict(self)), "nodes": {name: _rounded(asdict(one)) for name, one in self.nodes.items()}}

    def __str__(self) -> str:
        m = self.machine
        figures = (
            f"round trip {m.round_trip * 1000:.0f} ms, fsync {m.fsync * 1000:.0f} ms, scheduling delay "
            f"{m.scheduling * 1000:.0f} ms, put {m.put * 1000:.0f} ms, get {m.get * 1000:.0f} ms"
        )
        told = self.advice or ("the timeouts hold what was measured" if self.problems else "the timeouts hold that")
        return "; ".join([figures, told, *self.problems])


def calibrate(lab: Lab, clients: Clients) -> Calibration:
    """Measure a healthy, idle lab. Never raises for what a node does not tell: it stands in `problems`."""
    started = time.monotonic()
    names = lab.manifest.node_names
    _prepare(lab, clients, names)
    put, get, problem = _calls(clients, names[0])
    figures = _nodes(lab, names)
    return summed(lab.manifest, figures, (put, get), seconds=time.monotonic() - started, problem=problem)


def probe(lab: Lab) -> Machine:
    """The machine as it is now, beside whatever goes on, without put and get. Some 3 s.

    Nodes that can be reached: one whose link was taken down would look like one that is stuck.
    """
    return summed(lab.manifest, _nodes(lab, linked(lab)), (0.0, 0.0)).machine


def summed(
    manifest: Manifest,
    nodes: Mapping[str, NodeFigures],
    calls: tuple[float, float],
    *,
    seconds: float = 0.0,
    problem: str = "",
) -> Calibration:
    """The worst of all nodes and the median put and get, held against T.

    Of etcd's histograms the median counts: they go back to the member's start, and tell of every fault since.
    """
    put, get = calls
    machine = Machine(
        round_trip=max((max(one.peer_round_trip, one.connect_median) for one in nodes.values()), default=0.0),
        fsync=max((max(one.fsync_median, one.flush) for one in nodes.values()), default=0.0),
        scheduling=max((one.scheduling_worst for one in nodes.values()), default=0.0),
        stuck=max((one.stuck for one in nodes.values()), default=0.0),
        put=put,
        get=get,
    )
    timing = Timing.of(manifest)
    problems = [f"{name}: {one.problem}" for name, one in nodes.items() if one.problem]
    return Calibration(
        machine,
        nodes,
        seconds,
        tuple(machine.too_slow_for(timing)),
        machine.advice(timing),
        tuple(problems + ([problem] if problem else [])),
    )


def _prepare(lab: Lab, clients: Clients, names: Sequence[str]) -> None:
    """Connect everywhere at once, by ssh and as a client: that takes seconds under TCG, and is no measurement.

    What cannot be connected shows when it is used.
    """

    def tried(open_it: Callable[[], object]) -> None:
        with contextlib.suppress(LabError):
            open_it()

    def ask() -> None:
        clients.of(names[0]).get(CALIBRATION_KEY, deadline=PREPARE_LIMIT)

    opened = [partial(lab.shell(name).open, PREPARE_LIMIT) for name in names]
    with ThreadPoolExecutor(len(names) + 1) as pool:
        list(pool.map(tried, [ask, *opened]))


def _nodes(lab: Lab, names: Sequence[str]) -> dict[str, NodeFigures]:
    with ThreadPoolExecutor(max(1, len(names))) as pool:
        return dict(zip(names, pool.map(lambda node: _node(lab, node), names), strict=True))


def _node(lab: Lab, node: str) -> NodeFigures:
    shell, here = lab.shell(node), lab.manifest.node(node)
    peers = [str(other.address) for other in lab.manifest.nodes if other.name != node]
    argv = ["timeout", str(SCRIPT_LIMIT), "bash", "-c", probe_script(str(here.address), peers)]
    started = time.monotonic()
    try:
        text = shell.run(argv, seconds=LIMIT, check=False).stdout
    except DeadlineError:
        return NodeFigures(stuck=time.monotonic() - started, problem=f"no probe ended within {LIMIT:g} s")
    except LabError as error:
        return NodeFigures(problem=error.what)
    return figures_of(text, time.monotonic() - started)


def _calls(clients: Clients, node: str) -> tuple[float, float, str]:
    """Median seconds of an idle put and get by the recording client, and what went wrong."""
    try:
        client = clients.of(node)
        puts = _repeated(lambda: client.put(CALIBRATION_KEY, "1", deadline=CALL_LIMIT / 2))
        gets = _repeated(lambda: client.get(CALIBRATION_KEY, deadline=CALL_LIMIT / 2))
        client.delete(CALIBRATION_KEY)
    except LabError as error:
        return 0.0, 0.0, f"put and get: {error.what}"
    failed = [op for op in (*puts, *gets) if not op.ok]
    return (
        median([op.seconds for op in puts if op.ok]),
        median([op.seconds for op in gets if op.ok]),
        f"put and get: {len(failed)} failed, {failed[0]}" if failed else "",
    )


def _repeated(call: Callable[[], Op]) -> list[Op]:
    """Up to CALLS operations in half of CALL_LIMIT; the first is left out: it may have opened the connection."""
    ended = time.monotonic() + CALL_LIMIT / 2
    ops = [call()]
    while len(ops) <= CALLS and time.monotonic() < ended:
        ops.append(call())
    return ops[1:] or ops


def _rounded(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, 4) if isinstance(value, float) else _rounded(value) if isinstance(value, dict) else value
        for name, value in fields.items()
    }
