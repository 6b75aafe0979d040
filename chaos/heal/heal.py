"""Mending: from any mess that faults left, to a healthy cluster, without the Pulumi engine.

Looks in four places: undo records on disk, our fixed names on the hypervisor and in the guests, the machines
themselves, and the verification stack. Works when the runner was killed at any moment, and when there is nothing to
mend.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from chaos.faults import records
from chaos.faults.base import Fault, describe
from chaos.faults.host.power import BOOT_SECONDS
from chaos.faults.network import dns
from chaos.faults.network.nft import Bridge
from chaos.faults.registry import damages_data, from_record
from chaos.heal import inspection
from chaos.heal.recovery import Note, Recovery, Repair
from chaos.heal.residue import DAMAGED, ETCD, UNDO_SCRIPT
from chaos.lab.lab import Lab
from chaos.lab.lock import exclusive_use
from chaos.lab.probes import answers
from chaos.stack.state import emptied_outputs
from infra.layout import SSH_PORT
from infra.manifest import Manifest, Node
from machine import libvirt_api
from machine.engine import Engine
from machine.engine_state import CHAOS_PROJECT
from machine.errors import LabError
from machine.log import Heartbeat, Say
from machine.log import say as say_aloud
from machine.paths import StackPaths
from machine.waiting import Pending, wait_until

SWEEPS = 3
"""A program that a killed runner had started in a guest may still be making its fault while we sweep."""


_Note = Note


def heal(manifest: Manifest, paths: StackPaths, say: Say = say_aloud) -> list[Repair]:
    """Mend everything, say each thing as it is found, and wait for a healthy cluster.

    Gives what was found and done; an empty list means that nothing was amiss. Raises UsageError while another run
    plays on the lab, DeadlineError when machines do not come back or the cluster does not get healthy.
    """
    with exclusive_use(paths, "mend it"), Lab(manifest, paths) as lab:
        return heal_lab(lab, say)


def heal_lab(lab: Lab, say: Say = say_aloud) -> list[Repair]:
    """`heal` on a lab that is open already, and whose only player the caller is (chaos.lab.lock.exclusive_use)."""
    found: list[Repair] = []

    def note(mended: Repair) -> None:
        found.append(mended)
        say(f"  {mended}")

    stack = _end_updates(lab, note)
    lab.connect_early("run")
    recorded, later = _lift_records(lab, note)
    with ThreadPoolExecutor(1) as pool:
        emptied = pool.submit(_empty_stack, stack, note)  # the CLI takes a second, and all the rest takes longer
        _clear_bridge(lab, note)
        _raise_links(lab, note)
        _right_names(lab, note)
        _start_machines(lab, note)
        _wait_for_machines(lab, say)
        for record in later:
            _lift(lab, record, note)
        swept = _sweep_guests(lab, note)
        _wait_healthy(lab, note, say, swept.damaged)
        left = _undo_pending(lab, found, note, say)
        emptied.result()
    for record in recorded:
        if record.id not in left:
            records.remove(lab.paths, record.id)
    if found:
        say("  All members of the lab are healthy.")
    return found


def leftovers(paths: StackPaths) -> list[str]:
    """Names of faults that records speak of; cheap, asks nobody."""
    good, bad = records.load_all(paths)
    return [f"{record.name} on {', '.join(record.nodes)}" for record in good] + [
        f"unreadable record {path.name}" for path in bad
    ]


# -- the verification stack ---------------------------------------------------------------------------------------


def _end_updates(lab: Lab, note: _Note) -> Engine | None:
    """Kill updates of the verification stack whose owner died: they would go on injecting. None without a stack."""
    try:
        engine = Engine(lab.paths, project=CHAOS_PROJECT, say=lambda _line: None)
        if engine.end_orphans():
            note(Repair("an update of the verification stack without an owner", engine.name, "ended", ok=True))
    except LabError as error:  # the faults are healed without the engine all the same
        note(Repair("the verification stack", lab.paths.stack, f"could not be asked: {error}", ok=False))
        return None
    return engine


def _empty_stack(engine: Engine | None, note: _Note) -> None:
    if engine is None:
        return
    deployment = engine.deployment()
    left = engine.empty(emptied_outputs(deployment.outputs)) if deployment else []
    if left:
        note(Repair(f"declared: {', '.join(left)}", engine.name, "declared no more", ok=True))


# -- records ------------------------------------------------------------------------------------------------------


def _lift_records(lab: Lab, note: _Note) -> tuple[list[records.Record], list[records.Record]]:
    """Undo what records speak of, without waiting for proof: the records go when the cluster is healthy.

    Gives all records of this lab, and those that must wait until the machines run.
    """
    good, bad = records.load_all(lab.paths)
    of_lab: list[records.Record] = []
    for record in good:
        if record.lab_id == lab.manifest.lab_id:
            of_lab.append(record)
            continue
        records.remove(lab.paths, record.id)
        note(Repair(*_named(record), f"belonged to the lab {record.lab_id}, which is gone; forgotten", ok=True))
    for path in bad:
        path.unlink(missing_ok=True)
        note(Repair("a record that cannot be read", path.name, "removed; looking at everything instead", ok=True))
    reachable = _reachable(lab) if of_lab else set()
    later = [record for record in of_lab if not _lift(lab, record, note, reachable=reachable)]
    return of_lab, later


def _reachable(lab: Lab) -> set[str]:
    """Nodes that can be logged in to now."""
    with ThreadPoolExecutor(len(lab.manifest.nodes)) as pool:
        taken = pool.map(lambda node: answers(lab, node.address, SSH_PORT), lab.manifest.nodes)
        return {node.name for node, taken_here in zip(lab.manifest.nodes, taken, strict=True) if taken_here}


def _lift(lab: Lab, record: records.Record, note: _Note, reachable: set[str] | None = None) -> bool:
    """Lift one; False, and nothing done, when it needs machines that are not among the `reachable` (None: all are)."""
    try:
        fault: Fault = from_record(record)
        inside = fault.needs_power or record.place == "guest"
        if reachable is not None and inside and not set(fault.inside) <= reachable:
            return False
        fault.lift(lab)
    except LabError as error:
        pending = record.place == "guest" and not damages_data(record.name)
        note(Repair(*_named(record), f"could not be lifted: {error}", ok=False, pending=pending))
    else:
        note(Repair(*_named(record), "lifted", ok=True))
        if damages_data(record.name):  # the member is another one now, and its data to be trusted
            records.remove(lab.paths, record.id)
    return True


def _named(record: records.Record) -> tuple[str, str]:
    return f"{record.name} on {describe(record.groups)}", f"record of process {record.pid}, {record.place}"


# -- the hypervisor -----------------------------------------------------------------------------------------------


def _clear_bridge(lab: Lab, note: _Note) -> None:
    bridge = Bridge.of(lab.manifest)
    if not bridge.present():
        return
    pairs = sum(len(cut.pairs) for cut in bridge.cuts().values())
    bridge.drop_table()
    note(Repair(f"our nftables table with {pairs} pairs cut", lab.manifest.hypervisor.bridge, "removed", ok=True))


def _raise_links(lab: Lab, note: _Note) -> None:
    for node in inspection.links_down(lab):
        with lab.libvirt() as connection:
            libvirt_api.set_link(connection, lab.manifest.node(node).domain, up=True)
        note(Repair(f"the link of {node} was down", "libvirt", "up", ok=True))


def _right_names(lab: Lab, note: _Note) -> None:
    try:
        for node, led in dns.wrong_names(lab).items():
            with lab.libvirt() as connection:
                dns.point(connection, lab, node, lab.manifest.node(node).address)
            note(Repair(f"the name {node} led to {led}", "libvirt", "right", ok=True))
    except LabError as error:  # the machines are worth mending all the same
        note(Repair("the names of the nodes", "libvirt", f"could not be put right: {error}", ok=False))


def _start_machines(lab: Lab, note: _Note) -> None:
    with lab.libvirt() as connection:
        for node in lab.manifest.nodes:
            state = libvirt_api.domain_state(connection, node.domain)
            if state == "running":
                continue
            lab.forget(node.name)
            if state == "paused":
                libvirt_api.domain(connection, node.domain).resume()
            elif state == "crashed":
                libvirt_api.power_off(connection, node.domain)
                libvirt_api.power_on(connection, node.domain)
            else:
                libvirt_api.power_on(connection, node.domain)
            note(Repair(f"{node.name} was {state}", "libvirt", "resumed" if state == "paused" else "on", ok=True))


def _wait_for_machines(lab: Lab, say: Say) -> None:
    """Wait until every machine can be logged in to; each is asked by itself, as they come up at different times."""
    missing = {node.name: node for node in lab.manifest.nodes}

    def arrived(node: Node) -> str:
        """Nothing, once there is a shell; else what is in the way."""
        if not answers(lab, node.address, SSH_PORT):
            return f"no ssh on {node.name}"
        try:
            lab.shell(node.name).open()
        except LabError as error:  # a login may still be refused while the machine boots
            return str(error)
        return ""

    def all_arrived() -> None:
        with ThreadPoolExecutor(len(missing)) as pool:
            seen = dict(zip(missing, pool.map(arrived, missing.values()), strict=True))
        for name in [name for name, problem in seen.items() if not problem]:
            del missing[name]
        if missing:
            raise Pending("; ".join(seen[name] for name in missing))

    wait_until(
        all_arrived,
        "ssh on every node",
        seconds=BOOT_SECONDS,
        on_wait=Heartbeat("waiting for the machines", say=say).beat,
        next="Look at .lab/stacks/NAME/consoles, or build the lab anew.",
    )


# -- inside the guests --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Swept:
    """What sweeping the guests could not mend."""

    undone: set[str]
    """Ids of faults whose undo went wrong to the last."""
    damaged: set[str]
    """Nodes whose data has our note of damage beside it: their members are to be replaced."""


def _sweep_guests(lab: Lab, note: _Note) -> _Swept:
    """Mend what the guests have of ours until they have nothing more; what stays is told, and is not mended."""
    nodes = list(lab.manifest.node_names)
    left: set[str] = set()
    damaged: set[str] = set()
    for number in range(SWEEPS):
        guests = [_without_damage(guest, damaged) for guest in inspection.sweep_guests(lab, nodes)]
        last = number == SWEEPS - 1
        left.clear()
        for guest in guests:
            for trace in guest.traces:
                ok = trace.mended and not last
                pending = trace.trace.name == UNDO_SCRIPT and not ok
                done = "mended" if ok else "could not be mended"
                done = "asked to start" if ok and trace.trace.name == ETCD else done
                note(Repair(str(trace), guest.node, done, ok=ok, pending=pending))
                if pending and not trace.mended:
                    left.update(trace.what.split())
            if guest.clock:
                note(Repair(f"the clock was {guest.clock:+.1f} s off", guest.node, "set", ok=not last))
        # what mended nothing has nothing to look at again; the others are looked at once more
        nodes = [guest.node for guest in guests if guest.told()]
        if not nodes:
            break
    return _Swept(left, damaged)


def _without_damage(guest: inspection.Guest, damaged: set[str]) -> inspection.Guest:
    """The guest without a note of damage, which is put down in `damaged`."""
    traces = tuple(trace for trace in guest.traces if trace.trace.name != DAMAGED)
    if traces != guest.traces:
        damaged.add(guest.node)
    return replace(guest, traces=traces)


def _undo_pending(lab: Lab, found: list[Repair], note: _Note, say: Say) -> set[str]:
    """Try once more what guests could not undo, now that the cluster answers, and correct what was noted of it.

    Gives the ids of faults that are still not undone: their records stay.
    """
    pending = [item for item in found if item.pending]
    if not pending:
        return set()
    left = _sweep_guests(lab, note).undone
    if not left:
        found[:] = [
            replace(item, done="undone at a later attempt", ok=True, pending=False) if item.pending else item
            for item in found
        ]
    _wait_healthy(lab, note, say)  # an undo may have started etcd anew
    return left


def _wait_healthy(lab: Lab, note: _Note, say: Say, noted: Collection[str] = ()) -> None:
    """Wait, and repair what keeps the cluster from being healthy; see chaos.heal.recovery."""
    Recovery(lab, note, say, lambda: _sweep_guests(lab, note), noted).run()
