"""A built lab, opened: its machines, shells on them, and the cluster."""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Callable
from typing import Self

from chaos.lab.guest_shells import GuestShells
from chaos.lab.shell_pool import ShellPool
from infra.access import shell_for
from infra.cluster import Cluster
from infra.layout import ENV_FILE
from infra.manifest import Manifest
from machine import libvirt_api
from machine.errors import LabError
from machine.paths import StackPaths
from machine.process import Completed
from machine.ssh import Shell


class Lab:
    """One built lab, opened. Use as a context manager; closing ends the shells."""

    def __init__(self, manifest: Manifest, paths: StackPaths, shelf: ShellPool | None = None) -> None:
        self.manifest = manifest
        self.paths = paths
        self.cluster = Cluster(manifest, paths)
        self.inside = GuestShells(shelf)
        """Shells kept open in the guests, for probes."""
        self.kept = contextlib.ExitStack()
        """What others keep open as long as this lab is."""
        self._shells: dict[str, Shell] = {}
        self._forgetting: list[Callable[[str], None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what this process keeps open; faults stay as they are (renewed cuts run out)."""
        self.kept.close()
        self.inside.close()
        self._shells.clear()

    # -- machines -------------------------------------------------------------------------------------------

    def libvirt(self) -> contextlib.AbstractContextManager[libvirt_api.Connection]:
        """A connection to the lab's hypervisor."""
        return libvirt_api.connect(self.manifest.hypervisor.uri)

    def domain_states(self) -> dict[str, str]:
        """State of every node's domain as libvirt names it (`running`, `shutoff`, `paused`, …)."""
        with self.libvirt() as connection:
            return {node.name: libvirt_api.domain_state(connection, node.domain) for node in self.manifest.nodes}

    def running(self) -> list[str]:
        """Nodes whose domain runs."""
        return [name for name, state in self.domain_states().items() if state == "running"]

    def shell(self, node: str) -> Shell:
        """Commands on a node, over a connection that is kept open."""
        if node not in self._shells:
            self._shells[node] = shell_for(self.manifest, self.paths, node)
        return self._shells[node]

    def connect_early(self, *uses: str) -> None:
        """Begin to connect to the machines that run, and return at once: connecting takes a second under TCG.

        Also open the shells kept open there for these `uses` (chaos.lab.guest_shells). Who needs a connection waits for
        it, and meets its error again.
        """

        def connect(shell: Shell, use: str) -> None:
            with contextlib.suppress(LabError):
                if use:
                    self.inside.session(shell, use)
                else:
                    shell.open()

        for node in self.running():
            for use in uses or ("",):
                threading.Thread(target=connect, args=(self.shell(node), use), daemon=True).start()

    def on_forget(self, drop: Callable[[str], None]) -> None:
        """Have `drop` called with the name of a node whose machine ends, for connections that others keep to it."""
        self._forgetting.append(drop)

    def forget(self, node: str) -> None:
        """Drop the connections kept open to a node whose machine ends; the next use opens others."""
        for drop in self._forgetting:
            drop(node)
        self.inside.forget(node)
        shell = self._shells.pop(node, None) or shell_for(self.manifest, self.paths, node)
        with contextlib.suppress(LabError):
            shell.close()

    def etcdctl(self, node: str, *words: str, seconds: float = 30.0) -> Completed:
        """Run etcdctl on a node with the node's own environment file, as users do; never raises for its status."""
        script = f"set -a; . {ENV_FILE}; exec etcdctl {shlex.join(words)}"
        return self.shell(node).run(script, seconds=seconds, check=False)

    # -- the cluster ----------------------------------------------------------------------------------------

    def leader(self) -> str | None:
        """Name of the node that leads now."""
        return self.cluster.leader()

    def lead_from(self, node: str) -> None:
        """Put the leader on `node`; nothing when it leads already."""
        if self.leader() != node:
            self.cluster.move_leader(node)

    def terms(self) -> dict[str, int]:
        """Raft term of every member that answers."""
        return {status.node: status.raft_term for status in self.cluster.status() if status.ok}
