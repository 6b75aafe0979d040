"""Commands on a node by OpenSSH, over one kept-open connection per node.

Connecting costs a second and more under TCG, a command over an open connection 0.1 s; so a master
(ssh_config(5), ControlMaster) is started once, inside the lab's namespace, and every command goes
through its control socket, which works from any namespace and any process. A master whose node lost
its power notices within 6 s (ServerAlive); then commands fail with SshError, and the next one
connects anew.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from machine.errors import DeadlineError, ToolError
from machine.process import Completed, exclusive, in_netns, run, tail
from machine.tether import tethered

Stage = Literal["connect", "host key", "login", "session"]

CONNECT_SECONDS: Final = 20
"""Limit for connecting: key exchange and login take seconds when several machines boot under TCG."""

PERSIST_SECONDS: Final = 900
"""A connection that nobody used for so long closes itself."""

_ARGUMENT_LIMIT: Final = 65536
"""A longer script goes by standard input: the kernel takes at most 128 KiB in one argument (execve(2))."""

_OWN_255: Final = "etcd-lab: the command's own status is 255"
"""Said by the remote shell, since ssh ends with 255 for its own failures too (ssh(1), EXIT STATUS)."""

_OPTIONS: Final = {
    "BatchMode": "yes",
    "ControlPersist": str(PERSIST_SECONDS),
    "GlobalKnownHostsFile": "/dev/null",
    "HostKeyAlgorithms": "ssh-ed25519",
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "LogLevel": "ERROR",
    "PreferredAuthentications": "publickey",
    "ServerAliveCountMax": "3",
    "ServerAliveInterval": "2",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
}

_SIGNS: Final[tuple[tuple[str, Stage], ...]] = (
    ("Host key verification failed", "host key"),
    ("host key is known", "host key"),
    ("HOST IDENTIFICATION HAS CHANGED", "host key"),
    ("no matching host key", "host key"),
    ("Permission denied", "login"),
    ("Too many authentication failures", "login"),
)

_REMEDY: Final[dict[Stage, str]] = {
    "connect": "See whether the node runs (./lab status), and its console under .lab.",
    "host key": "The machine that answers is not the one this lab made; ./lab up puts that right.",
    "login": "The node does not know the lab's key: its first boot is not finished, or it is another lab's.",
    "session": "See whether the node lost its power or its network meanwhile.",
}


class SshError(ToolError):
    """A node was not reached, or was lost on the way; `stage` says how far it came."""

    def __init__(self, node: str, stage: Stage, said: str) -> None:
        words = {"connect": "Cannot connect to", "host key": "Wrong host key of", "login": "Cannot log in to"}
        super().__init__(f"{words.get(stage, 'Lost the connection to')} {node}", where="ssh", next=_REMEDY[stage])
        self.stage: Stage = stage
        self.tail = tail(said, 3)


@dataclass(frozen=True, slots=True)
class Shell:
    """A node as ssh reaches it; nothing is connected before the first command.

    `control_dir` holds the control sockets and must be short: a socket's path may not exceed 107
    characters. `netns` is the namespace to connect from (None: the host's own).
    """

    name: str
    address: str
    key: Path
    known_hosts: Path
    control_dir: Path
    netns: str | None
    user: str = "root"

    def run(
        self, argv_or_script: str | Sequence[str], seconds: float, check: bool = True, stdin: str | None = None
    ) -> Completed:
        """Run a POSIX shell script (str) or a program with arguments on the node, at most `seconds` in all.

        Raises SshError when the node is not reached or lost, ToolError when the command ends with
        another status than 0 and `check` is set, DeadlineError after `seconds`.
        """
        deadline = time.monotonic() + seconds
        self.open(min(seconds, CONNECT_SECONDS))
        script = argv_or_script if isinstance(argv_or_script, str) else shlex.join(argv_or_script)
        if stdin is None and len(script) > _ARGUMENT_LIMIT:
            command, stdin = "sh -s", script
        else:
            command = f"sh -c {shlex.quote(script)}"
        command = f"{command}; s=$?; [ $s != 255 ] || echo {shlex.quote(_OWN_255)} >&2; exit $s"
        left = max(0.5, deadline - time.monotonic())
        try:
            done = run([*self._through(), command], seconds=left, check=False, stdin=stdin)
        except DeadlineError as error:
            raise DeadlineError(f"{script[:80]} on {self.name}", seconds=seconds, last=error.last) from error
        stderr = done.stderr
        if done.status == 255:
            own = stderr.rstrip().endswith(_OWN_255)
            if not own:
                raise SshError(self.name, "session", stderr)
            stderr = stderr.rstrip().removesuffix(_OWN_255)
        words = (script,) if isinstance(argv_or_script, str) else tuple(argv_or_script)
        result = Completed(words, done.status, done.stdout, stderr)
        if check and not result.ok:
            raise ToolError(
                f"A command on {self.name} ended with status {result.status}",
                where=script.strip().splitlines()[0][:200] if script.strip() else "",
                tail=tail(result.stderr or result.stdout),
            )
        return result

    def exec_argv(self, command: Sequence[str], tty: bool, ends_with_us: bool = False) -> list[str]:
        """Words for os.execvp: `command` on the node, or a login shell when it is empty; connects first.

        With `ends_with_us`, the command is ended on the node when this ssh is gone (machine.tether).
        """
        self.open()
        remote = [shlex.join(command)] if command else []
        if ends_with_us and remote:
            remote = [tethered(remote[0])]
        options, target = self._through()[:-1], self._through()[-1]
        return [*options, "-t" if tty else "-T", target, *remote]

    def open(self, seconds: float = CONNECT_SECONDS) -> None:
        """Connect, unless connected; raises SshError naming the stage that failed."""
        if self._alive():
            return
        self.control_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with exclusive(self.control_dir / f"{self.name}.lock"):
            if self._alive():  # by another process meanwhile
                return
            self._socket.unlink(missing_ok=True)
            self._connect(seconds)

    def close(self) -> None:
        """End the kept-open connection, if any."""
        if self._socket.exists():
            with contextlib.suppress(DeadlineError):
                run([*self._through()[:-1], "-O", "exit", self._through()[-1]], seconds=5, check=False)
            self._socket.unlink(missing_ok=True)

    @property
    def _socket(self) -> Path:
        return self.control_dir / self.name

    @property
    def _target(self) -> str:
        return f"{self.user}@{self.address}"

    def _words(self) -> list[str]:
        """ssh with our options alone: nothing of the user's own configuration."""
        files = {"ControlPath": self._socket, "IdentityFile": self.key, "UserKnownHostsFile": self.known_hosts}
        quoted = {name: '"' + str(path).replace("%", "%%") + '"' for name, path in files.items()}
        options = [f"-o{name}={value}" for name, value in {**_OPTIONS, **quoted}.items()]
        return ["ssh", "-F/dev/null", *options]

    def _through(self) -> list[str]:
        """ssh through the open connection only: should it be gone, never a direct one from here."""
        return [*self._words(), "-oControlMaster=no", "-oProxyCommand=false", self._target]

    def _alive(self) -> bool:
        if not self._socket.exists():
            return False
        through = self._through()
        try:
            return run([*through[:-1], "-O", "check", through[-1]], seconds=5, check=False).ok
        except DeadlineError:  # a stopped master; its successor takes the socket
            return False

    def _connect(self, seconds: float) -> None:
        timeout = max(1, round(seconds))
        background = ["-M", "-N", "-f", f"-oConnectTimeout={timeout}"]
        # A file, not a pipe, takes what ssh says: the process that stays would keep a pipe open, and us waiting.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            argv = in_netns(self.netns, [*self._words(), *background, self._target])
            status = _status(argv, said.fileno(), timeout + 2.0)
            said.seek(0)
            text = said.read()
        if status != 0:
            stage: Stage = next((stage for sign, stage in _SIGNS if sign in text), "connect")
            raise SshError(self.name, stage, text if status is not None else f"no answer within {timeout} s")


def _status(argv: Sequence[str], stderr: int, seconds: float) -> int | None:
    """Exit status of `argv`, None when it took longer than `seconds` and was killed."""
    try:
        null = subprocess.DEVNULL
        return subprocess.run(argv, stdin=null, stdout=null, stderr=stderr, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        return None
    except FileNotFoundError as error:
        raise ToolError(f"{argv[0]} is not installed", next="See ./lab doctor.") from error
