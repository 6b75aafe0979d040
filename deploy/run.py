"""One pyinfra run over the nodes of a lab, inside the child process: look, then change what differs."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gevent
from pyinfra import logger
from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.facts import get_facts
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.operations import run_ops
from pyinfra.api.state import BaseStateCallback, State, StateStage

from deploy.etcd import Look, Work, declare
from deploy.gate import ClusterView, Gate
from deploy.protocol import HostResult, Request, Response
from deploy.steps import Observed, Steps, steps_for
from machine.errors import LabError, ToolError
from machine.log import say
from machine.process import tail

CONNECT_SECONDS = 30
LOOK_SECONDS = 8
"""Limits to reach a node; the second where nothing depends on it, as in a refresh with machines off."""
_KEEPALIVE = {
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 4,
    socket.TCP_USER_TIMEOUT: 30_000,  # ms, for what was sent and is not acknowledged
}
"""A machine is taken for gone when its kernel says nothing for 30 s; a busy one does not stay silent as long."""
STDERR_LINES = 20


class Notes(BaseStateCallback):
    """Takes down which operation failed where, and how long each host was busy."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.failed: dict[str, str] = {}
        self.connect_errors: dict[str, str] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._started: dict[str, float] = {}

    def host_connect_error(self, state: State, host: Host, error: Exception) -> None:  # type: ignore[override] # noqa: ARG002
        """A host could not be reached or logged in to."""
        self.failed[host.name] = "connect"
        self.connect_errors[host.name] = str(error)

    def operation_host_start(self, state: State, host: Host, op_hash: str) -> None:  # type: ignore[override] # noqa: ARG002
        """An operation begins on a host."""
        self._started[host.name] = time.monotonic()

    def operation_host_success(self, state: State, host: Host, op_hash: str, retry_count: int = 0) -> None:  # type: ignore[override] # noqa: ARG002
        """It went well."""
        self.seconds[host.name] += time.monotonic() - self._started[host.name]

    def operation_host_error(  # type: ignore[override]
        self,
        state: State,
        host: Host,
        op_hash: str,
        retry_count: int = 0,  # noqa: ARG002
        max_retries: int = 0,  # noqa: ARG002
    ) -> None:
        """It failed."""
        self.seconds[host.name] += time.monotonic() - self._started[host.name]
        self.failed.setdefault(host.name, ", ".join(sorted(state.get_op_meta(op_hash).names)))

    def operation_end(self, state: State, op_hash: str) -> None:  # type: ignore[override]
        """An operation is through on all hosts; those that changed nothing are not worth a word."""
        metas = [ops[op_hash].operation_meta for ops in state.ops.values() if op_hash in ops]
        if any(meta.is_complete() and meta.executed for meta in metas):
            self._say(", ".join(sorted(state.get_op_meta(op_hash).names)))


class _Tail(logging.Handler):
    """Keeps the last lines that pyinfra logged, for a failure that says nothing itself."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[str] = deque(maxlen=STDERR_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Run:
    """One run; `inventory` and `cluster` are parameters so that a test can put fakes in their place."""

    def __init__(self, request: Request, inventory: Inventory, cluster: ClusterView) -> None:
        self.request = request
        self.cluster = cluster
        self._started = time.monotonic()
        self.notes = Notes(self._say)
        self.log = _Tail()
        self.gate = Gate(cluster, request.manifest.node_names, seconds=request.seconds, say=say)
        self.seen: dict[str, Observed] = {}
        self.sha256 = {name: binary.sha256 for name, binary in request.binaries.items()}
        # Who only looks wants to hear of the other nodes too.
        percent, patience = (0, CONNECT_SECONDS) if request.mode == "apply" else (None, LOOK_SECONDS)
        config = Config(FAIL_PERCENT=percent, CONNECT_TIMEOUT=patience)  # type: ignore[no-untyped-call]
        # Operations get what was seen as an argument; asking pyinfra to foresee changes would run them twice.
        self.state = State(inventory, config, check_for_changes=False)
        self.state.add_callback_handler(self.notes)  # type: ignore[no-untyped-call]

    def __call__(self) -> Response:
        """Do it, and tell how it went; does not raise for what went wrong on hosts."""
        error = ""
        logging.getLogger("paramiko").addHandler(logging.NullHandler())  # it tells pyinfra, and that is enough
        logger.addHandler(self.log)
        logger.setLevel(logging.INFO)
        try:
            with gevent.Timeout(self.request.seconds, TimeoutError("out of time")):
                self._go()
        except (PyinfraError, LabError, TimeoutError) as caught:
            error = str(caught)
        finally:
            logger.removeHandler(self.log)
        return self._response(error)

    def _go(self) -> None:
        self.state.set_stage(StateStage.Connect)
        connect_all(self.state)
        try:
            for host in self.state.inventory:
                end_when_silent(host)
            self.state.set_stage(StateStage.Prepare)
            self._say("connected")
            self.seen = self._look()
            if self.request.mode == "apply":
                self._apply()
        finally:
            with contextlib.suppress(PyinfraError, OSError):
                disconnect_all(self.state)

    def _apply(self) -> None:
        plans = self.request.plans
        steps = {name: steps_for(plan, self.seen[name], self.sha256) for name, plan in plans.items()}
        if all(step == Steps() for step in steps.values()):
            self._say("nothing to do")
            self._await_health()
            return
        with self._server(steps) as url:
            work = Work(steps, self.request.binaries, url, self.gate, self._ranks(steps))
            declare(self.state, work)
            self.state.set_stage(StateStage.Execute)
            run_ops(self.state)
        if self.state.failed_hosts:  # FAIL_PERCENT=0 has raised already; this must not depend on it
            names = ", ".join(sorted(host.name for host in self.state.failed_hosts))
            raise ToolError(f"Deploying failed on {names}")
        self._await_health()
        self.seen = self._look()

    def _await_health(self) -> None:
        self.gate.wait_healthy(self.request.manifest.node_names, "All members should be healthy")
        self._say("all members healthy")

    def _look(self) -> dict[str, Observed]:
        paths = sorted({file.path for plan in self.request.plans.values() for file in plan.files})
        # who changes the nodes has them alone; who only looks disturbs nobody
        alone = self.request.mode == "apply"
        wanted = {"files": paths, "programs": list(self.request.binaries), "alone": alone}
        found: Mapping[Host, Observed] = get_facts(self.state, Look, kwargs=wanted)  # type: ignore[no-untyped-call]
        return {host.name: there for host, there in found.items()}

    def _ranks(self, steps: Mapping[str, Steps]) -> tuple[str, ...]:
        """Order of restarts: the leader last, so that leadership moves once."""
        names = list(self.request.manifest.node_names)
        if any(step.roll for step in steps.values()):
            leader = self.cluster.leader()
            names.sort(key=lambda name: name == leader)
        return tuple(names)

    @contextlib.contextmanager
    def _server(self, steps: Mapping[str, Steps]) -> Iterator[str | None]:
        """The file server, while there are binaries to fetch and the network is the lab's own."""
        manifest = self.request.manifest
        if manifest.hypervisor.kind != "embedded" or not any(step.binaries for step in steps.values()):
            yield None
            return
        named = [f"{name}={binary.path}" for name, binary in self.request.binaries.items()]
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.serve", str(manifest.gateway), *named],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise ToolError("The file server for the nodes did not start", where=str(manifest.gateway))
            yield f"http://{manifest.gateway}:{port}"
        finally:
            process.stdin.close()
            process.wait()
            process.stdout.close()

    def _response(self, error: str) -> Response:
        hosts = {name: self._host(name, error) for name in self.request.plans}
        observed = {
            name: self.seen[name].state(plan, self.sha256)
            for name, plan in self.request.plans.items()
            if name in self.seen
        }
        return Response(
            ok=not error and all(host.ok for host in hosts.values()),
            hosts=hosts,
            observed=observed,
            seconds=round(time.monotonic() - self._started, 3),
            error=error,
        )

    def _host(self, name: str, error: str) -> HostResult:
        host = self.state.inventory.get_host(name)
        changed, said = [], ""
        for op_hash, data in self.state.ops[host].items():
            meta: Any = data.operation_meta
            if not meta.is_complete():
                continue
            if meta.did_change():
                changed.append(", ".join(sorted(self.state.get_op_meta(op_hash).names)))
            elif meta.did_error():
                said = tail(meta.stderr or meta.stdout, STDERR_LINES)
        failed = self.notes.failed.get(name)
        if failed is None and host in self.state.failed_hosts:
            failed = "look at the node"
        said = self.gate.failures.get(name) or said or self.notes.connect_errors.get(name, "")
        return HostResult(
            ok=failed is None,
            changed=tuple(changed),
            failed=failed,
            stderr=said or ("\n".join(self.log.lines) if failed or (error and not self.notes.failed) else ""),
            seconds=round(self.notes.seconds[name], 3),
        )

    def _say(self, what: str) -> None:
        say(f"  etcd: {what}, {time.monotonic() - self._started:.1f} s")


def end_when_silent(host: Host) -> None:
    """Let the kernel end the connection when the machine answers no more, as one that lost its power.

    A command would wait for it until the whole run is out of time. See tcp(7) for the options.
    """
    client = getattr(host.connector, "client", None)  # paramiko's; pyinfra's fake connector has none
    transport = client.get_transport() if client is not None else None
    if transport is not None:
        transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            transport.sock.setsockopt(socket.IPPROTO_TCP, option, value)


def ssh_inventory(request: Request) -> Inventory:
    """The nodes, over pyinfra's own ssh: our key, our known_hosts, strict checking, nobody's ssh config."""
    paths = request.paths
    shared = {
        "ssh_user": "root",
        "ssh_key": str(paths.ssh_key),
        "ssh_known_hosts_file": str(paths.known_hosts),
        "ssh_strict_host_key_checking": "yes",
        "ssh_config_file": "/dev/null",
        "ssh_allow_agent": False,
        "ssh_look_for_keys": False,
        "ssh_connect_retries": 2 if request.mode == "apply" else 0,
    }
    hosts = [(node.name, {"ssh_hostname": str(node.address)}) for node in request.manifest.nodes]
    return Inventory((hosts, shared))  # type: ignore[no-untyped-call]
