"""`./lab start`: switch the machines on and wait until the cluster is healthy."""

from __future__ import annotations

import time

import typer

from cli.options import DEFAULT_STACK, StackOption

HEALTHY_SECONDS = 300.0
"""Limit from power on to a healthy cluster: a boot takes about 45 s under TCG, three at once on 2 cores."""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def start(stack: StackOption = DEFAULT_STACK) -> None:
        """Switch the machines on again and wait until every member is healthy."""
        from cli.lab import open_lab
        from machine.libvirt_api import connect, power_on
        from machine.log import Heartbeat, say

        lab = open_lab(stack, awake=True)
        started = time.monotonic()
        with connect(lab.manifest.hypervisor.uri) as connection:
            for node in lab.manifest.nodes:
                power_on(connection, node.domain)
        say(f"Switched on: {', '.join(lab.manifest.node_names)}. Waiting for a healthy cluster.")
        lab.cluster().wait_healthy(HEALTHY_SECONDS, on_wait=Heartbeat("waiting for a healthy cluster").beat)
        say(f"All members are healthy: {time.monotonic() - started:.1f} s.")
