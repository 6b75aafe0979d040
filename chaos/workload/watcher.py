"""A watch of everything under a prefix, recorded line by line; resumed on the same member after every cut.

It goes on after the last revision that it was told of whole: without fragments, all events of one revision come in one
message (E api/etcdserverpb/rpc.proto, WatchResponse.fragment). It asks for progress notices now and then.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc

from chaos.workload.calls import PROGRESS_REQUEST, Calls
from chaos.workload.log import Line, Log

NOTICE_EVERY: Final = 2.0
"""Seconds between two requests for a progress notice."""

AGAIN: Final = 0.2
"""Seconds from a cut to the next attempt: no busy loop against a member that refuses."""


class Watcher:
    """A watch in a thread of its own, from `start` on, until it is closed."""

    def __init__(  # noqa: PLR0917 - who, where, what, from when
        self, calls: Calls, path: Path, name: str, member: str, prefix: str, start: int
    ) -> None:
        self.events = 0
        self.problem = ""
        self._calls = calls
        self._log = Log(path, 0, member)
        self._base: Line = {"watch": name, "member": member}
        self._prefix = prefix
        self._next = start
        self._seen: set[str] = set()
        self._closing = threading.Event()
        self._stream: Any = None
        self._sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait_for(self, key: str, seconds: float) -> bool:
        """Whether an event of `key` came within `seconds`."""
        deadline = time.monotonic() + seconds
        while key not in self._seen and time.monotonic() < deadline and not self.problem:
            self._closing.wait(0.02)
        return key in self._seen

    def close(self) -> None:
        """End it."""
        self._closing.set()
        self._sent.put(None)
        if self._stream is not None:
            self._stream.cancel()
        self._thread.join(5)
        self._log.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._stream = self._calls.watch(self._messages(self._sent))
                for answer in self._stream:
                    self._take(answer)
                    if answer.canceled:
                        break
            except grpc.RpcError as error:
                if not self._closing.is_set():
                    self._tell({"event": "canceled", "error": f"{error.code().name}: {error.details()}"})
            except Exception as error:  # noqa: BLE001 - told to the parent, which judges
                self.problem = f"{type(error).__name__}: {error}"
                return
            self._sent.put(None)  # ends the sending side of the stream that broke
            self._sent = queue.SimpleQueue()
            self._closing.wait(AGAIN)

    def _messages(self, sent: queue.SimpleQueue[Any]) -> Iterator[Any]:
        yield self._calls.watch_request(self._prefix, self._next)
        while not self._closing.is_set():
            try:
                if sent.get(timeout=NOTICE_EVERY) is None:
                    return
            except queue.Empty:
                yield PROGRESS_REQUEST

    def _tell(self, line: Line) -> None:
        if "created" in self._seen or line["event"] == "created":
            self._log.event(self._base | line | {"ns": time.monotonic_ns()})

    def _take(self, answer: Any) -> None:  # noqa: ANN401 - generated type
        revision = answer.header.revision
        if answer.created and not answer.canceled:
            self._seen.add("created")
            asked = {"key": self._prefix, "prefix": True, "start_revision": self._next, "revision": revision}
            self._tell({"event": "created", **asked})
        elif answer.compact_revision:
            # what was written at the compact revision itself may be gone too, if it was a delete
            self._tell({"event": "compacted", "compact_revision": answer.compact_revision})
            self._next = max(self._next, answer.compact_revision + 1)
        elif answer.canceled:
            self._tell({"event": "canceled", "error": answer.cancel_reason})
        elif not answer.events:
            self._tell({"event": "progress", "revision": revision})
            self._next = max(self._next, revision + 1)
        for event in answer.events:
            self._event(event)

    def _event(self, event: Any) -> None:  # noqa: ANN401 - generated type
        kv, before = event.kv, event.prev_kv
        key = kv.key.decode()
        line: Line = {"event": "delete" if event.type else "put", "key": key, "mod_revision": kv.mod_revision}
        if not event.type:
            line |= {"value": kv.value.decode(), "create_revision": kv.create_revision}
        # prev_value is told only where it was there: compaction may have taken what was before
        line |= {"prev_value": before.value.decode()} if before.mod_revision else {}
        self._tell(line)
        self.events += 1
        self._next = kv.mod_revision + 1
        self._seen.add(key)
