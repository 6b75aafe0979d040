"""etcd's WAL files to the entries of raft's log that are in force, as etcd itself would read them at its start.

The layout is E server/storage/wal/{encoder,decoder,wal}.go: frames of an 8-byte little-endian length (its highest byte
0x80 | padding when the record is padded to 8 bytes) and a Record{type, crc, data}, where the CRC (Castagnoli) runs on
over the data of all records, also from file to file. Files are preallocated, so a length of 0 ends one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from chaos.checker.errors import WalError
from chaos.checker.raftlog.wire import Malformed, message, number, octets

METADATA, ENTRY, STATE, CRC, SNAPSHOT = 1, 2, 3, 4, 5
"""Record types (wal.go)."""

SECTOR: Final = 512
"""What a disk writes as a whole (decoder.go, minSectorSize)."""

NORMAL: Final = 0
"""raftpb.EntryType of what clients ask for; the others change the membership."""


def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # noqa: PLW2901 - shifted out bit by bit
        rows.append(byte)
    return tuple(rows)


_CASTAGNOLI: Final = _table()


def crc32c(data: bytes, before: int = 0) -> int:
    """CRC-32C of `data` after what had the CRC `before` (Go's crc32.Update with its Castagnoli table)."""
    table, crc = _CASTAGNOLI, before ^ 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


class Record(NamedTuple):
    """One record and where it stands."""

    kind: int
    crc: int
    data: bytes
    offset: int
    end: int


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One entry of raft's log."""

    index: int
    term: int
    kind: int
    data: bytes


@dataclass(slots=True)
class Log:
    """One member's log: entries in force, without a gap, in order of their index."""

    member: str
    entries: list[Entry] = field(default_factory=list)
    term: int = 0
    """The highest that this member is known to have been in."""
    commit: int = 0
    """Known to be committed, up to and including this index."""

    @property
    def last(self) -> int:
        """Index of the last entry, 0 when there is none."""
        return self.entries[-1].index if self.entries else 0

    def at(self, index: int) -> Entry | None:
        """The entry with this index, if the log holds it."""
        if not self.entries or not self.entries[0].index <= index <= self.last:
            return None
        return self.entries[index - self.entries[0].index]

    def append(self, entry: Entry) -> None:
        """A later entry takes the place of an earlier one with its index, and of all after that (raft paper, 5.3)."""
        self.term = max(self.term, entry.term)
        if not self.entries or not self.entries[0].index <= entry.index <= self.last + 1:
            self.entries = [entry]  # what lies between is not known: only what follows without a gap is held
            return
        del self.entries[entry.index - self.entries[0].index :]
        self.entries.append(entry)

    def snapshot(self, index: int, term: int) -> None:
        """A snapshot up to `index`: the member's own, which changes nothing, or a leader's instead of entries."""
        held = self.at(index)
        if held is not None and held.term == term:
            return
        if self.entries and index < self.entries[0].index:
            return  # its own, of before; after a leader's, the next entry falls in front of these and replaces them
        self.entries = []


def _frames(name: str, data: bytes, *, last: bool) -> Iterator[Record]:
    """Records of one file, CRCs not looked at yet; in the last file a torn one ends them."""
    at = 0
    while at + 8 <= len(data):
        (head,) = struct.unpack_from("<Q", data, at)
        if head == 0:
            return
        size, high = head & (1 << 56) - 1, head >> 56
        end = at + 8 + size + (high & 7 if high & 0x80 else 0)
        if end > len(data):
            if last:
                return
            raise _broken(name, at, "a record goes beyond the end of its file")
        try:
            found = message(data[at + 8 : at + 8 + size])
            record = Record(number(found, 1), number(found, 2), octets(found, 3), at, end)
        except Malformed as error:
            if last and _torn(data, at, end):
                return
            raise _broken(name, at, f"this is no record, {error}") from None
        yield record
        at = end


def _torn(data: bytes, begin: int, end: int) -> bool:
    """Whether a record was never written whole: nothing follows it, or a sector of it is empty (decoder.go)."""
    if not any(data[end:]):
        return True
    at = begin + 8
    while at < end:
        upto = min(end, at - at % SECTOR + SECTOR)
        if not any(data[at:upto]):
            return True
        at = upto
    return False


def _broken(name: str, offset: int, what: str) -> WalError:
    return WalError(f"The log is damaged: {what}", where=f"{name}, offset {offset}")


def read_log(member: str, files: Sequence[tuple[str, bytes]]) -> Log:
    """The log in a member's files (name, content), which follow each other without a gap.

    A record cut off at the end, and the empty rest of a preallocated file, end it without a word. Raises WalError,
    naming file and offset, for damage before that.
    """
    log, crc = Log(member), 0
    for place, (name, data) in enumerate(files):
        last = place == len(files) - 1
        for record in _frames(name, data, last=last):
            if record.kind == CRC:
                if crc not in (0, record.crc):
                    raise _broken(name, record.offset, "it does not go on where the file before ended")
                crc = record.crc
                continue
            crc = crc32c(record.data, crc)
            if crc != record.crc:
                if last and _torn(data, record.offset, record.end):
                    return log
                raise _broken(name, record.offset, "a checksum is wrong")
            try:
                _take(log, record)
            except Malformed as error:
                raise _broken(name, record.offset, f"a record is not understood, {error}") from None
    return log


def _take(log: Log, record: Record) -> None:
    if record.kind == METADATA:
        return
    found = message(record.data)
    if record.kind == ENTRY:
        log.append(Entry(number(found, 3), number(found, 2), number(found, 1), octets(found, 4)))
    elif record.kind == STATE:
        log.term, log.commit = max(log.term, number(found, 1)), max(log.commit, number(found, 3))
    elif record.kind == SNAPSHOT:
        log.snapshot(number(found, 1), number(found, 2))
    else:
        raise Malformed(f"its type is {record.kind}")


def first_index(name: str) -> int:
    """Index of the first entry of a file, as its name says (wal.go, walName): `SEQUENCE-INDEX.wal`, hexadecimal."""
    return int(name.removesuffix(".wal").partition("-")[2], 16)


def needed(names: Sequence[str], index: int) -> list[str]:
    """Those files, in order, that may hold what is in force of the entries from `index` on."""
    ordered = sorted(names)
    start = max((n for n, name in enumerate(ordered) if first_index(name) <= index), default=0)
    return ordered[start:]
