"""Renewing leases of faults while their owner lives; when it dies, nobody renews, and the kernel lifts them."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Keeper:
    """One thread that calls each held renewal again and again; `problems` says whose last renewal failed, and why."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._held: dict[str, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.problems: dict[str, str] = {}

    def hold(self, name: str, renew: Callable[[], None]) -> None:
        """Renew `name` from now on."""
        with self._lock:
            self._held[name] = renew
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fault-leases", daemon=True)
                self._thread.start()

    def release(self, name: str) -> None:
        """Renew `name` no more; when this returns, no renewal of it is under way."""
        with self._lock:
            self._held.pop(name, None)

    def close(self) -> None:
        """Stop renewing anything."""
        with self._lock:
            self._held.clear()
        self._wake.set()

    def _run(self) -> None:
        while not self._wake.wait(self._every):
            # under the lock: a release that returned must never be followed by a renewal
            with self._lock:
                for name, renew in self._held.items():
                    try:
                        renew()
                        self.problems.pop(name, None)
                    except Exception as error:  # noqa: BLE001 - observe() shows what it led to
                        self.problems[name] = str(error)
