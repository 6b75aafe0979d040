"""etcd's RPCs as operations of a history: a request as plain data in, the answer as plain data out.

Only for processes of the recording clients (design decision 14): etcd3's generated stubs need the pure Python
protobuf, which importing this module sets for the whole process. No call is ever repeated.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

import etcd3.etcdrpc as rpc
import grpc

CHANNEL_OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),  # whatever the environment names: members are reached directly
    ("grpc.service_config_disable_resolution", 1),
    # reconnect soon: gRPC's own backoff would grow to two minutes and hide the member's return
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3000),  # also the limit of one attempt, TLS included: slow under TCG
    ("grpc.max_reconnect_backoff_ms", 1000),
    # a powered-off member answers nothing at all; etcd allows a ping every 5 s (grpc-keepalive-min-time)
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.max_receive_message_length", 64 << 20),  # a whole ledger in one range
]

PROGRESS_REQUEST = b"\x1a\x00"
"""WatchRequest{progress_request: {}}: field 3 (E api/etcdserverpb/rpc.proto), which etcd3's older stubs lack."""

Line = dict[str, Any]


def channel(address: str, ca: str, certificate: str, key: str) -> grpc.Channel:
    """Mutual TLS to one member; without certificates in the clear (tests on loopback)."""
    if not ca:
        return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
    files = [Path(name).read_bytes() for name in (ca, key, certificate)]
    credentials = grpc.ssl_channel_credentials(*files)
    return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


class Calls:
    """Operations on one connection. A request has the history's own fields (`op`, `key`, `value`, …)."""

    def __init__(self, connection: grpc.Channel) -> None:
        self._kv = rpc.KVStub(connection)
        self._lease = rpc.LeaseStub(connection)
        self._watch = connection.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=rpc.WatchResponse.FromString,
        )

    def run(self, request: Line, deadline: float, began: Callable[[int], None] | None = None) -> Line:
        """One operation, at most `deadline` seconds: invoke_ns, return_ns, gRPC `code`, `error`, and the answer.

        `began` gets the time of invocation before anything is sent.
        """
        call, message = self._prepare(request)
        invoke_ns = time.monotonic_ns()
        if began is not None:
            began(invoke_ns)
        try:
            answer = call(message, timeout=deadline)
        except grpc.RpcError as error:
            told = {"code": error.code().name, "error": error.details() or ""}
            return {"invoke_ns": invoke_ns, "return_ns": time.monotonic_ns(), **told}
        found = {"invoke_ns": invoke_ns, "return_ns": time.monotonic_ns(), "code": "OK"}
        return found | self._answer(request, answer)

    def watch(self, messages: Iterable[Any]) -> Any:  # noqa: ANN401 - grpc's call has no public type
        """A stream of WatchResponse; `messages` is what is sent, and may block."""
        # etcd cancels it when its member has no leader, instead of leaving it silent (v3rpc/interceptor.go)
        return self._watch(messages, metadata=(("hasleader", "true"),))

    @staticmethod
    def watch_request(prefix: str, start: int) -> Any:  # noqa: ANN401 - generated type
        """The first message of a watch of everything under `prefix` from a revision."""
        key = prefix.encode()
        create = rpc.WatchCreateRequest(
            key=key, range_end=after_prefix(key), start_revision=start, prev_kv=True, progress_notify=True
        )
        return rpc.WatchRequest(create_request=create)

    def _prepare(self, request: Line) -> tuple[Callable[..., Any], Any]:
        kind = request["op"]
        if kind in {"put", "get", "range", "delete"}:
            return self._single(kind, request)
        if kind == "cas":
            guard = {"key": request["key"], "value": request.get("expect")}
            put = rpc.RequestOp(request_put=_put(request))
            return self._kv.Txn, rpc.TxnRequest(compare=[_compare(guard)], success=[put])
        if kind == "txn":
            guards = [_compare(one) for one in request.get("compare", ())]
            return self._kv.Txn, rpc.TxnRequest(compare=guards, success=[_part(one) for one in request["ops"]])
        if kind == "lease_grant":
            return self._lease.LeaseGrant, rpc.LeaseGrantRequest(TTL=request["ttl"], ID=request["lease"])
        if kind == "lease_keepalive":
            return self._keepalive, rpc.LeaseKeepAliveRequest(ID=request["lease"])
        if kind == "lease_revoke":
            return self._lease.LeaseRevoke, rpc.LeaseRevokeRequest(ID=request["lease"])
        raise ValueError(f"{kind!r} is no operation")

    def _single(self, kind: str, request: Line) -> tuple[Callable[..., Any], Any]:
        key = request["key"].encode()
        if kind == "put":
            return self._kv.Put, _put(request)
        if kind == "delete":
            return self._kv.DeleteRange, rpc.DeleteRangeRequest(key=key)
        serializable = bool(request.get("serializable"))
        end = after_prefix(key) if kind == "range" else b""
        return self._kv.Range, rpc.RangeRequest(key=key, range_end=end, serializable=serializable)

    def _keepalive(self, message: Any, timeout: float) -> Any:  # noqa: ANN401 - generated types
        stream = self._lease.LeaseKeepAlive(iter((message,)), timeout=timeout)
        try:
            return next(stream)
        finally:
            stream.cancel()

    @staticmethod
    def _answer(request: Line, answer: Any) -> Line:  # noqa: ANN401 - generated type
        kind = request["op"]
        if kind == "lease_keepalive":
            return {"ttl": answer.TTL}  # its header tells the asked member's own revision, which may lag
        found: Line = {"revision": answer.header.revision}
        if kind == "get":
            found |= _held(answer)
        elif kind == "range":
            found["kvs"] = [_cell(kv) for kv in answer.kvs]
        elif kind == "delete":
            found["deleted"] = answer.deleted
        elif kind == "cas":
            found["succeeded"] = answer.succeeded
        elif kind == "txn":
            found["succeeded"] = answer.succeeded
            if answer.succeeded:
                found["ops"] = [
                    part | _part_answer(part, one) for part, one in zip(request["ops"], answer.responses, strict=True)
                ]
        elif kind == "lease_grant":
            found["ttl"] = answer.TTL
        return found


def after_prefix(key: bytes) -> bytes:
    """End of the range of every key that begins with `key` (clientv3.GetPrefixRangeEnd)."""
    return key[:-1] + bytes([key[-1] + 1])


def _put(request: Mapping[str, Any]) -> Any:  # noqa: ANN401 - generated type
    return rpc.PutRequest(
        key=request["key"].encode(), value=(request.get("value") or "").encode(), lease=request.get("lease") or 0
    )


def _compare(guard: Mapping[str, Any]) -> Any:  # noqa: ANN401 - generated type
    compare = rpc.Compare(key=guard["key"].encode(), result=rpc.Compare.EQUAL)
    if guard["value"] is None:
        compare.target, compare.version = rpc.Compare.VERSION, 0
    else:
        compare.target, compare.value = rpc.Compare.VALUE, guard["value"].encode()
    return compare


def _part(part: Mapping[str, Any]) -> Any:  # noqa: ANN401 - generated type
    if part["op"] == "put":
        return rpc.RequestOp(request_put=_put(part))
    key = part["key"].encode()
    if part["op"] == "delete":
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key))


def _part_answer(part: Mapping[str, Any], answer: Any) -> Line:  # noqa: ANN401 - generated type
    if part["op"] == "get":
        return _held(answer.response_range)
    return {"deleted": answer.response_delete_range.deleted} if part["op"] == "delete" else {}


def _held(answer: Any) -> Line:  # noqa: ANN401 - generated type
    if not answer.kvs:
        return {"value": None, "mod_revision": None}
    return {"value": answer.kvs[0].value.decode(), "mod_revision": answer.kvs[0].mod_revision}


def _cell(kv: Any) -> Line:  # noqa: ANN401 - generated type
    return {"key": kv.key.decode(), "value": kv.value.decode(), "mod_revision": kv.mod_revision}
