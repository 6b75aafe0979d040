"""The catalogue: every kind of fault by the name that users write, ours and those of installed packages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Final

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
"""Ours, which random sequences draw from."""

GROUP: Final = "etcd_lab.faults"
"""Entry points of this group name subclasses of Fault (packaging.python.org, entry points specification)."""


@cache
def installed() -> dict[str, type[Fault]]:
    """Faults of other packages in this environment, by name.

    Raises UsageError if one cannot be loaded, is no fault, or takes a name that is taken.
    """
    found: dict[str, type[Fault]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        where = f"{point.dist.name if point.dist else 'a package'}: {point.value}"
        try:
            loaded: object = point.load()
        except Exception as error:  # another package's code may raise anything
            raise UsageError(
                f"The fault {point.name} cannot be loaded: {error}",
                where=where,
                next="Repair the package or remove it.",
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, Fault)):
            raise UsageError(f"The entry point {point.name} names no subclass of Fault", where=where)
        if loaded.name in KINDS or loaded.name in found:
            raise UsageError(f"There is a fault {loaded.name!r} already", where=where, next="Give it another name.")
        found[loaded.name] = loaded
    return found


def catalogue() -> dict[str, type[Fault]]:
    """Every fault by name; raises UsageError for a broken one of another package."""
    return KINDS | installed()


def _find(name: str) -> type[Fault] | None:
    """The fault called `name`; other packages are looked at only where it is none of ours."""
    return KINDS.get(name) or installed().get(name)


def kind(name: str) -> type[Fault]:
    """The fault called `name`; raises UsageError naming those there are."""
    found = _find(name)
    if found is None:
        raise UsageError(f"There is no fault {name!r}", next=f"There are: {', '.join(sorted(catalogue()))}.")
    return found


def from_record(record: Record) -> Fault:
    """The fault that a record speaks of, its nodes as they were resolved then."""
    return kind(record.name)(record.groups, record.words, dict(record.params), record.lease)


def damages_data(name: str) -> bool:
    """Whether a fault of this name leaves data that is not to be trusted; False for one that is not known here."""
    found = _find(name)
    return found is not None and found.damages_data


def damage_records(paths: StackPaths) -> list[Record]:
    """Records of faults after which the data of their nodes' members is not to be trusted."""
    return [record for record in load_all(paths)[0] if damages_data(record.name)]
