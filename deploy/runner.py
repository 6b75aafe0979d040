"""Starting the pyinfra child and reading its answer."""

from __future__ import annotations

import subprocess
import sys
from threading import Thread
from typing import IO

from pydantic import ValidationError

from deploy.protocol import Request, Response
from machine.errors import DeadlineError, ToolError
from machine.log import Say, say
from machine.paths import CHECKOUT
from machine.process import ends_with_us, in_netns, tail
from machine.surroundings import for_the_lab

GRACE_SECONDS = 30.0
"""How much longer than its own limit the child may live."""


def run_child(request: Request, *, tell: Say = say) -> Response:
    """Have the child carry out `request`; `tell` gets its progress lines.

    Raises ToolError when there is no answer, DeadlineError when it does not end. What went wrong
    on the nodes does not raise: see Response.ok, and `raise_for`.
    """
    argv = in_netns(request.manifest.hypervisor.netns, [sys.executable, "-m", "deploy.child"])
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
        env=for_the_lab(),
    )
    ends_with_us(process.pid)
    stderr, process.stderr = process.stderr, None  # communicate() must leave it to the reader
    assert stderr is not None  # noqa: S101 - it is a pipe
    lines: list[str] = []
    reader = Thread(target=_relay, args=(stderr, lines, tell), daemon=True)
    reader.start()
    try:
        output, _ = process.communicate(request.model_dump_json(), timeout=request.seconds + GRACE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DeadlineError("The deployment", seconds=request.seconds, last=tail("\n".join(lines), 3)) from error
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(timeout=5)
        stderr.close()
    try:
        return Response.model_validate_json(output)
    except ValidationError as error:
        raise ToolError(
            f"The deployment ended with status {process.returncode} and no answer", tail=tail("\n".join(lines))
        ) from error


def raise_for(response: Response) -> None:
    """Raise ToolError, in one paragraph and the failed node's own words, when something went wrong."""
    if response.ok:
        return
    failed = {name: host for name, host in response.hosts.items() if not host.ok}
    if failed:
        what = "; ".join(f"{name} failed at {host.failed!r}" for name, host in failed.items())
        said = "\n".join(f"{name}: {line}" for name, host in failed.items() for line in host.stderr.splitlines())
    else:
        what = response.error.rstrip(".")
        said = ""
    raise ToolError(f"Deploying etcd: {what}", next="See ./lab logs NODE; ./lab up tries again.", tail=said)


def _relay(stream: IO[str], lines: list[str], tell: Say) -> None:
    for line in stream:
        text = line.rstrip("\n")
        lines.append(text)
        tell(text)
