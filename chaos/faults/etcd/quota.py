"""The database of a member is full by its quota: NOSPACE, and the whole cluster takes no more writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Proof
from chaos.faults.etcd import keys
from chaos.faults.etcd.maintenance import one_node
from chaos.faults.guest import GuestFault
from chaos.faults.parameters import Parameter
from chaos.lab.lab import Lab
from chaos.lab.scripts import tried
from chaos.member.settings import START_SECONDS, changed_settings, usual_settings
from infra.layout import ETCDCTL_ENVIRONMENT
from machine.errors import LabError, ToolError
from machine.waiting import Pending, wait_until

EXCEEDED = "mvcc: database space exceeded"
"""etcd's refusal while the alarm is raised (E api/v3rpc/rpctypes/error.go, ErrGRPCNoSpace)."""

VALUE_BYTES = 16384
"""Size of a value that fills the database; well under etcd's limit for a request, 1.5 MiB."""

FILL = "nospace/"

_CTL = "etcdctl --command-timeout=20s"
"""The usual 5 s are little for an emulated machine under load."""


@dataclass(frozen=True)
class NoSpace(GuestFault):
    """A quota little above what the database has, then writes until etcd raises its alarm.

    One member's alarm binds all: the alarm goes through Raft (E server/etcdserver/apply/uber_applier.go). Heal as
    etcd's docs say (op-guide/maintenance, "Space quota"): the usual quota, compaction, defragmentation, alarm off.
    """

    name: ClassVar[str] = "nospace"
    family: ClassVar[str] = "etcd"
    summary: ClassVar[str] = "fill one member's quota until NOSPACE: the cluster refuses every put"
    occupies: ClassVar[str] = "process"
    call_seconds: ClassVar[float] = START_SECONDS + 90.0
    least_lease: ClassVar[int] = 300
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("room", "whole", 128, "what the quota leaves above the database's size, KiB", low=16, high=65536),
    )

    def check(self, lab: Lab) -> None:  # noqa: ARG002
        """One member's quota does it."""
        one_node(self, "whose quota is filled")

    def make(self, lab: Lab, node: str) -> str:
        """Start anew with a small quota."""
        size = next(status.db_size for status in lab.cluster.status() if status.node == node)
        if not size:
            raise ToolError(f"{node} does not tell the size of its database", next="See ./lab status.")
        return changed_settings(self.id, {"quota-backend-bytes": size + self.value("room") * 1024})

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """The usual quota, then what fills the database away, and the alarm off.

        It fails where the cluster does not tell its alarms; what an earlier attempt compacted is compacted.
        """
        room = tried(
            f"{_CTL} del --prefix {keys.PREFIX}{FILL} >/dev/null",
            "revision=$(etcdctl endpoint status -w fields | sed -n 's/^\"Revision\" : //p')\n"
            f"said=$({_CTL} compact $revision 2>&1) || case $said in *'has been compacted'*) ;; "
            '*) echo "$said" >&2; false ;; esac',
            f"{_CTL} defrag >/dev/null",
            f"{_CTL} alarm disarm >/dev/null",
        )
        return tried(
            usual_settings(),
            f"{ETCDCTL_ENVIRONMENT}\nalarms=$({_CTL} alarm list) && case $alarms in *NOSPACE*)\n{room} ;; esac",
        )

    def apply(self, lab: Lab) -> None:
        """The quota, then values through the same member until it refuses."""
        super().apply(lab)
        node = self.nodes[0]
        # pages that are free are filled before the file grows, so that more fits than there is room
        most = self.value("room") * 1024 // VALUE_BYTES + 400
        number = 0

        def full() -> None:
            nonlocal number
            while number < most:
                try:
                    keys.put(lab, node, f"{FILL}{number}", "x" * VALUE_BYTES)
                except LabError as error:
                    if EXCEEDED in str(error):
                        return
                    raise Pending(str(error)) from error  # it has only just started
                number += 1
            raise ToolError(f"{number} values of {VALUE_BYTES} bytes did not fill the quota of {node}")

        wait_until(full, f"{node} to be full", seconds=120)

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """The alarm, with the member that raised it, and a put through every member that runs."""
        running = lab.running()
        statuses = {status.node: status for status in lab.cluster.status()}
        own = statuses[self.nodes[0]].member_id
        try:
            raised = {alarm.member_id for alarm in lab.cluster.alarms() if alarm.kind == "NOSPACE"}
            told = ", ".join(f"NOSPACE of {member:x}" for member in sorted(raised)) or "none"
        except LabError as error:
            raised, told = set(), f"unknown: {error}"
        holds = own in raised if in_force else told == "none"
        proof = [Proof("alarms", "this host", f"NOSPACE of {own:x}" if in_force else "none", told, holds)]
        expected = EXCEEDED if in_force else "accepted"
        for node in running:
            seen = keys.attempt(lab, node, f"{FILL}probe", "probe")
            proof.append(Proof(f"put through {node}", "this host", expected, seen, expected in seen))
        return proof

    def proof_seconds(self, in_force: bool) -> float:
        """Until every member has applied the alarm; until the cluster takes writes again."""
        return 20.0 if in_force else 60.0
