"""The workers of a lab, parent's side: one process for each member, started once and kept from scenario to scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from chaos.workload.client import Endpoint
from machine.child import Child, Line
from machine.errors import LabError

MODULE = "chaos.workload.worker"


class WorkerProcess(Child):
    """One worker."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.node = endpoint.node
        super().__init__(MODULE, *endpoint.words(), title=f"The worker for {endpoint.node}", netns=endpoint.netns)
        self._ready = False

    def order(self, order: Line) -> Line:
        """Give an order and wait for its answer. Raises LabError when it failed, or the worker is gone."""
        if not self._ready:
            self.read()
            self._ready = True
        self.say(order)
        answer = self.read()
        if problem := answer.get("problem"):
            raise LabError(f"The worker for {self.node} failed: {problem}", where=MODULE)
        return answer


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
