"""Shells in guests that stay open from one update to the next, each with one owner at a time.

To open one takes half a second in an emulated guest, and shells in three guests nearly one. The provider of faults
lives as long as the run that it serves (chaos.stack.provider_main), so it keeps them: a fault takes what is there, and
gives it back. When an update begins, and the engine still starts, every kept shell is asked whether it answers, and
what the update is going to need is opened. Whatever is not on the shelf, a fault opens itself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Final

from chaos.lab.guest_shell import REMOTE, Session
from machine.errors import LabError
from machine.ssh import CONNECT_SECONDS, Shell

Key = tuple[str, str]
"""A guest, and what the shell is for (chaos.lab.guest_shells: `probe`, `run`)."""

ALIVE_SECONDS: Final = 2.0
"""How long a kept shell may take to answer before it counts as lost, with its machine perhaps; it takes 0.1 s."""


class ShellPool:
    """The shells that nobody uses now."""

    def __init__(self) -> None:
        self._shells: dict[Key, Future[Session]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def prepare(self, wanted: Iterable[tuple[Shell, str]]) -> None:
        """Begin to look after what is kept and to open what is `wanted` and not there, and return at once."""
        with self._lock:
            kept = self._shells
            guests: dict[Key, Shell | None] = dict.fromkeys(kept)
            guests |= {(shell.name, use): shell for shell, use in wanted}
            self._shells = {key: Future() for key in guests}
            begun = dict(self._shells)
        for key, shell in guests.items():
            threading.Thread(target=_look_after, args=(kept.get(key), shell, begun[key]), daemon=True).start()

    def take(self, node: str, use: str) -> Session | None:
        """A shell for its taker alone, once it is open; None when there is none to be had."""
        with self._lock:
            kept = self._shells.pop((node, use), None)
        return _waited(kept)  # where there is none, the taker tries it itself, and tells

    def give_back(self, node: str, use: str, session: Session) -> None:
        """Keep a shell that was taken, or was opened elsewhere; one that is lost, or one too many, is closed."""
        kept: Future[Session] = Future()
        kept.set_result(session)
        with self._lock:
            wanted = session.alive and not self._closed and (node, use) not in self._shells
            if wanted:
                self._shells[node, use] = kept
        if not wanted:
            session.close()

    def close(self) -> None:
        """End every shell that nobody has taken."""
        with self._lock:
            self._closed = True
            kept, self._shells = self._shells, {}
        for one in kept.values():
            one.add_done_callback(_end)


KEPT: ShellPool | None = None
"""The shelf of this process; None where shells are not kept."""


def _look_after(kept: Future[Session] | None, shell: Shell | None, ready: Future[Session]) -> None:
    """Give `ready` the kept shell when it answers, else a new one in the guest, where that is wanted."""
    session = _waited(kept)
    try:
        if session and not session.answers(ALIVE_SECONDS):
            session.close()
            session = None
        if session is None:
            if shell is None:
                raise LabError("A shell that was kept is lost")
            session = Session.start(shell.exec_argv(REMOTE, tty=False), shell.name)
        ready.set_result(session)
    except (LabError, OSError) as error:
        ready.set_exception(error)


def _waited(kept: Future[Session] | None) -> Session | None:
    """The shell, once it is open; None when it is not to be had. One that opens too late is ended then."""
    try:
        return kept.result(CONNECT_SECONDS) if kept else None
    except TimeoutError:
        if kept:
            kept.add_done_callback(_end)
    except (LabError, OSError):
        pass
    return None


def _end(kept: Future[Session]) -> None:
    if not kept.exception():
        kept.result().close()
