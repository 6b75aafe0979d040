"""The shells kept open inside the guests of a lab (chaos.lab.guest_shell), by guest and by what they are for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from chaos.lab.guest_shell import REMOTE, Reading, Session
from chaos.lab.shell_pool import ShellPool
from machine.errors import DeadlineError, LabError, ToolError
from machine.process import Completed, tail
from machine.ssh import Shell

Answer = TypeVar("Answer")


class GuestShells:
    """The shells in all guests of a lab, opened when they are first needed.

    Where there is a `shelf`, they are taken from there and given back.
    """

    def __init__(self, shelf: ShellPool | None = None) -> None:
        self._shelf = shelf
        self._sessions: dict[tuple[str, str], Session] = {}
        self._opening: dict[tuple[str, str], threading.Lock] = {}
        self._lock = threading.Lock()
        self._closed = False

    def session(self, shell: Shell, use: str = "probe") -> Session:
        """The open shell in a guest for one `use`; raises LabError when it cannot be opened."""
        key = (shell.name, use)
        with self._lock:
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:
            known = self._sessions.get(key)
            if known is not None and known.alive:
                return known
            if known is not None:
                known.close()
            kept = self._shelf.take(shell.name, use) if self._shelf else None
            opened = kept or Session.start(shell.exec_argv(REMOTE, tty=False), shell.name)
            with self._lock:
                if not self._closed:
                    self._sessions[key] = opened
                    return opened
            opened.close()
            raise LabError(f"The lab was closed while a shell in {shell.name} was being opened")

    def ask(self, shell: Shell, question: Callable[[Session], Answer], use: str = "probe") -> Answer:
        """Ask the shell in a guest; one that was lost meanwhile shows only then, and is opened anew, once.

        Raises LabError when the guest is not reached, and what `question` raises.
        """
        try:
            return question(self.session(shell, use))
        except DeadlineError:
            raise
        except LabError:
            return question(self.session(shell, use))

    def run(self, shell: Shell, script: str, seconds: float, *, check: bool = True) -> Completed:
        """Run a script that may be repeated in a guest, as Shell.run does, without the cost of a session of its own.

        In a shell beside the one that probes. Raises LabError when the guest is not reached, ToolError when the script
        fails and `check` is set, DeadlineError.
        """
        ends = time.monotonic() + seconds
        done = self.ask(shell, lambda session: session.run(script, max(1.0, ends - time.monotonic())), "run")
        if check and not done.ok:
            raise ToolError(
                f"A command on {shell.name} ended with status {done.status}",
                where=script.strip().splitlines()[0][:200] if script.strip() else "",
                tail=tail(done.stderr or done.stdout),
            )
        return done

    def clocks(self, shells: Iterable[Shell]) -> Mapping[str, Reading | LabError]:
        """The clocks of several guests at once, by node; a LabError where one does not tell."""
        listed = list(shells)

        def one(shell: Shell) -> Reading | LabError:
            try:
                return self.session(shell).clock()
            except (LabError, DeadlineError) as error:
                return error

        if not listed:
            return {}
        with ThreadPoolExecutor(len(listed)) as pool:
            return dict(zip([shell.name for shell in listed], pool.map(one, listed), strict=True))

    def forget(self, node: str) -> None:
        """Close the shells in a guest that ends."""
        self._end(lambda key: key[0] == node)

    def close(self) -> None:
        """Close all, and what is being opened; or give them back."""
        self._closed = True
        if self._shelf is None:
            self._end(lambda _: True)
            return
        with self._lock:
            used, self._sessions = self._sessions, {}
        for (node, use), session in used.items():
            self._shelf.give_back(node, use, session)

    def _end(self, which: Callable[[tuple[str, str]], bool]) -> None:
        with self._lock:
            gone = [self._sessions.pop(key) for key in list(self._sessions) if which(key)]
        for session in gone:  # all end at the same time
            session.hang_up()
        for session in gone:
            session.close()
