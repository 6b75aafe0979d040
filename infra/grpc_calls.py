"""Calls to a member over gRPC itself, for clusters with authentication on.

With `auth enable`, etcd's JSON gateway refuses every client whose certificate has a CommonName (E
server/embed/serve.go, accessController), and one without a CommonName may neither ask for hashes nor change members
(seen with 3.4.23 and 3.6.16). Over gRPC the certificate of the lab's client, whose CommonName is root, is the user root
(W op-guide/authentication/rbac.md). So the calls that the lab makes through the gateway are made here with the same
paths, bodies and answers: messages by protobuf's own JSON mapping, which is the gateway's too.

Sockets are the caller's (they belong to the lab's network namespace and have an observer's port), so gRPC talks to them
through a socket pair of ours; TLS goes from end to end.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import selectors
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_MESSAGES: Final[Mapping[str, str]] = {
    "ResponseHeader": "1 cluster_id uint64, 2 member_id uint64, 3 revision int64, 4 raft_term uint64",
    "StatusRequest": "",
    "StatusResponse": "1 header ResponseHeader, 2 version string, 3 dbSize int64, 4 leader uint64, 5 raftIndex uint64, "
    "6 raftTerm uint64, 7 raftAppliedIndex uint64, 8 errors string*, 9 dbSizeInUse int64, 10 isLearner bool, "
    "11 storageVersion string, 12 dbSizeQuota int64",
    "Member": "1 ID uint64, 2 name string, 3 peerURLs string*, 4 clientURLs string*, 5 isLearner bool",
    "MemberListRequest": "1 linearizable bool",
    "MemberAddRequest": "1 peerURLs string*, 2 isLearner bool",
    "MemberRemoveRequest": "1 ID uint64",
    "MemberUpdateRequest": "1 ID uint64, 2 peerURLs string*",
    "MemberPromoteRequest": "1 ID uint64",
    "MemberAddResponse": "1 header ResponseHeader, 2 member Member, 3 members Member*",
    "MembersResponse": "1 header ResponseHeader, 2 members Member*",
    "AlarmRequest": "1 action AlarmAction, 2 memberID uint64, 3 alarm AlarmType",
    "AlarmMember": "1 memberID uint64, 2 alarm AlarmType",
    "AlarmResponse": "1 header ResponseHeader, 2 alarms AlarmMember*",
    "HashKVRequest": "1 revision int64",
    "HashKVResponse": "1 header ResponseHeader, 2 hash uint32, 3 compact_revision int64, 4 hash_revision int64",
    "MoveLeaderRequest": "1 targetID uint64",
    "HeaderResponse": "1 header ResponseHeader",
    "DefragmentRequest": "",
    "PutRequest": "1 key bytes, 2 value bytes, 3 lease int64",
    "CompactionRequest": "1 revision int64, 2 physical bool",
    "RangeRequest": "1 key bytes, 2 range_end bytes, 3 limit int64, 4 revision int64, 7 serializable bool, "
    "8 keys_only bool, 9 count_only bool",
    "KeyValue": "1 key bytes, 2 create_revision int64, 3 mod_revision int64, 4 version int64, 5 value bytes, "
    "6 lease int64",
    "RangeResponse": "1 header ResponseHeader, 2 kvs KeyValue*, 3 more bool, 4 count int64",
}
"""Fields by number (E api/etcdserverpb/rpc.proto, api/mvccpb/kv.proto; alike from 3.4 to 3.7); * is repeated."""

_ENUMS: Final[Mapping[str, tuple[str, ...]]] = {
    "AlarmAction": ("GET", "ACTIVATE", "DEACTIVATE"),
    "AlarmType": ("NONE", "NOSPACE", "CORRUPT"),
}

_METHODS: Final[Mapping[str, tuple[str, str, str]]] = {
    "maintenance/status": ("Maintenance/Status", "StatusRequest", "StatusResponse"),
    "maintenance/alarm": ("Maintenance/Alarm", "AlarmRequest", "AlarmResponse"),
    "maintenance/hashkv": ("Maintenance/HashKV", "HashKVRequest", "HashKVResponse"),
    "maintenance/transfer-leadership": ("Maintenance/MoveLeader", "MoveLeaderRequest", "HeaderResponse"),
    "maintenance/defragment": ("Maintenance/Defragment", "DefragmentRequest", "HeaderResponse"),
    "cluster/member/list": ("Cluster/MemberList", "MemberListRequest", "MembersResponse"),
    "cluster/member/add": ("Cluster/MemberAdd", "MemberAddRequest", "MemberAddResponse"),
    "cluster/member/remove": ("Cluster/MemberRemove", "MemberRemoveRequest", "MembersResponse"),
    "cluster/member/update": ("Cluster/MemberUpdate", "MemberUpdateRequest", "MembersResponse"),
    "cluster/member/promote": ("Cluster/MemberPromote", "MemberPromoteRequest", "MembersResponse"),
    "kv/put": ("KV/Put", "PutRequest", "HeaderResponse"),
    "kv/range": ("KV/Range", "RangeRequest", "RangeResponse"),
    "kv/compaction": ("KV/Compact", "CompactionRequest", "HeaderResponse"),
}
"""Path behind /v3/ to method, request and answer."""

_PACKAGE: Final = "etcdserverpb"


class RefusedError(Exception):
    """gRPC ended the call: `code` is its status by name, the text what the server (or gRPC) said."""

    def __init__(self, code: str, said: str) -> None:
        super().__init__(said)
        self.code = code


@dataclass(frozen=True, slots=True)
class Files:
    """Names of the PEM files that a client has."""

    ca: Path
    certificate: Path
    key: Path


def known(path: str) -> bool:
    """Whether this call can be made here."""
    return path in _METHODS


def call(  # noqa: PLR0917 - all of it is one call
    plain: socket.socket, address: str, files: Files, path: str, body: Mapping[str, object], seconds: float
) -> Mapping[str, object]:
    """One call of `path` over `plain`, a TCP connection to the member's client port that stays the caller's.

    Raises RefusedError; OSError when the files cannot be read.
    """
    import grpc  # noqa: PLC0415 - takes 0.4 s, and clusters with authentication on are rare
    from google.protobuf import json_format  # type: ignore[import-untyped]  # noqa: PLC0415

    method, request, answer = _METHODS[path]
    message = json_format.ParseDict(dict(body), _types()[request]())
    credentials = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )
    options = [
        ("grpc.ssl_target_name_override", address),
        ("grpc.default_authority", address),
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with _relayed(plain) as target, grpc.secure_channel(target, credentials, options) as channel:
        ask = channel.unary_unary(
            f"/{_PACKAGE}.{method}",
            request_serializer=lambda sent: sent.SerializeToString(),
            response_deserializer=_types()[answer].FromString,
        )
        try:
            found = ask(message, timeout=seconds)
        except grpc.RpcError as error:
            raise RefusedError(error.code().name, error.details() or "") from error
    told: Mapping[str, object] = json_format.MessageToDict(found, preserving_proto_field_name=True)
    return told


@contextlib.contextmanager
def _relayed(plain: socket.socket) -> Iterator[str]:
    """A name by which gRPC reaches `plain`, once: an abstract Unix socket (unix(7)), which leaves no file."""
    name = f"etcd-lab-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"\0{name}")
        listener.listen(1)
        pump = threading.Thread(target=_pump, args=(listener, plain), name="grpc-relay", daemon=True)
        pump.start()
        try:
            yield f"unix-abstract:{name}"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                plain.shutdown(socket.SHUT_RDWR)
            pump.join()


def _pump(listener: socket.socket, plain: socket.socket) -> None:
    """Carry bytes both ways until either side ends."""
    with contextlib.suppress(OSError):
        near, _ = listener.accept()
        plain.settimeout(None)
        with near, selectors.DefaultSelector() as ready:
            other = {near: plain, plain: near}
            for one in other:
                ready.register(one, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    taken = key.fileobj
                    assert isinstance(taken, socket.socket)  # noqa: S101 - they were registered above
                    data = taken.recv(1 << 16)
                    if not data:
                        return
                    other[taken].sendall(data)


@functools.cache
def _types() -> Mapping[str, Any]:
    """Message classes by name, in a pool of their own: other code may have etcd's generated stubs loaded."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: PLC0415

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="etcdlab/rpc.proto", package=_PACKAGE, syntax="proto3")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            # values share their package's name space in protobuf, and both enumerations are small
            enum.value.add(name=value, number=number)
    for name, text in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for part in filter(None, text.split(", ")):
            tag, title, spelt = part.split()
            kind = spelt.rstrip("*")
            made = message.field.add(name=title, number=int(tag))
            made.label = field_type.LABEL_REPEATED if spelt != kind else field_type.LABEL_OPTIONAL
            if kind in _MESSAGES or kind in _ENUMS:
                made.type = field_type.TYPE_MESSAGE if kind in _MESSAGES else field_type.TYPE_ENUM
                made.type_name = f".{_PACKAGE}.{kind}"
            else:
                made.type = field_type.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }
