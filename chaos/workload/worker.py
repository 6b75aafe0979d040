"""A worker's own process: one connection to one member; started once, it serves one scenario after the other.

Started by chaos.workload.pool inside the lab's namespace. Orders come as JSON lines on standard input, one answer a
line goes out: `begin` (a plan, a prefix, files), `stop` (ends when the operation under way is over), `do` (one
operation, recorded), `read_all` (what a watch from a revision tells until a key shows up). Standard input's end is
the order to die, so that the death of the parent, however it dies, ends this process too.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.workload.calls import Calls, channel
from chaos.workload.log import STRIDE, Line, Log
from chaos.workload.plan import Plan
from chaos.workload.profiles import Worker, clients
from chaos.workload.watcher import Watcher

IDLE_TURN = 0.02
"""Seconds that a turn without an operation takes when no rate is asked for."""


class Run:
    """One scenario's work: the loop of operations in a thread of its own, and a watch beside it if asked for."""

    def __init__(self, calls: Calls, order: Line) -> None:
        self.plan = Plan.from_json(order["plan"])
        self.prefix, self.index, self.member = order["prefix"], order["index"], order["member"]
        self.log = Log(Path(order["history"]), self.index, self.member)
        # operations by order go on beside the loop, as another process of the history
        self.hand = Log(Path(order["hand"]), self.index + STRIDE // 2, self.member)
        self.watch_path = Path(order["watch"])
        self.stop = threading.Event()
        self.problem = ""
        self.asked = self.done = 0
        self._calls = calls
        self._watcher: Watcher | None = None
        self._thread = threading.Thread(target=self._guarded, daemon=True)
        if self.plan.watched(self.index):
            name = f"{self.index}-{self.member}"
            self._watcher = Watcher(calls, self.watch_path, name, self.member, self.prefix, order["base_revision"] + 1)
        self._thread.start()

    def by_order(self, request: Line, deadline: float) -> Line:
        """One operation that is not the loop's, recorded."""
        return self._one(self.hand, request, deadline)

    def _one(self, log: Log, request: Line, deadline: float) -> Line:
        return log.end(self._calls.run(request, deadline, lambda at_ns: log.begin(request, at_ns)))

    def _guarded(self) -> None:
        try:
            self._loop()
        except Exception as error:  # noqa: BLE001 - told to the parent, which judges
            self.problem = f"{type(error).__name__}: {error}"

    def _loop(self) -> None:
        plan, began = self.plan, time.monotonic()
        chance = random.Random(f"{plan.seed}/{self.index}")  # noqa: S311 - repeatable
        play = clients(Worker(plan, self.prefix, self.index, chance))
        request, due = next(play), began + chance.random() / (plan.rate or 1000)
        while not self.stop.wait(max(0.0, due - time.monotonic())):
            answer = self._one(self.log, request, plan.deadline) if request is not None else {}
            self.done += request is not None
            request = play.send(answer)
            now = time.monotonic()
            # what is late is not made up for: a burst after an outage would be a load of its own
            due = max(due + 1 / plan.rate, now) if plan.rate else now + (IDLE_TURN if not answer else 0)

    def finish(self) -> Line:
        """Stop; tells what was done. Operations by order may still follow."""
        self.stop.set()
        self._thread.join(self.plan.deadline + 5)
        if self._watcher is not None:
            self._watcher.close()
        if self._thread.is_alive():
            self.problem = self.problem or "an operation did not end by its deadline"
        return {"done": self.done, "problem": self.problem}

    def close(self) -> None:
        """Close the files."""
        self.log.close()
        self.hand.close()


class Server:
    """Serves orders."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._run: Run | None = None

    def serve(self, order: Line) -> Line:
        """One order; the answer."""
        served: dict[str, Callable[[Line], Line]] = {
            "begin": self._begin,
            "stop": self._stop,
            "do": self._do,
            "read_all": self._read_all,
        }
        return served[order["order"]](order)

    def _begin(self, order: Line) -> Line:
        if self._run is not None:
            self._run.finish()
            self._run.close()
        self._run = Run(self._calls, order)
        return {"begun": self._run.member}

    def _stop(self, _: Line) -> Line:
        return self._now().finish()

    def _do(self, order: Line) -> Line:
        return self._now().by_order(order["request"], order["deadline"])

    def _read_all(self, order: Line) -> Line:
        run = self._now()
        name = f"{run.index}-{run.member}-all"
        watcher = Watcher(self._calls, run.watch_path, name, run.member, run.prefix, order["start"])
        try:
            whole = watcher.wait_for(order["until"], order["deadline"])
            return {"events": watcher.events, "whole": whole, "problem": watcher.problem}
        finally:
            watcher.close()

    def _now(self) -> Run:
        if self._run is None:
            raise RuntimeError("nothing has begun")
        return self._run


def say(line: dict[str, Any]) -> None:
    """Tell the parent."""
    print(json.dumps(line), flush=True)  # noqa: T201 - the pipe to the parent


def main() -> None:
    """Serve until standard input ends."""
    server = Server(Calls(channel(*sys.argv[1:5])))
    say({"ready": os.getpid()})
    for text in sys.stdin:
        try:
            say(server.serve(json.loads(text)))
        except Exception as error:  # noqa: BLE001 - told to the parent, which judges
            say({"problem": f"{type(error).__name__}: {error}"})
    os._exit(0)  # an operation under way must not keep a client alive whose parent is gone


if __name__ == "__main__":
    main()
