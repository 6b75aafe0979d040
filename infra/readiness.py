"""Readiness: a machine counts as built once we have logged in to it and its first boot is over.

A resource of its own, since a domain whose start failed would never be waited for again. Stages:
the domain runs, sshd answers, our key logs in (host key checked), the first boot has finished. All
nodes at the same time, one deadline; a failure names node and stage and shows the console's end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from infra.dynamic import Props, Provider, mapping, text
from infra.first_boot import BOOTED
from infra.layout import SSH_PORT
from machine import libvirt_api, netns
from machine.errors import DeadlineError, LabError, ToolError
from machine.log import say
from machine.process import tail
from machine.ssh import Shell
from machine.waiting import Pending, wait_until

_CONSOLE_LINES: Final = 25
_PROBE_SECONDS: Final = 10.0
"""An emulated machine on a busy host takes seconds to start the sshd that greets; asking again starts over."""
_LOGIN_SECONDS: Final = 30.0


def deadline_seconds(nodes: int, accelerator: str) -> float:
    """Limit for all nodes to be ready. Under TCG three take 40 to 55 s on two cores and share them, so by number."""
    return 120.0 if accelerator == "kvm" else 180.0 + 60.0 * nodes


class Gate:
    """Waits for one node, stage by stage."""

    def __init__(self, *, uri: str, domain: str, shell: Shell, console: Path, seconds: float) -> None:
        self.shell = shell
        self._uri = uri
        self._domain = domain
        self._console = console
        self._seconds = seconds

    def wait(self) -> float:
        """Seconds until the node was ready; raises ToolError naming the stage, with the console's end."""
        started = time.monotonic()
        stages: tuple[tuple[str, Callable[[], None]], ...] = (
            ("the domain runs", self._runs),
            ("sshd answers", self._answers),
            ("login and end of the first boot", self._booted),
        )
        for stage, probe in stages:
            left = self._seconds - (time.monotonic() - started)
            try:
                wait_until(probe, stage, seconds=max(left, 1.0), every=0.5)
            except LabError as error:
                last = error.last if isinstance(error, DeadlineError) else str(error)
                raise ToolError(
                    f"{self.shell.name} is not ready: stage '{stage}' failed after "
                    f"{time.monotonic() - started:.0f} s; last seen: {last or 'nothing'}",
                    where=f"console log {self._console}",
                    next="pulumi up tries again.",
                    tail=console_tail(self._console),
                ) from error
        took = time.monotonic() - started
        say(f"  {self.shell.name}: ready after {took:.0f} s")
        return took

    def _runs(self) -> None:
        with libvirt_api.connect(self._uri) as connection:
            state = libvirt_api.domain_state(connection, self._domain)
            if state in ("shutoff", "crashed"):  # it was started when it was made; `up` must not hang on it
                libvirt_api.power_on(connection, self._domain)
            if state != "running":
                raise Pending(f"domain {self._domain} is {state}")

    def _answers(self) -> None:
        try:
            with netns.connect(self.shell.netns, self.shell.address, SSH_PORT, _PROBE_SECONDS) as connection:
                banner = connection.recv(64)
        except OSError as error:
            raise Pending(str(error) or "timed out") from error
        if not banner.startswith(b"SSH-"):  # RFC 4253, section 4.2
            raise Pending(f"no ssh banner but {banner!r}")

    def _booted(self) -> None:
        try:
            done = self.shell.run(["test", "-e", BOOTED], seconds=_LOGIN_SECONDS, check=False)
        except LabError as error:  # wrong host key included: a cloud-init image changes it during its first boot
            raise Pending(str(error)) from error
        if not done.ok:
            raise Pending(done.stderr.strip() or "logged in; the first boot goes on")


def console_tail(console: Path) -> str:
    """The end of a console log, or why there is none."""
    try:
        return tail(console.read_text(errors="replace"), _CONSOLE_LINES)
    except OSError as error:
        return f"(no console log: {error.strerror})"


class _ReadyProvider(Provider):
    inputs = ("instances",)

    def create(self, props: Props) -> CreateResult:
        return CreateResult("ready", _wait(props))

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        return UpdateResult(_wait(_news))


def _wait(props: Props) -> dict[str, object]:
    files = Path(text(props, "dir"))
    namespace = text(props, "netns") or None
    domains, addresses = mapping(props, "domains"), mapping(props, "addresses")
    seconds = float(text(props, "seconds"))
    gates = [
        Gate(
            uri=text(props, "uri"),
            domain=domains[node],
            shell=Shell(
                name=node,
                address=addresses[node],
                key=files / text(props, "key"),
                known_hosts=files / text(props, "known_hosts"),
                control_dir=Path(text(props, "control_dir")),
                netns=namespace,
            ),
            console=Path(text(props, "consoles")) / f"{node}.log",
            seconds=seconds,
        )
        for node in domains
    ]
    with ThreadPoolExecutor(max_workers=len(gates)) as pool:
        waits = [pool.submit(gate.wait) for gate in gates]
    failures = [str(error) for wait in waits if isinstance(error := wait.exception(), LabError)]
    if failures:
        raise ToolError(f"{len(failures)} of {len(gates)} nodes are not ready", tail="\n\n".join(failures))
    took = {gate.shell.name: round(wait.result(), 1) for gate, wait in zip(gates, waits, strict=True)}
    return {"instances": props["instances"], "seconds_taken": took}


class Readiness(Resource, module="lab", name="Readiness"):
    """Is made when all nodes are ready, and again when one of them is another machine than before."""

    instances: pulumi.Output[Mapping[str, str]]
    """Node -> libvirt's id of the machine that was found ready."""
    seconds_taken: pulumi.Output[Mapping[str, float]]

    def __init__(
        self, name: str, *, props: Mapping[str, pulumi.Input[object]], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(_ReadyProvider(), name, {**props, "seconds_taken": None}, opts)
