"""Shells in guests, opened by the process that starts an update and handed to the provider that the update starts.

The provider takes a second to start, and shells in three emulated guests take nearly one more; so both happen at the
same time. What is handed over are the shell's two pipes (SCM_RIGHTS, unix(7)). An offer is never needed: without one,
or when it cannot be had, a process opens its own. A shell ends with the last who holds its pipes, so none outlives the
two processes, however they end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from machine.errors import LabError
from machine.ssh import CONNECT_SECONDS, Shell

VARIABLE: Final = "ETCD_LAB_SPARES"
"""In a provider's environment: the socket of the offer."""

END_SECONDS: Final = 1.0
"""How long a shell whose pipes are closed may take to end before it is killed."""

Wanted = tuple[Shell, str]
"""A guest, and what the shell is for (chaos.inside: `probe`, `run`)."""


class Offer:
    """Shells being opened, to be asked for at a socket of ours; a context manager that takes back what nobody took."""

    def __init__(self, path: Path, wanted: Iterable[Wanted], remote: Sequence[str]) -> None:
        shells = list(wanted)
        self._path = path
        self._started: list[Piped] = []
        self._untaken: list[Piped] = []
        self._lock = threading.Lock()
        self._closed = False
        self._opened: dict[str, Future[Piped]] = {_key(shell.name, use): Future() for shell, use in shells}
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.unlink(missing_ok=True)  # of a process that was killed
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen()
        threading.Thread(target=self._serve, name="spares", daemon=True).start()
        for shell, use in shells:
            opened = self._opened[_key(shell.name, use)]
            threading.Thread(target=self._open, args=(shell, remote, opened), daemon=True).start()

    def __enter__(self) -> Offer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Offer nothing any more, and end every shell that was opened; those handed over have done their work."""
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the thread may have ended already
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes it
        self._listener.close()
        with self._lock:  # who still connects to a guest opens nothing there any more
            self._closed = True
            for one in self._untaken:
                one.let_go()
        for one in self._started:
            one.end()

    def _open(self, shell: Shell, remote: Sequence[str], opened: Future[Piped]) -> None:
        try:
            argv = shell.exec_argv(remote, tty=False)
            with self._lock:
                if self._closed:
                    return
                one = Piped.start(argv)
                self._started.append(one)
                self._untaken.append(one)
            opened.set_result(one)
        except (LabError, OSError) as error:
            opened.set_exception(error)

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        """Hand over what is asked for, once it is open; nothing when there is none (any more)."""
        with peer, contextlib.suppress(OSError, LabError, ValueError):  # who asks opens a shell of its own then
            asked = self._opened.pop(peer.recv(1024).decode(), None)
            if asked is not None:
                one = asked.result(CONNECT_SECONDS)
                with self._lock:
                    if not self._closed:
                        socket.send_fds(peer, [b"!"], list(one.pipes))
                        self._untaken.remove(one)
                        one.let_go()  # the shell is to end with its new owner


def taken(node: str, use: str) -> tuple[int, int] | None:
    """The pipes to and from a shell that another process offers to this one; None when there is none."""
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking, contextlib.suppress(OSError):
        asking.settimeout(CONNECT_SECONDS)
        asking.connect(path)
        asking.send(_key(node, use).encode())
        # closed on exec, or a child of this process would keep the shell from ending
        _, pipes, _, _ = socket.recv_fds(asking, 1, 2, socket.MSG_CMSG_CLOEXEC)
        if len(pipes) == 2:
            return pipes[0], pipes[1]
    return None


@dataclass(frozen=True, slots=True)
class Piped:
    """A program that is talked with through pipes: file descriptors of this process, its owner's to close."""

    process: subprocess.Popen[bytes]
    pipes: tuple[int, int]
    """To it, from it."""

    @classmethod
    def start(cls, argv: Sequence[str]) -> Self:
        """Start it; Ctrl-C is for us, who then close the pipes."""
        theirs, to = os.pipe()
        back, said = os.pipe()
        try:
            process = subprocess.Popen(
                argv, stdin=theirs, stdout=said, stderr=subprocess.DEVNULL, start_new_session=True
            )
        except OSError:
            os.close(to)
            os.close(back)
            raise
        finally:
            os.close(theirs)
            os.close(said)
        return cls(process, (to, back))

    def let_go(self) -> None:
        """Close our ends of its pipes."""
        for pipe in self.pipes:
            os.close(pipe)

    def end(self) -> None:
        """Wait until it has ended, its pipes being closed; kill it when it does not."""
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _key(node: str, use: str) -> str:
    return f"{node} {use}"
