"""What a sample is, and the file of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from infra.cluster import EndpointStatus

_ALARM: Final = re.compile(r"alarm:\s*(\w+)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One member at one time (ns of CLOCK_MONOTONIC, when its answer came); sizes are bytes."""

    at_ns: int
    node: str
    ok: bool
    error: str
    leader: bool
    leader_id: int
    term: int
    index: int
    applied: int
    revision: int
    db_size: int
    db_in_use: int
    alarms: tuple[str, ...]
    seconds: float
    """How long it took to answer, or until we gave up."""
    errors: tuple[str, ...] = ()
    """What the member itself complains of, alarms apart (`etcdserver: no leader`)."""

    @property
    def well(self) -> bool:
        """Whether it answers, knows a leader and complains of nothing."""
        return self.ok and self.leader_id != 0 and not self.errors and not self.alarms

    def line(self) -> str:
        """As a line of the file."""
        return json.dumps(asdict(self)) + "\n"


def sample_of(status: EndpointStatus, at_ns: int, seconds: float) -> Sample:
    """A status answer as a sample: alarms stand among the errors (E v3rpc/maintenance.go, Status)."""
    alarms = tuple(found[1] for error in status.errors if (found := _ALARM.search(error)))
    return Sample(
        at_ns,
        status.node,
        ok=status.ok,
        error=status.error,
        leader=status.leader,
        leader_id=status.leader_id,
        term=status.raft_term,
        index=status.raft_index,
        applied=status.raft_applied_index,
        revision=status.revision,
        db_size=status.db_size,
        db_in_use=status.db_size_in_use,
        alarms=alarms,
        seconds=round(seconds, 4),
        errors=tuple(error for error in status.errors if not _ALARM.search(error)),
    )


def read_samples(path: Path) -> Iterator[Sample]:
    """The samples of a file, in order; a last line cut short by a killed run is left out."""
    if not path.exists():
        return
    known = set(Sample.__dataclass_fields__)
    for line in path.read_text().splitlines():
        try:
            row: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in row.items() if key in known
        }
        yield Sample(**fields)
