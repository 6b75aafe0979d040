"""A member so far behind that the leader has no longer the entries it lacks, and must send a snapshot."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Proof, Result
from chaos.faults.etcd import keys
from chaos.faults.etcd.process import REVIVE
from chaos.faults.guest import GuestFault, Power
from chaos.faults.oneshot import forget, recall, remember
from chaos.faults.parameters import Parameter
from chaos.faults.targets import Groups, named
from chaos.lab.lab import Lab
from chaos.lab.scripts import each
from chaos.member.settings import START_SECONDS, changed_settings, usual_settings
from chaos.member.unit import UNIT, unit_states
from machine.errors import LabError, UsageError
from machine.waiting import Pending, wait_until

SNAPSHOT_COUNT = 20
"""Entries after which the leader makes a snapshot; 10 000 by default from 3.6, 100 000 before."""

KEEP = 5
"""Entries that the leader keeps before its snapshot for slow followers; 5000 by default."""

CATCH_UP_SECONDS = 120.0

WRITE_SECONDS = 30.0
"""For one write: an election on the way, on a slow machine."""

_SAVED = re.compile(r'"msg":"saved snapshot(?: to disk)?".*?"snapshot-index":(\d+)')
_APPLIED = re.compile(r'"msg":"applied snapshot".*?"incoming-leader-snapshot-index":(\d+)')
_SENT = re.compile(r'"msg":"sent database snapshot".*?"snapshot-index":(\d+)')


@dataclass(frozen=True)
class SnapshotLag(GuestFault):
    """Stop a member, write, and let the leader drop the entries; healed, it comes back by a snapshot.

    The leader keeps thousands of entries by default, so one other member starts anew with few (its group is the
    second one) and leads meanwhile.
    """

    name: ClassVar[str] = "snapshot-lag"
    family: ClassVar[str] = "etcd"
    summary: ClassVar[str] = (
        "stop one member until it lacks more than the leader has; heal brings it back by a snapshot"
    )
    occupies: ClassVar[str] = "process"
    call_seconds: ClassVar[float] = START_SECONDS + 30.0
    least_lease: ClassVar[int] = 300
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("entries", "whole", 60, "entries to write meanwhile", low=2 * (SNAPSHOT_COUNT + KEEP), high=100_000),
    )

    @classmethod
    def normalise(cls, groups: Groups, nodes: tuple[str, ...]) -> Groups:
        """The member, and another one that leads meanwhile."""
        members = named(groups)
        return (members, tuple(name for name in nodes if name not in members)[:1])

    def check(self, lab: Lab) -> None:
        """One member of at least three."""
        if len(self.groups[0]) != 1:
            raise UsageError(f"{self.name} takes one node, who is to fall behind", where="--target")
        if len(lab.manifest.nodes) < 3:
            raise UsageError(f"{self.name} stops one member and needs the quorum of the others: three nodes or more")

    @property
    def member(self) -> str:
        """Who falls behind."""
        return self.groups[0][0]

    @property
    def helper(self) -> str:
        """Who leads with few entries."""
        return self.groups[1][0]

    def make(self, lab: Lab, node: str) -> str:
        """Few entries for the one, a stop for the other."""
        if node == self.member:
            return f"systemctl stop {UNIT}"
        few = dict.fromkeys(catch_up_keys(lab.manifest.etcd_version), KEEP)
        return changed_settings(self.id, {"snapshot-count": SNAPSHOT_COUNT, **few})

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Start the one, the usual settings for the other."""
        return REVIVE if node == self.member else usual_settings()

    def apply(self, lab: Lab) -> None:
        """Settings, leader, stop, writes; each only when the one before is done."""
        self.apply_on(lab, [self.helper])
        lab.cluster.wait_healthy(CATCH_UP_SECONDS)
        lab.lead_from(self.helper)
        behind = next(status.raft_applied_index for status in lab.cluster.status() if status.node == self.member)
        times = {node: said.stdout.strip() for node, said in each(lab, self.nodes, "date +%s").items()}
        remember(lab.paths, self.id, {"index": str(behind), **times})
        self.apply_on(lab, [self.member])
        for number in range(self.value("entries")):
            keys.put_until_taken(lab, self.helper, "lag", str(number), WRITE_SECONDS)

    def lift(self, lab: Lab) -> None:
        """Start it and wait until it has caught up; only then may the leader start anew."""
        power = Power.of(lab, self.nodes)
        try:
            self.lift_on(lab, {self.member} & {*power.running})
            self._hand_back(lab)
        finally:
            self.lift_on(lab, {self.helper} & {*power.running})
        power.require(self.name, power=self.survives_reboot)

    def _hand_back(self, lab: Lab) -> None:
        """Wait until the member has caught up, and let it lead in place of the helper."""

        def caught_up() -> None:
            status = {one.node: one for one in lab.cluster.status()}
            own, leader = status[self.member], status[self.helper]
            if not own.ok or not leader.ok or own.raft_applied_index < leader.raft_applied_index - KEEP:
                raise Pending(own.error or leader.error or f"applied {own.raft_applied_index}")

        # when it cannot catch up the proof says so, and the settings go back all the same
        with contextlib.suppress(LabError):
            wait_until(caught_up, f"{self.member} to catch up", seconds=CATCH_UP_SECONDS)
            if lab.leader() == self.helper:
                lab.lead_from(self.member)

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """The leader's snapshot is past what the member has; afterwards both logs tell of the snapshot."""
        before = recall(lab.paths, self.id)
        behind = int(before.get("index") or 0)
        helper = _newest(_SENT if not in_force else _SAVED, self._log(lab, self.helper, before))
        if in_force:
            return [*self._down(lab), _beyond(f"oldest entry of {self.helper}", self.helper, behind, helper - KEEP)]
        applied = _newest(_APPLIED, self._log(lab, self.member, before))
        proof = [
            _beyond(f"snapshot sent by {self.helper}", self.helper, behind, helper),
            _beyond(f"snapshot applied by {self.member}", self.member, behind, applied),
        ]
        health = {one.node: one for one in lab.cluster.health()}
        return proof + [
            Proof(f"health of {node}", "this host", "healthy", health[node].reason or "healthy", health[node].healthy)
            for node in self.nodes
        ]

    def heal(self, lab: Lab) -> Result:
        """As every fault; what was written down is needed until the proof."""
        result = super().heal(lab)
        if result.proved:
            forget(lab.paths, self.id)
        return result

    def _down(self, lab: Lab) -> Iterable[Proof]:
        state = unit_states(lab, [self.member])[self.member]
        seen = state.active if state else "no answer"
        return [Proof(f"etcd on {self.member}", "systemd", "inactive", seen, seen == "inactive")]

    @staticmethod
    def _log(lab: Lab, node: str, before: dict[str, str]) -> str:
        """Lines about snapshots since the fault began, by the node's own clock; "" where nobody could look."""
        since = before.get(node) or "0"
        script = f"journalctl --no-pager -o cat -u {UNIT} --since @{since} | grep -E 'snapshot' | tail -n 200"
        try:
            return lab.shell(node).run(script, seconds=40, check=False).stdout
        except LabError:
            return ""

    def proof_seconds(self, in_force: bool) -> float:
        """Until the log is written; until all are well."""
        return 30.0 if in_force else 90.0


def catch_up_keys(version: str) -> tuple[str, ...]:
    """Keys of etcd's file, and not the names of its flags, for the entries that a leader keeps (E embed/config.go).

    From 3.6 on there is a key of this name; 3.5 has had one since 3.5.14. Before, the field has no name in the file at
    all, and encoding/json takes the field's own then, without regard to case; a key that it does not know is ignored.
    """
    numbers = tuple(int(part) for part in version.lstrip("v").split(".")[:3])
    if numbers >= (3, 6):
        return ("snapshot-catchup-entries",)
    if numbers >= (3, 5, 14):
        return ("experimental-snapshot-catch-up-entries",)
    return ("snapshotcatchupentries", "experimental-snapshot-catch-up-entries")


def _newest(pattern: re.Pattern[str], text: str) -> int:
    """The highest index that lines of etcd's log name; 0 without any."""
    return max((int(found) for found in pattern.findall(text)), default=0)


def _beyond(what: str, where: str, behind: int, seen: int) -> Proof:
    return Proof(what, where, f"beyond index {behind or '?'}", str(seen) if seen > 0 else "none", 0 < behind < seen)
