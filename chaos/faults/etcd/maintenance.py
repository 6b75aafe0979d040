"""What operators do to a running cluster, and what it should bear: compaction, defragmentation, another leader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Fault, Proof
from chaos.faults.etcd import keys
from chaos.faults.oneshot import OneShot, changed, recall, remember
from chaos.lab.lab import Lab
from chaos.lab.scripts import each
from infra.layout import DATA_DIR
from machine.errors import LabError, UsageError

COMPACTED = "required revision has been compacted"
"""etcd's refusal of a read of the past (E api/v3rpc/rpctypes/error.go, ErrGRPCCompacted)."""

DEFRAGMENT_SECONDS = 60.0
"""A member writes its whole database anew and serves nobody meanwhile (E server/storage/backend/backend.go)."""

HEALTHY_SECONDS = 60.0

DB_FILE = f"{DATA_DIR}/member/snap/db"


def one_node(fault: Fault, role: str) -> None:
    """Raise UsageError unless the fault names one node; `role` says what it is to be."""
    if len(fault.nodes) != 1:
        raise UsageError(
            f"{fault.name} takes one node, {role}; here are {len(fault.nodes)}: {', '.join(fault.nodes)}",
            where="--target",
            next="Name one node.",
        )


@dataclass(frozen=True)
class EtcdFault(OneShot):
    """What etcd's own interface does, asked of its nodes."""

    family: ClassVar[str] = "etcd"

    def place(self, lab: Lab) -> str:  # noqa: ARG002
        """etcd's interface for clients."""
        return "etcd"

    def healthy(self, lab: Lab) -> list[Proof]:
        """That every node of it can commit."""
        health = {one.node: one for one in lab.cluster.health()}
        return [
            Proof(f"health of {node}", "this host", "healthy", health[node].reason or "healthy", health[node].healthy)
            for node in self.nodes
        ]

    def proof_seconds(self, in_force: bool) -> float:
        """Until every member has applied it; until all are well."""
        return 20.0 if in_force else HEALTHY_SECONDS


@dataclass(frozen=True)
class Compact(EtcdFault):
    """Forget all history before the newest revision, on every member (compaction goes through Raft)."""

    name: ClassVar[str] = "compact"
    summary: ClassVar[str] = "compact the history up to the newest revision, on every member"

    def facts(self, lab: Lab) -> dict[str, str]:
        """A revision of the past that can be read: a key written for it."""
        node = self.nodes[0]
        revision = keys.put(lab, node, "compact", "before")
        keys.put(lab, node, "compact", "after")
        return {"revision": str(revision), "read before": keys.read_at(lab, node, "compact", revision)}

    def apply(self, lab: Lab) -> None:
        """Asked of the first node; when it returns, the old revisions are out of the database (physical)."""
        node = self.nodes[0]
        newest = next(status.revision for status in lab.cluster.status() if status.node == node)
        try:
            lab.cluster.call(node, "kv/compaction", {"revision": str(newest), "physical": True}, DEFRAGMENT_SECONDS)
        except LabError as error:
            if COMPACTED not in str(error):  # somebody else has just done it
                raise
        remember(lab.paths, self.id, {**recall(lab.paths, self.id), "compacted": str(newest)})

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """Every member that runs refuses to read the past."""
        if not in_force:
            return self.healthy(lab)
        before = self.before(lab)
        revision = int(before.get("revision") or 0)
        proof = [Proof("read before", "this host", "there", before.get("read before", ""), bool(revision))]
        for node in lab.running():
            seen = keys.read_at(lab, node, "compact", revision)
            proof.append(
                Proof(f"read at revision {revision} on {node}", "this host", COMPACTED, seen, COMPACTED in seen)
            )
        return proof


@dataclass(frozen=True)
class Defragment(EtcdFault):
    """Write the database file of members anew, one after the other; each serves nobody meanwhile."""

    name: ClassVar[str] = "defragment"
    summary: ClassVar[str] = "defragment the database of members, one after the other"

    def facts(self, lab: Lab) -> dict[str, str]:
        """The database files, and their sizes."""
        return _db_files(lab, self.nodes)

    def apply(self, lab: Lab) -> None:
        """One at a time, as operators do."""
        for node in self.nodes:
            lab.cluster.call(node, "maintenance/defragment", {}, DEFRAGMENT_SECONDS)

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """Another file is in place (etcd writes a new one and renames it)."""
        if not in_force:
            return self.healthy(lab)
        before = self.before(lab)
        return [changed(what, "guest", before.get(what), now) for what, now in _db_files(lab, self.nodes).items()]


@dataclass(frozen=True)
class MoveLeader(EtcdFault):
    """Ask the leader to hand over to a node."""

    name: ClassVar[str] = "move-leader"
    summary: ClassVar[str] = "hand leadership over to one node"

    def check(self, lab: Lab) -> None:
        """One node, which does not lead."""
        one_node(self, "who is to lead")
        if lab.leader() == self.nodes[0]:
            raise UsageError(
                f"{self.nodes[0]} leads already", where="--target", next="Name a follower, or say `follower`."
            )

    def facts(self, lab: Lab) -> dict[str, str]:
        """Who leads, and the term."""
        return {"leader": lab.leader() or "", "term": str(max(lab.terms().values(), default=0))}

    def apply(self, lab: Lab) -> None:
        """Until it leads."""
        lab.lead_from(self.nodes[0])

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """The node leads, and did not; in a higher term."""
        if not in_force:
            return self.healthy(lab)
        before, leader = self.before(lab), lab.leader() or "nobody"
        term, was = max(lab.terms().values(), default=0), int(before.get("term") or 0)
        wanted = self.nodes[0]
        holds = leader == wanted != before.get("leader", wanted)
        expected = f"{wanted}, not {before.get('leader', 'known')}"
        return [
            Proof("leader", "this host", expected, leader, holds),
            Proof("term", "this host", f"more than {was}", str(term), 0 < was < term),
        ]


def _db_files(lab: Lab, nodes: tuple[str, ...]) -> dict[str, str]:
    """Inode and bytes of each node's database file; "" where nobody could look."""
    said = each(lab, nodes, f"stat -c 'inode %i, %s bytes' {DB_FILE}", check=False)
    return {f"database file of {node}": one.stdout.strip() for node, one in said.items()}
