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


def revive(lab: OpenLab, *, deployed: bool, say: Say = say) -> None:
    """Lift the faults that a killed run left; switch on what is off, and wait for the cluster when it is `deployed`.

    The caller is the lab's only player (chaos.lab.lock.alone).
    """
    from chaos.heal.heal import heal_lab, leftovers
    from chaos.lab.lab import Lab

    if left := leftovers(lab.paths):
        say(f"Faults of an earlier run are still on record ({'; '.join(left)}): healing first.")
        with Lab(lab.manifest, lab.paths) as opened:
            heal_lab(opened, say)
    elif woken := power_on(lab):
        say(f"Switched on: {', '.join(woken)}.")
        if deployed:
            wait_healthy(lab)
