"""The recording client, parent's side: one child process, one connection, one member; it never retries."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from chaos.workload.outcome import Op, parse_op
from infra.manifest import CLIENT_PORT, Manifest
from machine.child import Child
from machine.errors import LabError
from machine.paths import StackPaths

DEADLINE = 5.0
"""Seconds an operation may take: etcdctl's own command timeout (E etcdctl/ctlv3/ctl.go)."""

WRITER_PERIOD = 0.15
"""Seconds from one put of the background writer to the next: a tenth of the shortest election."""

WRITER_DEADLINE = 1.0
"""Seconds a put of the background writer may take; the resolution with which a dead leader is noticed."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a client connects, and from where."""

    node: str
    address: str
    """`ADDRESS:PORT`."""
    tls: tuple[Path, Path, Path] | None = None
    """Files: CA, certificate, key; None: in the clear (an etcd on loopback)."""
    netns: str | None = None

    @classmethod
    def of(cls, manifest: Manifest, paths: StackPaths, node: str) -> Self:
        """Client endpoint of a node of a lab."""
        files = (paths.ca_cert, paths.client_cert, paths.client_key)
        return cls(node, f"{manifest.node(node).address}:{CLIENT_PORT}", files, manifest.hypervisor.netns)

    def words(self) -> list[str]:
        """Arguments of the processes that connect to it: address, and the files' names or as many empty words."""
        return [self.address, *(map(str, self.tls) if self.tls else ("", "", ""))]


def _started(endpoint: Endpoint) -> Child:
    """The client's process, ready to be told what to do."""
    child = Child("chaos.workload.client_child", *endpoint.words(), title="The recording client", netns=endpoint.netns)
    child.read()  # "ready"
    return child


class Client:
    """Operations one after the other on one connection to one member.

    After an operation of unknown outcome it goes on under a new process number, as histories want.
    """

    def __init__(self, process: int, endpoint: Endpoint) -> None:
        self.node = endpoint.node
        self.history: list[Op] = []
        self._process = process
        self._child = _started(endpoint)

    def put(self, key: str, value: str, *, deadline: float = DEADLINE) -> Op:
        """Write a key."""
        return self._run({"op": "put", "key": key, "value": value, "deadline": deadline})

    def get(self, key: str, *, deadline: float = DEADLINE, serializable: bool = False) -> Op:
        """Read a key; `value` is None when it is absent. Serializable reads ask this member alone."""
        return self._run({"op": "get", "key": key, "deadline": deadline, "serializable": serializable})

    def range(self, prefix: str, *, deadline: float = DEADLINE) -> Op:
        """Read every key that begins with `prefix`, in `values`."""
        return self._run({"op": "range", "key": prefix, "deadline": deadline})

    def delete(self, key: str, *, deadline: float = DEADLINE) -> Op:
        """Delete a key."""
        return self._run({"op": "delete", "key": key, "deadline": deadline})

    def cas(self, key: str, expect: str | None, value: str, *, deadline: float = DEADLINE) -> Op:
        """Write a key when it holds `expect` (None: is absent)."""
        return self._run({"op": "cas", "key": key, "expect": expect, "value": value, "deadline": deadline})

    def _run(self, request: dict[str, object]) -> Op:
        self._child.say(request)
        op = parse_op(self._process, self.node, self._child.read())
        self.history.append(op)
        if op.outcome == "unknown":
            self._process += 1000
        return op

    def close(self) -> None:
        """End the process."""
        self._child.close()


class Writer:
    """A client that puts all the time, in the background, and keeps every operation.

    Use as a context manager, or `stop()` it; `ops` may be read at any time.
    """

    def __init__(
        self,
        process: int,
        endpoint: Endpoint,
        *,
        prefix: str,
        period: float = WRITER_PERIOD,
        deadline: float = WRITER_DEADLINE,
    ) -> None:
        self.node = endpoint.node
        self.prefix = prefix
        self.period = period
        self.deadline = deadline
        self.problem: LabError | None = None
        self._process = process
        self._child = _started(endpoint)
        self._ops: list[Op] = []
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._child.say({"op": "loop", "prefix": prefix, "period": period, "deadline": deadline})
        self._thread.start()

    def _collect(self) -> None:
        try:
            while "done" not in (line := self._child.read()):
                op = parse_op(self._process, self.node, line)
                self._process += 1000 if op.outcome == "unknown" else 0
                self._ops.append(op)
        except LabError as error:
            self.problem = error

    @property
    def ops(self) -> list[Op]:
        """Every operation so far."""
        return list(self._ops)

    @property
    def acknowledged(self) -> dict[str, Op]:
        """Every put that the cluster acknowledged, by key."""
        return {op.key: op for op in self.ops if op.ok}

    def stop(self) -> list[Op]:
        """Let the operation under way end, then the process; gives every operation. Raises LabError if it had died."""
        if self._thread.is_alive():
            self._child.say({"op": "stop"})
            self._thread.join(self.deadline + 10)
        self._child.close()
        if self.problem is not None:
            raise self.problem
        return self.ops

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self.stop()
        except LabError:
            if kind is None:
                raise
