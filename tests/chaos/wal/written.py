"""WAL files as etcd writes them, made by hand: frames, checksums, raft's and etcd's messages."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from chaos.checker.raftlog.wal_reader import CRC, ENTRY, METADATA, SNAPSHOT, STATE, Entry, crc32c

Item = tuple[int, bytes]
"""Record type and data."""


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def proto(*found: tuple[int, int | bytes]) -> bytes:
    out = b""
    for number, value in found:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def entry(index: int, term: int = 1, data: bytes = b"", kind: int = 0) -> Entry:
    return Entry(index, term, kind, data)


def of(one: Entry) -> Item:
    return ENTRY, proto((1, one.kind), (2, one.term), (3, one.index), (4, one.data))


def state(term: int, commit: int) -> Item:
    return STATE, proto((1, term), (2, 7), (3, commit))


def snapshot(index: int, term: int) -> Item:
    return SNAPSHOT, proto((1, index), (2, term))


def request(*found: tuple[int, int | bytes], user: bytes = b"") -> bytes:
    header = proto((1, 99), *(((2, user),) if user else ()))
    return proto(*found, (100, header))


def put(key: str, value: str, lease: int = 0) -> bytes:
    return request((4, proto((1, key.encode()), (2, value.encode()), (3, lease))))


def delete(key: str) -> bytes:
    return request((5, proto((1, key.encode()))))


def cas(key: str, value: str) -> bytes:
    op = proto((2, proto((1, key.encode()), (2, value.encode()))))
    return request((6, proto((1, proto((3, key.encode()))), (2, op))))


def frame(kind: int, crc: int, data: bytes) -> bytes:
    record = proto((1, kind), (2, crc), *(((3, data),) if kind != CRC else ()))
    pad = -len(record) % 8
    return struct.pack("<Q", len(record) | ((0x80 | pad) << 56 if pad else 0)) + record + bytes(pad)


def written(items: Sequence[Item], before: int = 0, room: int = 0) -> tuple[bytes, int, list[int]]:
    """One file, its last checksum, and where each item ends; `room` empty bytes follow."""
    out, crc = frame(CRC, before, b""), before
    ends = []
    for kind, data in [(METADATA, b"node"), *items]:
        crc = crc32c(data, crc)
        out += frame(kind, crc, data)
        ends.append(len(out))
    return out + bytes(room), crc, ends[1:]
