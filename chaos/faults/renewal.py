"""Renewing leases of faults while their owner lives; when it dies, nobody renews, and the kernel lifts them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class LeaseRenewer:
    """Calls each held renewal again and again; `problems` says whose last renewal failed, and why.

    Each in a thread of its own: a guest that hangs takes its renewal's whole limit (chaos.faults.guest.CALL_SECONDS),
    and two of them in a row would be longer than the leases of the others.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._held: dict[str, _Hold] = {}
        self._lock = threading.Lock()
        self.problems: dict[str, str] = {}

    def hold(self, name: str, renew: Callable[[], None]) -> None:
        """Renew `name` from now on."""
        self.release(name)
        self.problems.pop(name, None)
        with self._lock:
            self._held[name] = _Hold(name, renew, self._every, self.problems)

    def release(self, name: str) -> None:
        """Renew `name` no more; when this returns, no renewal of it is under way. Waits for no other's."""
        with self._lock:
            held = self._held.pop(name, None)
        if held is not None:
            held.stop()
            held.join()

    def close(self) -> None:
        """Stop renewing anything; waits for the renewals that are under way."""
        with self._lock:
            held = list(self._held.values())
            self._held.clear()
        for one in held:
            one.stop()
        for one in held:
            one.join()


class _Hold:
    """One renewal and its thread."""

    def __init__(self, name: str, renew: Callable[[], None], every: float, problems: dict[str, str]) -> None:
        self._name = name
        self._renew = renew
        self._every = every
        self._problems = problems
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease of {name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin no further renewal."""
        self._over.set()

    def join(self) -> None:
        """Wait until none is under way."""
        self._thread.join()

    def _run(self) -> None:
        took = 0.0
        # from begin to begin: a slow renewal must not put off the next one as well
        while not self._over.wait(max(0.0, self._every - took)):
            begun = time.monotonic()
            try:
                self._renew()
                self._problems.pop(self._name, None)
            except Exception as error:  # noqa: BLE001 - observe() shows what it led to
                self._problems[self._name] = str(error)
            took = time.monotonic() - begun
