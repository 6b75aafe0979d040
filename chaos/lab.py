"""The lab as faults and scenarios see it: machines, shells, the cluster, and clients that record."""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
from collections.abc import Iterator
from typing import Self

from chaos.faults.lease import Keeper
from chaos.inside import Inside
from chaos.measure.sampler import period_of
from chaos.measure.traffic import Pages
from chaos.shelf import Shelf
from chaos.workload.client import Client, Endpoint, Writer
from infra.access import shell_for
from infra.cluster import Cluster
from infra.manifest import Manifest
from machine import libvirt_api
from machine.errors import LabError, UsageError
from machine.holder import Holder
from machine.paths import StackPaths
from machine.process import Completed, exclusive
from machine.ssh import Shell
from machine.waiting import Pending, wait_until

ENDING_SECONDS = 15.0
"""How long a run whose ./lab was killed may take to end: an engine gets cli.foreground.GRACE_SECONDS of these."""

RENEW_EVERY = 15.0
"""Seconds between two renewals of the leases of faults; chaos.faults.base.RENEWED_LEASE is three of them and more."""


@contextlib.contextmanager
def alone(paths: StackPaths, what: str) -> Iterator[None]:
    """Be the only one that breaks this lab; raises UsageError, saying so, when another run does.

    `what` is what the caller wants to do. The kernel frees the lock when its holder dies. A holder whose ./lab was
    killed is about to be ended (machine.guard), and is waited for.
    """
    path = paths.faults / "run.lock"
    with contextlib.ExitStack() as held:

        def take() -> None:
            try:
                held.enter_context(exclusive(path, blocking=False))
            except BlockingIOError:
                holder = Holder.read(path)
                if holder is not None and not holder.alive:
                    raise Pending(f"what {holder.command} left is there") from None
                raise UsageError(
                    f"Another run plays on the lab {paths.stack!r} now, so this one may not {what}"
                    + (f": {holder}" if holder else ""),
                    where=str(path),
                    next=f"Wait for its end, or end it{f' with {holder.how_to_end}' if holder else ''};"
                    " ./lab heal mends what it leaves.",
                ) from None

        wait_until(
            take,
            f"A killed run on the lab {paths.stack!r} did not end",
            seconds=ENDING_SECONDS,
            every=0.05,
            where=str(path),
            next=f"fuser {path} names the processes that are left: end them, and run the command again.",
        )
        Holder.of_this_process().write(path)
        yield


class Lab:
    """One built lab, opened. Use as a context manager; closing ends clients, shells and lease renewals."""

    def __init__(self, manifest: Manifest, paths: StackPaths, shelf: Shelf | None = None) -> None:
        self.manifest = manifest
        self.paths = paths
        self.cluster = Cluster(manifest, paths)
        self.keeper = Keeper(RENEW_EVERY)
        self.inside = Inside(shelf)
        """Shells kept open in the guests, for probes."""
        self.kept = contextlib.ExitStack()
        """What others keep open as long as this lab is."""
        self.pages = Pages(self.cluster, period_of(manifest))
        """Readings of the members' metrics pages, within what sampling may cost."""
        self._shells: dict[str, Shell] = {}
        self._clients: dict[str, Client] = {}
        self._processes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what this process keeps open; faults stay as they are (renewed cuts run out)."""
        self.keeper.close()
        self.kept.close()
        self.inside.close()
        self.pages.close()
        for client in self._clients.values():
            client.close()
        self._clients.clear()
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

        Also open the shells kept open there for these `uses` (chaos.inside). Who needs a connection waits for it, and
        meets its error again.
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

    def forget(self, node: str) -> None:
        """Drop the connections kept open to a node whose machine ends, shell and client; the next use opens others."""
        if client := self._clients.pop(node, None):
            client.close()
        self.inside.forget(node)
        shell = self._shells.pop(node, None) or shell_for(self.manifest, self.paths, node)
        with contextlib.suppress(LabError):
            shell.close()

    def etcdctl(self, node: str, *words: str, seconds: float = 30.0) -> Completed:
        """Run etcdctl on a node with the node's own environment file, as users do; never raises for its status."""
        script = f"set -a; . /etc/etcd/etcdctl.env; exec etcdctl {shlex.join(words)}"
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

    # -- clients --------------------------------------------------------------------------------------------

    def client(self, node: str) -> Client:
        """The recording client with its one connection to `node`; started once, then kept."""
        if node not in self._clients:
            self._clients[node] = Client(self.next_process(), Endpoint.of(self.manifest, self.paths, node))
        return self._clients[node]

    @contextlib.contextmanager
    def writer(self, node: str, prefix: str = "availability/") -> Iterator[Writer]:
        """A client that writes to `node` all through the block."""
        endpoint = Endpoint.of(self.manifest, self.paths, node)
        with Writer(self.next_process(), endpoint, prefix=f"{prefix}{time.monotonic_ns()}/") as writer:
            yield writer

    def next_process(self) -> int:
        """A process number that no client of this run has had."""
        self._processes += 1
        return self._processes - 1
