"""The workers of a lab, parent's side: one process for each member, started once and kept from scenario to scenario."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from chaos.workload.client import Endpoint
from machine.errors import LabError
from machine.paths import CHECKOUT
from machine.process import in_netns, tail

Line = dict[str, Any]


class WorkerProcess:
    """One worker; raises LabError, with what it said last, when it is not there any more."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.node = endpoint.node
        files = [str(path) for path in endpoint.tls] if endpoint.tls else ["", "", ""]
        self._process = subprocess.Popen(
            in_netns(endpoint.netns, [sys.executable, "-m", "chaos.workload.worker", endpoint.address, *files]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
            start_new_session=True,  # Ctrl-C is for the parent; the pipe's end ends the worker
        )
        self._said: list[str] = []
        threading.Thread(target=self._drain, daemon=True).start()
        self._ready = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.poll() is None

    def order(self, order: Line) -> Line:
        """Give an order and wait for its answer."""
        try:
            if not self._ready:
                self._read()
                self._ready = True
            stdin = _stream(self._process.stdin)
            stdin.write(json.dumps(order) + "\n")
            stdin.flush()
            answer = self._read()
        except (BrokenPipeError, ValueError) as error:
            raise self._died() from error
        if problem := answer.get("problem"):
            raise LabError(f"The worker for {self.node} failed: {problem}", where="chaos.workload.worker")
        return answer

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(BrokenPipeError):
            _stream(self._process.stdin).close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _drain(self) -> None:
        for line in _stream(self._process.stderr):
            self._said = [*self._said[-20:], line]

    def _read(self) -> Line:
        text = _stream(self._process.stdout).readline()
        if not text:
            raise self._died()
        line: Line = json.loads(text)
        return line

    def _died(self) -> LabError:
        self.close()
        return LabError(
            f"The worker for {self.node} ended: {tail(''.join(self._said), 5) or 'it said nothing'}",
            where="chaos.workload.worker",
        )


class Pool:
    """All workers. One that died is started anew for the next scenario."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = {endpoint.node: endpoint for endpoint in endpoints}
        self.workers: dict[str, WorkerProcess] = {}

    @property
    def nodes(self) -> tuple[str, ...]:
        """Members that have a worker, in the lab's order; the first is worker 0."""
        return tuple(self._endpoints)

    def start(self) -> None:
        """Start those that do not run; they come up side by side."""
        for node, endpoint in self._endpoints.items():
            worker = self.workers.get(node)
            if worker is None or not worker.alive():
                self.workers[node] = WorkerProcess(endpoint)

    def each(self, orders: Mapping[str, Line]) -> dict[str, Line | LabError]:
        """Orders to several workers at once; the answer of each, or what went wrong with it."""

        def one(node: str) -> Line | LabError:
            try:
                return self.workers[node].order(orders[node])
            except LabError as error:
                return error

        with ThreadPoolExecutor(max(1, len(orders))) as pool:
            return dict(zip(orders, pool.map(one, orders), strict=True))

    def close(self) -> None:
        """End all."""
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # noqa: S101 - all three are pipes
    return stream
