"""The catalogue: every kind of fault by the name that users write."""

from __future__ import annotations

from chaos.faults.base import Fault
from chaos.faults.data import BitFlip, Truncate
from chaos.faults.disk import DiskError, DiskFull, DiskReadOnly, DiskSlow, LostWrites
from chaos.faults.link import LinkDown
from chaos.faults.network import BridgeCut, CutClients, CutPeers, Isolate, OneWay, Partition
from chaos.faults.power import PowerOff
from chaos.faults.records import Record
from chaos.faults.rollback import Rollback
from machine.errors import UsageError

KINDS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        PowerOff,
        Partition,
        Isolate,
        BridgeCut,
        OneWay,
        CutClients,
        CutPeers,
        LinkDown,
        DiskFull,
        DiskSlow,
        DiskError,
        DiskReadOnly,
        LostWrites,
        BitFlip,
        Truncate,
        Rollback,
    )
}


def kind(name: str) -> type[Fault]:
    """The fault called `name`; raises UsageError naming those there are."""
    try:
        return KINDS[name]
    except KeyError:
        raise UsageError(f"There is no fault {name!r}", next=f"There are: {', '.join(sorted(KINDS))}.") from None


def from_record(record: Record) -> Fault:
    """The fault that a record speaks of, its nodes as they were resolved then."""
    return kind(record.name)(record.groups, record.words, dict(record.params), record.lease)
