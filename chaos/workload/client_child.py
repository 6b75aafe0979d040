"""The recording client's own process: one gRPC connection to one member, no retries, JSON lines in and out.

Started by chaos.workload.client inside the lab's namespace. etcd3's generated stubs need the pure Python protobuf,
which is set for this process alone. Standard input's end is the order to stop, so that the death of the parent,
however it dies, ends this process too.

One request a line: {"op": "put|get|delete|range|cas", "key", "value", "expect", "deadline", "serializable"} or
{"op": "loop", "prefix", "period", "deadline"} and {"op": "stop"}. One answer a line.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from chaos.workload.calls import Calls, channel


class Session:
    """Operations on one connection; each gives the line that tells about it."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """One operation, at most `deadline` seconds."""
        line: dict[str, Any] = {"op": request["op"], "key": request["key"], "value": request.get("value")}
        if request["op"] == "cas":
            line["expect"] = request.get("expect")
        if request.get("serializable"):
            line["serializable"] = True  # may be stale by right: whoever checks the history must know
        found = self._calls.run(request, request["deadline"])
        if request["op"] == "range" and "kvs" in found:
            found["values"] = [[kv["key"], kv["value"], kv["mod_revision"]] for kv in found.pop("kvs")]
        elif found.get("mod_revision"):
            found["values"] = [[request["key"], found["value"], found["mod_revision"]]]
        return line | found


def loop(session: Session, request: dict[str, Any], stop: threading.Event) -> None:
    """Put under `prefix` every `period` seconds until told to stop; an operation that takes longer delays the next."""
    number = 0
    while not stop.is_set():
        started = time.monotonic()
        put = {"op": "put", "key": f"{request['prefix']}{number}", "value": str(number)}
        say(session.run(put | {"deadline": request["deadline"]}))
        number += 1
        stop.wait(max(0.0, request["period"] - (time.monotonic() - started)))
    say({"done": number})


def say(line: dict[str, Any]) -> None:
    """Tell the parent."""
    print(json.dumps(line), flush=True)  # noqa: T201 - the pipe to the parent


def main() -> None:
    """Serve until standard input ends."""
    session = Session(Calls(channel(*sys.argv[1:5])))
    stop = threading.Event()
    say({"ready": os.getpid()})
    for text in sys.stdin:
        request = json.loads(text)
        match request["op"]:
            case "loop":
                threading.Thread(target=loop, args=(session, request, stop), daemon=True).start()
            case "stop":
                stop.set()
            case _:
                say(session.run(request))
    os._exit(0)  # an operation under way must not keep a client alive whose parent is gone


if __name__ == "__main__":
    main()
