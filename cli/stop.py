"""`./lab stop`: shut the machines down, state kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cli.options import DEFAULT_STACK, StackOption

if TYPE_CHECKING:
    from cli.lab import OpenLab

SHUTDOWN_SECONDS = 90.0
"""Limit for an orderly shutdown; one takes about 15 s under TCG. The power is cut after it."""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def stop(stack: StackOption = DEFAULT_STACK) -> None:
        """Shut the machines down in good order; ./lab start brings them back with their data."""
        from chaos.lab.lock import exclusive_use
        from cli.lab import open_lab

        lab = open_lab(stack, awake=True)
        with exclusive_use(lab.paths, "stop it"):
            shut_down(lab)


def shut_down(lab: OpenLab) -> None:
    """Shut all machines down, side by side; one that does not end in time loses its power, and is named."""
    from concurrent.futures import ThreadPoolExecutor

    from machine.errors import DeadlineError
    from machine.libvirt_api import connect, domain_state, power_off
    from machine.log import Heartbeat, say
    from machine.waiting import Pending, wait_until

    with connect(lab.manifest.hypervisor.uri) as connection:
        running = [n for n in lab.manifest.nodes if domain_state(connection, n.domain) != "shutoff"]
        if not running:
            say("The machines are off already.")
            return
        say(f"Shutting down {', '.join(node.name for node in running)}.")
        with ThreadPoolExecutor(len(running)) as pool:
            list(pool.map(lambda node: _ask(lab, node.name), running))

        def probe() -> None:
            on = [node.name for node in running if domain_state(connection, node.domain) != "shutoff"]
            if on:
                raise Pending(f"still on: {', '.join(on)}")

        try:
            wait_until(probe, "shutdown", seconds=SHUTDOWN_SECONDS, on_wait=Heartbeat("shutting down").beat)
        except DeadlineError as late:
            say(f"{late} Their power is cut now; etcd's data survives that.")
            for node in running:
                power_off(connection, node.domain)
    say("The machines are off. ./lab start brings them back.")


def _ask(lab: OpenLab, node: str) -> None:
    """Ask one node to power off; by ssh, and by its power button when ssh does not answer."""
    from machine.errors import LabError
    from machine.libvirt_api import connect, shutdown

    try:
        shell = lab.shell(node)
        shell.run(["systemctl", "--no-block", "poweroff"], seconds=20)
        shell.close()
    except LabError:
        with connect(lab.manifest.hypervisor.uri) as connection:
            shutdown(connection, lab.manifest.node(node).domain)
