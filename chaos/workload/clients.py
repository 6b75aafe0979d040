"""The recording clients of one run: one for each member, kept open, and writers in the background."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from chaos.workload.client import Client, Endpoint, Writer
from infra.manifest import Manifest
from machine.paths import StackPaths


class Clients:
    """Recording clients of the members of one lab; `close` ends their processes."""

    def __init__(self, manifest: Manifest, paths: StackPaths) -> None:
        self._manifest = manifest
        self._paths = paths
        self._clients: dict[str, Client] = {}
        self._processes = 0

    def of(self, node: str) -> Client:
        """The client with its one connection to `node`; started once, then kept."""
        if node not in self._clients:
            self._clients[node] = self.new(node)
        return self._clients[node]

    def new(self, node: str) -> Client:
        """A further client of `node`, under a process number of its own; the caller closes it."""
        return Client(self._next_process(), Endpoint.of(self._manifest, self._paths, node))

    @contextlib.contextmanager
    def writer(self, node: str, prefix: str = "availability/") -> Iterator[Writer]:
        """A client that writes to `node` all through the block."""
        endpoint = Endpoint.of(self._manifest, self._paths, node)
        with Writer(self._next_process(), endpoint, prefix=f"{prefix}{time.monotonic_ns()}/") as writer:
            yield writer

    def forget(self, node: str) -> None:
        """Drop the connection kept open to a node whose machine ends; the next use opens another."""
        if client := self._clients.pop(node, None):
            client.close()

    def close(self) -> None:
        """End every client that is kept."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _next_process(self) -> int:
        self._processes += 1
        return self._processes - 1
