"""The health gate between two restarts: quorum first, leadership moved out of the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from machine.errors import DeadlineError, LabError
from machine.log import Say
from machine.waiting import Pending, wait_until


class Health(Protocol):
    """One member's health (infra.cluster.MemberHealth)."""

    @property
    def node(self) -> str: ...  # noqa: D102
    @property
    def healthy(self) -> bool: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102


class ClusterView(Protocol):
    """What the gate needs of infra.cluster.Cluster."""

    def health(self) -> Sequence[Health]: ...  # noqa: D102
    def leader(self) -> str | None: ...  # noqa: D102
    def move_leader(self, to: str) -> None:
        """Return when it leads."""


class Gate:
    """Lets members be restarted one by one.

    After one failure it stays shut: nothing more is restarted in this run.
    """

    def __init__(self, cluster: ClusterView, order: Sequence[str], *, seconds: float, say: Say) -> None:
        self._cluster = cluster
        self._order = tuple(order)
        self._deadline = time.monotonic() + seconds
        self._say = say
        self._done: list[str] = []
        self.failures: dict[str, str] = {}

    def before(self, node: str) -> bool:
        """Wait until all others are healthy, then move leadership off `node`; False: do not restart."""
        return self._guarded(node, self._clear_way)

    def after(self, node: str) -> bool:
        """Wait until every member, `node` among them, is healthy again."""
        return self._guarded(node, self._settle)

    def _guarded(self, node: str, action: Callable[[str], None]) -> bool:
        if self.failures:
            first = next(iter(self.failures))
            self.failures.setdefault(node, f"Not restarted, because {first} did not come through its restart.")
            return False
        try:
            action(node)
        except LabError as error:
            self.failures[node] = str(error)
            return False
        return True

    def _clear_way(self, node: str) -> None:
        others = [name for name in self._order if name != node]
        if not others:
            return
        self.wait_healthy(others, f"The other members must be healthy before {node} restarts")
        if self._cluster.leader() != node:
            return
        heir = next((name for name in reversed(self._done) if name in others), others[0])
        self._say(f"  leadership moves from {node} to {heir}")
        self._cluster.move_leader(heir)

    def _settle(self, node: str) -> None:
        self.wait_healthy(self._order, f"All members must be healthy after {node} restarted")
        self._done.append(node)

    def wait_healthy(self, names: Sequence[str], what: str) -> None:
        """Wait until the members `names` are healthy; raises DeadlineError with what was seen last."""

        def healthy() -> None:
            seen = {member.node: member for member in self._cluster.health()}
            ill = [f"{name}: {seen[name].reason if name in seen else 'unknown'}" for name in names
                   if name not in seen or not seen[name].healthy]  # fmt: skip
            if ill:
                raise Pending("; ".join(ill))

        wait_until(healthy, what, seconds=self._left(), every=0.3, next="See ./lab logs NODE.")

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise DeadlineError("Deploying etcd", seconds=0, last="no time left")
        return left
