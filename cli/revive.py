"""Bringing back what faults, a stop or a reboot took: before an update, since it needs machines that answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machine.log import Heartbeat, Say, say

if TYPE_CHECKING:
    from cli.lab import OpenLab

HEALTHY_SECONDS = 300.0
"""Limit from power on to a healthy cluster: a boot takes about 45 s under TCG, three at once on 2 cores."""


def power_on(lab: OpenLab) -> list[str]:
    """Switch on the machines that are off; names of those. A machine that libvirt does not have is the engine's."""
    from machine.errors import NotBuiltError
    from machine.libvirt_api import connect, domain_state
    from machine.libvirt_api import power_on as switch_on

    woken = []
    with connect(lab.manifest.hypervisor.uri) as connection:
        for node in lab.manifest.nodes:
            try:
                if domain_state(connection, node.domain) in {"shutoff", "crashed"}:
                    switch_on(connection, node.domain)
                    woken.append(node.name)
            except NotBuiltError:
                continue
    return woken


def wait_healthy(lab: OpenLab) -> None:
    """Wait until every member is healthy; DeadlineError names those that are not."""
    lab.cluster().wait_healthy(HEALTHY_SECONDS, on_wait=Heartbeat("waiting for a healthy cluster").beat)


def settle(lab: OpenLab, seconds: float) -> None:
    """Ask every member until all are healthy, at most `seconds`; DeadlineError names all that are not, and why."""
    from machine.waiting import Pending, wait_until

    cluster = lab.cluster()

    def healthy() -> None:
        ill = [f"{member.node}: {member.reason}" for member in cluster.health() if not member.healthy]
        if ill:
            raise Pending("; ".join(ill))

    wait_until(healthy, "Every member healthy", seconds=seconds, on_wait=Heartbeat("waiting for the members").beat)


def wait_for_machines(lab: OpenLab) -> None:
    """Wait until every machine can be logged in to; DeadlineError names those that cannot."""
    from concurrent.futures import ThreadPoolExecutor

    from machine.errors import LabError
    from machine.waiting import Pending, wait_until

    def closed(node: str) -> str:
        try:
            lab.shell(node).open()
        except LabError as error:
            return str(error)
        return ""

    def opened() -> None:
        with ThreadPoolExecutor(len(lab.manifest.nodes)) as pool:
            problems = [problem for problem in pool.map(closed, lab.manifest.node_names) if problem]
        if problems:
            raise Pending("; ".join(problems))

    wait_until(
        opened,
        "A login on every machine",
        seconds=HEALTHY_SECONDS,
        every=1.0,
        where=str(lab.paths.consoles),
        next="The consoles show how far they came.",
        on_wait=Heartbeat("waiting for the machines").beat,
    )


def revive(lab: OpenLab, *, deployed: bool, say: Say = say) -> bool:
    """Lift the faults that a killed run left, switch on what is off; whether machines boot, so that members come later.

    Members are not waited for: those that a deployment left broken come up with the update that follows. When etcd is
    `deployed`, that update may have to log in, so the machines are. The caller is the lab's only player
    (chaos.lab.lock.exclusive_use).
    """
    from chaos.heal.heal import heal_lab, leftovers
    from chaos.lab.lab import Lab

    if left := leftovers(lab.paths):
        say(f"Faults of an earlier run are still on record ({'; '.join(left)}): healing first.")
        with Lab(lab.manifest, lab.paths) as opened:
            heal_lab(opened, say)
        return False
    woken = power_on(lab)
    if woken:
        say(f"Switched on: {', '.join(woken)}.")
        if deployed:
            wait_for_machines(lab)
    return bool(woken)
