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
from pathlib import Path
from typing import Any

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

import etcd3.etcdrpc as rpc
import grpc

CHANNEL_OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    # reconnect soon: gRPC's own backoff would grow to two minutes and hide the member's return
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3000),  # also the limit of one attempt, TLS included: slow under TCG
    ("grpc.max_reconnect_backoff_ms", 1000),
    # a powered-off member answers nothing at all; etcd allows a ping every 5 s (grpc-keepalive-min-time)
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.keepalive_timeout_ms", 3000),
]


def channel(address: str, ca: str, certificate: str, key: str) -> grpc.Channel:
    """Mutual TLS to one member; without certificates in the clear (tests on loopback)."""
    if not ca:
        return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
    files = [Path(name).read_bytes() for name in (ca, key, certificate)]
    credentials = grpc.ssl_channel_credentials(*files)
    return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


class Session:
    """Operations on one connection; each gives the line that tells about it."""

    def __init__(self, connection: grpc.Channel) -> None:
        self._kv = rpc.KVStub(connection)

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """One operation, at most `deadline` seconds."""
        call, message = self._call(request)
        line: dict[str, Any] = {"op": request["op"], "key": request["key"], "value": request.get("value")}
        if request["op"] == "cas":
            line["expect"] = request.get("expect")
        line["invoke_ns"] = time.monotonic_ns()
        try:
            answer = call(message, timeout=request["deadline"])
        except grpc.RpcError as error:
            return line | {
                "return_ns": time.monotonic_ns(),
                "code": error.code().name,
                "error": error.details(),
            }
        return line | {"return_ns": time.monotonic_ns(), "code": "OK"} | self._answer(request, answer)

    def _call(self, request: dict[str, Any]) -> tuple[Any, Any]:
        key, value = request["key"].encode(), (request.get("value") or "").encode()
        match request["op"]:
            case "put":
                return self._kv.Put, rpc.PutRequest(key=key, value=value)
            case "get":
                return self._kv.Range, rpc.RangeRequest(key=key, serializable=bool(request.get("serializable")))
            case "range":
                end = key[:-1] + bytes([key[-1] + 1])
                return self._kv.Range, rpc.RangeRequest(key=key, range_end=end)
            case "delete":
                return self._kv.DeleteRange, rpc.DeleteRangeRequest(key=key)
            case "cas":
                return self._kv.Txn, self._cas(key, request.get("expect"), value)
        raise ValueError(request["op"])

    @staticmethod
    def _cas(key: bytes, expect: str | None, value: bytes) -> Any:  # noqa: ANN401 - generated type
        compare = rpc.Compare(key=key, result=rpc.Compare.EQUAL)
        if expect is None:
            compare.target, compare.version = rpc.Compare.VERSION, 0
        else:
            compare.target, compare.value = rpc.Compare.VALUE, expect.encode()
        put = rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value))
        return rpc.TxnRequest(compare=[compare], success=[put])

    @staticmethod
    def _answer(request: dict[str, Any], answer: Any) -> dict[str, Any]:  # noqa: ANN401 - generated type
        found: dict[str, Any] = {"revision": answer.header.revision}
        if request.get("serializable"):
            found["serializable"] = True  # may be stale by right: whoever checks the history must know
        if request["op"] in {"get", "range"}:
            values = [[kv.key.decode(), kv.value.decode(), kv.mod_revision] for kv in answer.kvs]
            found["values"] = values
            if request["op"] == "get":
                found |= {"value": values[0][1] if values else None, "mod_revision": values[0][2] if values else None}
        elif request["op"] == "delete":
            found["deleted"] = answer.deleted
        elif request["op"] == "cas":
            found["succeeded"] = answer.succeeded
        return found


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
    session = Session(channel(*sys.argv[1:5]))
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
