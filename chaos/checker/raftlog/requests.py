"""What a committed entry asks of the store: the puts in it, and whether it takes a revision when applied.

An entry that raft committed is applied by all, but need not change anything: a delete of nothing, a txn whose condition
does not hold, a put with a lease that is gone, anything under an alarm or against permissions (E
server/etcdserver/apply). So an entry takes a revision certainly, perhaps, or certainly not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from chaos.checker.raftlog.wal_reader import NORMAL, Entry
from chaos.checker.raftlog.wire import Field, Malformed, fields, message, number, octets

PUT, DELETE_RANGE, TXN, REVOKE, ALARM, HEADER = 4, 5, 6, 9, 10, 100
"""Fields of InternalRaftRequest (raft_internal.proto)."""

ACTIVATE = 1
"""AlarmRequest.action (rpc.proto)."""


class Takes(Enum):
    """Whether a revision is taken."""

    NO = 0
    PERHAPS = 1
    CERTAINLY = 2


@dataclass(frozen=True, slots=True)
class Request:
    """One entry's effect on keys."""

    takes: Takes = Takes.NO
    puts: tuple[tuple[str, str], ...] = ()
    """Key and value of every put that is done when the entry changes anything by its main branch."""
    alarm: bool = False
    """It raises an alarm, from which on writes may be refused."""
    odd: bool = False
    """It is not understood: it may take a revision, and what it puts is not known."""


ODD = Request(Takes.PERHAPS, odd=True)


def request_of(entry: Entry) -> Request:
    """What an entry asks for."""
    if entry.kind != NORMAL or not entry.data:
        return Request()
    try:
        found = message(entry.data)
        if HEADER not in found:
            return ODD  # etcd 3.4 may still log requests of its old interface, which have other fields
        # with a user name it depends on permissions whether it is done
        free = not octets(message(octets(found, HEADER)), 2)
        made = _request(found)
    except Malformed:
        return ODD
    return made if free or made.takes != Takes.CERTAINLY else Request(Takes.PERHAPS, made.puts)


def _request(found: dict[int, Field]) -> Request:
    if PUT in found:
        pair, plain = _put(octets(found, PUT))
        return Request(Takes.CERTAINLY if plain else Takes.PERHAPS, (pair,))
    if DELETE_RANGE in found or REVOKE in found:
        return Request(Takes.PERHAPS)
    if TXN in found:
        return _txn(octets(found, TXN))
    return Request(alarm=ALARM in found and number(message(octets(found, ALARM)), 1) == ACTIVATE)


def _put(data: bytes) -> tuple[tuple[str, str], bool]:
    """(key, value), and whether nothing can keep it from being done: no lease, no ignore_value or ignore_lease."""
    found = message(data)
    pair = (octets(found, 1).decode(errors="surrogateescape"), octets(found, 2).decode(errors="surrogateescape"))
    return pair, not (number(found, 3) or number(found, 5) or number(found, 6))


def _txn(data: bytes) -> Request:
    """TxnRequest{compare 1, success 2, failure 3}; RequestOp{range 1, put 2, delete_range 3, txn 4}."""
    parts = fields(data)
    branches: dict[int, list[dict[int, Field]]] = {2: [], 3: []}
    for field, value in parts:
        if field in branches and isinstance(value, bytes):
            branches[field].append(message(value))
    main, other = branches[2], branches[3]
    if any(op.keys() - {1} for op in other) or any(4 in op for op in main):
        return ODD
    puts = [_put(octets(op, 2)) for op in main if 2 in op]
    pairs = tuple(pair for pair, _ in puts)
    if not puts:
        return Request(Takes.PERHAPS if any(3 in op for op in main) else Takes.NO)
    sure = all(plain for _, plain in puts) and not any(field == 1 for field, _ in parts)
    return Request(Takes.CERTAINLY if sure else Takes.PERHAPS, pairs)
