"""As much of protocol buffers as etcd's log needs: a message to its fields, by number.

The wire format is protobuf's (protobuf.dev/programming-guides/encoding); the messages are those of E
server/storage/wal/walpb/record.proto, raft's raftpb/raft.proto and E api/etcdserverpb/{raft_internal,rpc}.proto, whose
numbers are the same in etcd 3.4, 3.5 and 3.6.
"""

from __future__ import annotations

Field = int | bytes


class Malformed(ValueError):  # noqa: N818 - becomes an error with file and offset
    """These bytes are not a message."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed("a number is cut off")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data: bytes) -> list[tuple[int, Field]]:
    """Number and value of every field in order: integers of varints, bytes of strings and messages.

    Fixed-width numbers are passed over: no message read here has any. Raises Malformed.
    """
    found: list[tuple[int, Field]] = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise Malformed("a field has the number 0")
        if kind == 0:
            value, at = _varint(data, at)
            found.append((number, value))
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise Malformed(f"a field has the wire type {kind}")
        if at + size > len(data):
            raise Malformed("a field is cut off")
        if kind == 2:
            found.append((number, data[at : at + size]))
        at += size
    return found


def message(data: bytes) -> dict[int, Field]:
    """Fields by number; of a repeated one the last. Raises Malformed."""
    return dict(fields(data))


def number(found: dict[int, Field], field: int) -> int:
    """An integer field, 0 when it is absent. Raises Malformed when it is no integer."""
    value = found.get(field, 0)
    if not isinstance(value, int):
        raise Malformed(f"field {field} is no integer")
    return value


def octets(found: dict[int, Field], field: int) -> bytes:
    """A field of bytes, empty when it is absent. Raises Malformed when it is an integer."""
    value = found.get(field, b"")
    if not isinstance(value, bytes):
        raise Malformed(f"field {field} is an integer")
    return value
