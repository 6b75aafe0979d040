"""Mending: from any mess that faults left, to a healthy cluster, without the Pulumi engine.

Looks in four places: undo records on disk, our fixed names on the hypervisor and in the guests, the machines
themselves, and the verification stack. Works when the runner was killed at any moment, and when there is nothing to
mend.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from chaos.declared import emptied_outputs
from chaos.faults import records
from chaos.faults.bridge import Bridge
from chaos.faults.power import BOOT_SECONDS, SSH_PORT
from chaos.faults.registry import from_record
from chaos.lab import Lab, alone
from chaos.probes import answers
from infra.manifest import Manifest
from machine import libvirt_api
from machine.engine import Engine
from machine.engine_state import CHAOS_PROJECT
from machine.errors import LabError
from machine.log import Heartbeat, Say
from machine.log import say as say_aloud
from machine.paths import StackPaths
from machine.waiting import Pending, wait_until

HEALTHY_SECONDS = 180.0
"""From running machines to a healthy cluster: a start of etcd and an election, under TCG with all members at once."""


@dataclass(frozen=True, slots=True)
class Mended:
    """One thing that was found and what was done about it."""

    what: str
    where: str
    done: str
    ok: bool

    def __str__(self) -> str:
        return f"{self.what} ({self.where}): {self.done}"


_Note = Callable[[Mended], None]


def heal(manifest: Manifest, paths: StackPaths, say: Say = say_aloud) -> list[Mended]:
    """Mend everything, say each thing as it is found, and wait for a healthy cluster.

    Gives what was found and done; an empty list means that nothing was amiss. Raises DeadlineError when machines do
    not come back or the cluster does not get healthy.
    """
    with alone(paths, "mend it"), Lab(manifest, paths) as lab:
        return heal_lab(lab, say)


def heal_lab(lab: Lab, say: Say = say_aloud) -> list[Mended]:
    """`heal` on a lab that is open already, and whose only player the caller is (chaos.lab.alone)."""
    found: list[Mended] = []

    def note(mended: Mended) -> None:
        found.append(mended)
        say(f"  {mended}")

    stack = _end_updates(lab, note)
    pending = _lift_records(lab, note)
    _clear_bridge(lab, note)
    woken = _start_machines(lab, note)
    _wait_for_machines(lab, say)
    _start_etcd(lab, note)
    lab.cluster.wait_healthy(HEALTHY_SECONDS, on_wait=Heartbeat("waiting for a healthy cluster", say=say).beat)
    for record in pending:
        records.remove(lab.paths, record.id)
    _empty_stack(stack, note)
    if woken or found:
        say("  All members are healthy.")
    return found


def leftovers(paths: StackPaths) -> list[str]:
    """Names of faults that records speak of; cheap, asks nobody."""
    good, bad = records.load_all(paths)
    return [f"{record.name} on {', '.join(name for group in record.groups for name in group)}" for record in good] + [
        f"unreadable record {path.name}" for path in bad
    ]


def _end_updates(lab: Lab, note: _Note) -> Engine | None:
    """Kill updates of the verification stack whose owner died: they would go on injecting. None without a stack."""
    try:
        engine = Engine(lab.paths, project=CHAOS_PROJECT, say=lambda _line: None)
        if engine.end_orphans():
            note(Mended("an update of the verification stack without an owner", engine.name, "ended", ok=True))
    except LabError as error:  # the faults are healed without the engine all the same
        note(Mended("the verification stack", lab.paths.stack, f"could not be asked: {error}", ok=False))
        return None
    return engine


def _empty_stack(engine: Engine | None, note: _Note) -> None:
    if engine is None:
        return
    deployment = engine.deployment()
    left = engine.empty(emptied_outputs(deployment.outputs)) if deployment else []
    if left:
        note(Mended(f"declared: {', '.join(left)}", engine.name, "declared no more", ok=True))


def _lift_records(lab: Lab, note: _Note) -> list[records.Record]:
    """Undo what records speak of, without waiting for proof: the records go when the cluster is healthy."""
    good, bad = records.load_all(lab.paths)
    pending: list[records.Record] = []
    for record in good:
        where = f"record of process {record.pid}, {record.place}"
        what = f"{record.name} on {' | '.join(','.join(group) for group in record.groups)}"
        if record.lab_id != lab.manifest.lab_id:
            records.remove(lab.paths, record.id)
            note(Mended(what, where, f"belonged to the lab {record.lab_id}, which is gone; forgotten", ok=True))
            continue
        try:
            from_record(record).lift(lab)
        except LabError as error:
            note(Mended(what, where, f"could not be lifted: {error}", ok=False))
        else:
            note(Mended(what, where, "lifted", ok=True))
        pending.append(record)
    for path in bad:
        path.unlink(missing_ok=True)
        note(Mended("a record that cannot be read", path.name, "removed; looking at everything instead", ok=True))
    return pending


def _clear_bridge(lab: Lab, note: _Note) -> None:
    bridge = Bridge.of(lab.manifest)
    if not bridge.present():
        return
    pairs = sum(len(cut.pairs) for cut in bridge.cuts().values())
    bridge.drop_table()
    note(Mended(f"our nftables table with {pairs} pairs cut", lab.manifest.hypervisor.bridge, "removed", ok=True))


def _start_machines(lab: Lab, note: _Note) -> bool:
    woken = False
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
            woken = True
            note(Mended(f"{node.name} was {state}", "libvirt", "resumed" if state == "paused" else "on", ok=True))
    return woken


def _wait_for_machines(lab: Lab, say: Say) -> None:
    def all_answer() -> None:
        silent = [node.name for node in lab.manifest.nodes if not answers(lab, node.address, SSH_PORT)]
        if silent:
            raise Pending(f"no ssh on {', '.join(silent)}")

    wait_until(
        all_answer,
        "ssh on every node",
        seconds=BOOT_SECONDS,
        on_wait=Heartbeat("waiting for the machines", say=say).beat,
        next="Look at .lab/stacks/NAME/consoles, or build the lab anew.",
    )


def _start_etcd(lab: Lab, note: _Note) -> None:
    """Start etcd where systemd has given up on it, or where somebody stopped it; a unit that is starting is let be."""
    mend = (
        "s=$(systemctl show -P ActiveState etcd.service); case $s in active|activating|reloading) ;; "
        "*) systemctl reset-failed etcd.service; systemctl start --no-block etcd.service; echo $s;; esac"
    )

    def one(node: str) -> Mended | None:
        def attempt() -> str:
            try:
                return lab.shell(node).run(mend, seconds=30).stdout.strip()
            except LabError as error:  # a login may still be refused while the machine boots
                raise Pending(str(error)) from error

        started = time.monotonic()
        state = wait_until(attempt, f"login on {node}", seconds=90)
        if not state:
            return None
        took = time.monotonic() - started
        return Mended(f"etcd on {node} was {state}", "systemd", f"started ({took:.1f} s)", ok=True)

    with ThreadPoolExecutor(len(lab.manifest.nodes)) as pool:
        for mended in pool.map(one, lab.manifest.node_names):
            if mended is not None:
                note(mended)
