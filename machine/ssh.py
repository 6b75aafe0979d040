"""Commands on nodes by OpenSSH, over one connection per node that is kept open.

The kept connection (ControlMaster) is opened inside the lab's network namespace; its control socket
lies in a short directory, since a socket's path may not exceed 107 characters (unix(7)), and works
from any namespace. It ends ten minutes after its last use, with the namespace, or by `close`.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from machine.errors import DeadlineError, ToolError
from machine.process import Completed, exclusive, in_netns, run, tail

CONNECT_SECONDS: Final = 20.0
"""Limit for connection and banner (ssh's ConnectTimeout); three emulated guests that boot at once take a while."""

SSH_FAILED: Final = 255
"""ssh's own status for "no connection" (ssh(1), EXIT STATUS)."""

_STAGES: Final = (
    ("host key", re.compile(r"host key verification failed|remote host identification has changed", re.I)),
    ("login", re.compile(r"permission denied|too many authentication failures", re.I)),
    (
        "connection",
        re.compile(
            r"timed out|refused|no route|unreachable|reset by|closed by|broken pipe|kex_exchange|banner|"
            r"mux_client|control socket|connection closed|lost connection",
            re.I,
        ),
    ),
)


def failed_stage(stderr: str) -> str | None:
    """Which stage of a connection ssh complains about: "host key", "login", "connection"; None when it does not."""
    return next((stage for stage, words in _STAGES if words.search(stderr)), None)


class ConnectionFailedError(ToolError):
    """ssh did not get as far as running the command; `stage` says how far it got."""

    def __init__(self, node: str, address: str, stage: str, said: str) -> None:
        super().__init__(
            f"No ssh to {node}: {stage} failed: {tail(said, 1) or 'no reason given'}",
            where=address,
            next=f"./lab status shows whether {node} runs; its console log may say why.",
        )
        self.stage = stage


@dataclass(frozen=True, slots=True)
class Shell:
    """A shell on one node. Nothing is connected before the first command.

    `control_dir` holds the control socket `NAME`; `netns` is the namespace that reaches `address`.

    >>> shell.run(["hostname"], seconds=5).stdout  # doctest: +SKIP
    'etcd1\\n'
    """

    name: str
    address: str
    key: Path
    known_hosts: Path
    control_dir: Path
    netns: str | None
    user: str = "root"

    @property
    def _socket(self) -> Path:
        return self.control_dir / self.name

    def _ssh(self, *options: str) -> list[str]:
        words = ["ssh", "-F", "/dev/null", "-i", str(self.key), "-o", f"ControlPath={self._socket}"]
        settings = (
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={self.known_hosts}",
            "GlobalKnownHostsFile=/dev/null",
            f"ConnectTimeout={CONNECT_SECONDS:.0f}",
            "ServerAliveInterval=2",  # so that the connection to a machine without power ends by itself
            "ServerAliveCountMax=3",
            "LogLevel=ERROR",
        )
        for setting in settings:
            words += ["-o", setting]
        return [*words, *options, f"{self.user}@{self.address}"]

    def connected(self) -> bool:
        """Whether the kept connection is open (its peer may have gone since)."""
        if not self._socket.exists():
            return False
        return run(self._ssh("-O", "check"), seconds=10, check=False).ok

    def connect(self, seconds: float = CONNECT_SECONDS) -> None:
        """Open the kept connection unless it is open.

        Raises ConnectionFailedError with the stage that failed, DeadlineError after `seconds`.
        """
        if self.connected():
            return
        with exclusive(self.control_dir / f".{self.name}.lock"):
            if self.connected():
                return
            self._socket.unlink(missing_ok=True)  # its owner is dead
            words = self._ssh("-M", "-N", "-f", "-o", "ControlPersist=10m")
            # Not by pipes: the connection stays in the background and would keep them open.
            with tempfile.TemporaryFile("w+") as said:
                try:
                    done = subprocess.run(
                        in_netns(self.netns, words),
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=said,
                        timeout=seconds,
                        check=False,
                    )
                except subprocess.TimeoutExpired as error:
                    raise DeadlineError(
                        f"Opening the ssh connection to {self.name}", seconds=seconds, where=self.address
                    ) from error
                said.seek(0)
                text = said.read()
            if done.returncode != 0:
                raise ConnectionFailedError(self.name, self.address, failed_stage(text) or "connection", text)

    def run(
        self, command: str | Sequence[str], *, seconds: float = 60.0, check: bool = True, stdin: str | None = None
    ) -> Completed:
        """Run `command` (a shell script, or words that are quoted) on the node, at most `seconds`.

        Raises ConnectionFailedError when it could not be started, DeadlineError when it takes too
        long, and ToolError when it ends with another status than 0 and `check` is set.
        """
        deadline = time.monotonic() + seconds
        self.connect(min(seconds, CONNECT_SECONDS))
        script = command if isinstance(command, str) else shlex.join(command)
        done = run(
            [*self._ssh("-T", "-o", "ControlMaster=no"), script],
            seconds=max(0.1, deadline - time.monotonic()),
            check=False,
            stdin=stdin,
            netns=self.netns,
        )
        stage = failed_stage(done.stderr) if done.status == SSH_FAILED else None
        if stage is not None:
            self.close()
            raise ConnectionFailedError(self.name, self.address, stage, done.stderr)
        if check and not done.ok:
            raise ToolError(
                f"A command on {self.name} ended with status {done.status}",
                where=script.strip().splitlines()[0][:120] if script.strip() else "",
                tail=tail(done.stderr or done.stdout),
            )
        return Completed((script,), done.status, done.stdout, done.stderr)

    def exec_argv(self, command: Sequence[str] = (), *, tty: bool = False) -> list[str]:
        """Words for os.execvp that run `command` on the node, or a login shell without one."""
        self.connect()
        words = self._ssh("-t" if tty else "-T", "-o", "ControlMaster=no")
        return in_netns(self.netns, [*words, shlex.join(command)] if command else words)

    def close(self) -> None:
        """End the kept connection; nothing when there is none."""
        if self._socket.exists():
            with contextlib.suppress(ToolError, DeadlineError):
                run(self._ssh("-O", "exit"), seconds=5, check=False)
            self._socket.unlink(missing_ok=True)
