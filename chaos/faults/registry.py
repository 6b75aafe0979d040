"""The catalogue: every kind of fault by the name that users write."""

from __future__ import annotations

from chaos.faults.base import Fault
from chaos.faults.etcd.maintenance import Compact, Defragment, MoveLeader
from chaos.faults.etcd.process import CpuStarve, Kill, KillHold, OutOfMemory, Stop, StopProcess
from chaos.faults.etcd.quota import NoSpace
from chaos.faults.etcd.snapshot_lag import SnapshotLag
from chaos.faults.host.clock import ClockDrift, ClockJump, ClockStrobe
from chaos.faults.host.power import Pause, PowerOff, Reset
from chaos.faults.network.dns import DnsGone, DnsSlow, DnsWrong
from chaos.faults.network.impairments import Corrupt, Duplicate, Jitter, Latency, Loss, Rate, Reorder
from chaos.faults.network.link import LinkDown
from chaos.faults.network.partitions import BridgeCut, CutClients, CutPeers, Isolate, OneWay, Partition
from chaos.faults.records import Record, load_all
from chaos.faults.storage.corruption import BitFlip, Truncate
from chaos.faults.storage.disk import DiskError, DiskFull, DiskReadOnly, DiskSlow, LostWrites
from chaos.faults.storage.rollback import Rollback
from machine.errors import UsageError
from machine.paths import StackPaths

FAMILIES: tuple[tuple[type[Fault], ...], ...] = (
    (PowerOff, Pause, Reset),
    (Compact, Defragment, MoveLeader, NoSpace, SnapshotLag),
    (Kill, KillHold, Stop, StopProcess, OutOfMemory, CpuStarve),
    (Partition, Isolate, BridgeCut, OneWay, CutClients, CutPeers, LinkDown),
    (Latency, Jitter, Loss, Duplicate, Reorder, Corrupt, Rate),
    (ClockJump, ClockDrift, ClockStrobe),
    (DnsGone, DnsSlow, DnsWrong),
    (DiskFull, DiskSlow, DiskError, DiskReadOnly, LostWrites),
    (BitFlip, Truncate, Rollback),
)

KINDS: dict[str, type[Fault]] = {kind.name: kind for family in FAMILIES for kind in family}


def kind(name: str) -> type[Fault]:
    """The fault called `name`; raises UsageError naming those there are."""
    try:
        return KINDS[name]
    except KeyError:
        raise UsageError(f"There is no fault {name!r}", next=f"There are: {', '.join(sorted(KINDS))}.") from None


def from_record(record: Record) -> Fault:
    """The fault that a record speaks of, its nodes as they were resolved then."""
    return kind(record.name)(record.groups, record.words, dict(record.params), record.lease)


def damages_data(name: str) -> bool:
    """Whether a fault of this name leaves data that is not to be trusted; False for one that is not known here."""
    return name in KINDS and KINDS[name].damages_data


def damage_records(paths: StackPaths) -> list[Record]:
    """Records of faults after which the data of their nodes' members is not to be trusted."""
    return [record for record in load_all(paths)[0] if damages_data(record.name)]
