"""Looking over the whole lab for anything of ours: rules, qdiscs, tables, timers, stopped processes, wrong clocks.

`inspect` changes nothing and is what "nothing is left" means; `sweep_guests` mends what it finds inside the machines.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from chaos.faults import records
from chaos.faults.network.dns import wrong_names
from chaos.faults.network.nft import Bridge
from chaos.heal.residue import GUEST, Found, read, script
from chaos.lab.guest_clock import TOLERANCE, move
from chaos.lab.guest_shell import Reading
from chaos.lab.lab import Lab
from chaos.stack.state import standing, told
from machine import libvirt_api
from machine.engine import Engine
from machine.engine_state import CHAOS_PROJECT, Deployment
from machine.errors import LabError

MOVED_SECONDS = 2.0
"""A clock further from the host's than this was moved: less comes by itself in an emulated machine under load."""

LOOK_SECONDS = 60.0
MEND_SECONDS = 400.0
"""An undo script, the end of etcd on a broken disk and a check of its file system, under TCG."""


@dataclass(frozen=True, slots=True)
class Guest:
    """What one guest had: traces, and its clock."""

    node: str
    traces: tuple[Found, ...] = ()
    clock: float = 0.0
    """Seconds it is ahead of this host; 0 when that is within the limit."""

    def told(self) -> list[str]:
        """In plain words."""
        words = [f"{found} on {self.node}" for found in self.traces]
        return [*words, f"clock of {self.node} {self.clock:+.1f} s"] if self.clock else words


def inspect(lab: Lab) -> list[str]:
    """Everything of ours that is still there, and every machine, clock or member that is not as it should be."""
    found = [f"record {record.id}" for record in records.load_all(lab.paths)[0]]
    found += [f"declared: {told(fault)}" for fault in standing(_deployment(lab)).faults]
    bridge = Bridge.of(lab.manifest)
    if bridge.present():
        found.append(f"nftables table {bridge.table} at the bridge")
    states = lab.domain_states()
    found += [f"{node} is {state}" for node, state in states.items() if state != "running"]
    found += [f"link of {node} is down" for node in links_down(lab)]
    found += [f"the name {node} leads to {led}" for node, led in wrong_names(lab).items()]
    up = [node for node, state in states.items() if state == "running"]
    return found + [words for guest in look(lab, up) for words in guest.told()]


def _deployment(lab: Lab) -> Deployment | None:
    return Engine(lab.paths, project=CHAOS_PROJECT).deployment()


def links_down(lab: Lab) -> list[str]:
    """Nodes whose network card has no carrier."""
    with lab.libvirt() as connection:
        return [node.name for node in lab.manifest.nodes if not libvirt_api.link_is_up(connection, node.domain)]


def look(lab: Lab, nodes: list[str]) -> list[Guest]:
    """What each of these guests has, in their order; raises LabError when one cannot be looked at."""
    return _each(lab, nodes, mend=False)


def sweep_guests(lab: Lab, nodes: list[str]) -> list[Guest]:
    """Mend what each of these guests has; what it had. Raises LabError when one cannot be reached."""
    return _each(lab, nodes, mend=True)


def _each(lab: Lab, nodes: list[str], *, mend: bool) -> list[Guest]:
    if not nodes:
        return []
    with ThreadPoolExecutor(len(nodes)) as pool:
        return list(pool.map(lambda node: _guest(lab, node, mend=mend), nodes))


def _guest(lab: Lab, node: str, *, mend: bool) -> Guest:
    seconds = MEND_SECONDS if mend else LOOK_SECONDS
    done = lab.inside.run(lab.shell(node), script(GUEST, mend=mend), seconds, check=False)
    here = time.time()
    try:
        traces, there = read(done.stdout, GUEST)
    except ValueError as error:
        raise LabError(
            f"{node} could not be looked over: {error}", next="See whether it can be logged in to."
        ) from error
    limit = TOLERANCE if mend else MOVED_SECONDS
    # the answer was under way for a moment, so this is only good to tell that all is well
    ahead = _ahead(lab, node, limit) if abs(there - here) > limit else 0.0
    if ahead and mend:
        move(lab, node, -ahead)
    return Guest(node, tuple(traces), ahead)


def _ahead(lab: Lab, node: str, limit: float) -> float:
    reading = lab.inside.clocks([lab.shell(node)])[node]
    if not isinstance(reading, Reading):
        raise reading
    return reading.offset if abs(reading.offset) > limit + reading.uncertainty else 0.0
