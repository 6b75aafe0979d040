"""The cluster as seen from outside: status, health, members, alarms, leader.

Speaks etcd's JSON gateway (HTTPS with the lab's client certificate, POST /v3/…; paths and names in
etcd's api/etcdserverpb/rpc.proto, alike from 3.4 to 3.7) and the metrics port (`/health`, plain
HTTP), through sockets made inside the lab's namespace. All members are asked at the same time, each
in its own thread. Whole numbers arrive as text and zeros may be left out (proto3's JSON mapping).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from infra.gateway import CallError, Gateway, Kind, flag, number
from infra.manifest import Manifest, Node
from machine.errors import LabError, ToolError
from machine.paths import StackPaths
from machine.waiting import Pending, wait_until

T = TypeVar("T")

STATUS_SECONDS: Final = 2.0
"""Limit of a status call; it is answered locally, so slowness is the machine's or the network's."""
HEALTH_SECONDS: Final = 8.0
"""Limit of a health call; without quorum etcd itself gives up after 5 s + 2 election timeouts (server/config)."""

_ALARMS: Final = {0: "NONE", 1: "NOSPACE", 2: "CORRUPT"}


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What one member says about itself; without an answer `ok` is false, and `error` and `kind` say why.

    Ids are the member's numbers, 0 for none; sizes are bytes.
    """

    node: str
    ok: bool
    error: str = ""
    kind: Kind = ""
    member_id: int = 0
    cluster_id: int = 0
    version: str = ""
    db_size: int = 0
    db_size_in_use: int = 0
    db_size_quota: int = 0
    leader_id: int = 0
    learner: bool = False
    raft_term: int = 0
    raft_index: int = 0
    raft_applied_index: int = 0
    revision: int = 0
    errors: tuple[str, ...] = ()
    storage_version: str = ""

    @property
    def leader(self) -> bool:
        """Whether it takes itself for the leader."""
        return self.ok and self.leader_id != 0 and self.leader_id == self.member_id


@dataclass(frozen=True, slots=True)
class MemberHealth:
    """Whether a member can commit a proposal now; `seconds` until it said so, or until we gave up."""

    node: str
    healthy: bool
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of the member list; `name` is empty until it has started for the first time."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    learner: bool


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm that some member has raised."""

    member_id: int
    kind: str
    """NOSPACE or CORRUPT."""


@dataclass(frozen=True, slots=True)
class KvHash:
    """What one member answers to HashKV: members that hold the same data agree, at one compact revision."""

    hash: int
    compact_revision: int
    """Everything up to it may be gone; -1 or 0 when nothing was compacted."""


class Cluster:
    """The etcd cluster that a manifest describes."""

    def __init__(self, manifest: Manifest, paths: StackPaths) -> None:
        self.manifest = manifest
        self.gateway = Gateway(manifest.hypervisor.netns, paths)
        """Calls to single members."""

    def status(self, seconds: float = STATUS_SECONDS) -> list[EndpointStatus]:
        """Every member's status, in the manifest's order; answered without quorum too."""
        return self._each(lambda node: self._status(node, seconds))

    def health(self, seconds: float = HEALTH_SECONDS) -> list[MemberHealth]:
        """Every member's own answer to "can you commit?" (`/health`), in the manifest's order."""
        return self._each(lambda node: self._health(node, seconds))

    def members(self, seconds: float = STATUS_SECONDS, *, without: str = "") -> list[Member]:
        """The member list as the first member that answers has it; raises ToolError when none does.

        `without` a node: that one is not asked, and the others answer as the quorum has it (linearizable).
        """
        return _members(self._any("cluster/member/list", {"linearizable": bool(without)}, seconds, without))

    def members_on(self, node: str, seconds: float = STATUS_SECONDS) -> list[Member]:
        """The member list as this member has it, without asking the others; raises CallError.

        No entry in the log, and answered without a quorum.
        """
        listed = self.gateway.post(self.manifest.node(node), "cluster/member/list", {"linearizable": False}, seconds)
        return _members(listed)

    def remove_member(self, member_id: int, *, without: str = "", seconds: float = HEALTH_SECONDS) -> None:
        """Take a member out of the cluster, asked of any node but `without`; raises ToolError with etcd's word."""
        self._any("cluster/member/remove", {"ID": str(member_id)}, seconds, without)

    def add_learner(self, peer_url: str, *, without: str, seconds: float = HEALTH_SECONDS) -> Member:
        """Add a member that does not vote yet; raises ToolError with etcd's word."""
        body = {"peerURLs": [peer_url], "isLearner": True}
        added = self._any("cluster/member/add", body, seconds, without).get("member")
        return _member(added if isinstance(added, Mapping) else {})

    def promote_member(self, member_id: int, *, without: str, seconds: float = HEALTH_SECONDS) -> None:
        """Let a learner vote; raises ToolError with etcd's word, as long as it has not caught up."""
        self._any("cluster/member/promote", {"ID": str(member_id)}, seconds, without)

    def update_member(self, member_id: int, peer_url: str, seconds: float = HEALTH_SECONDS) -> None:
        """Write another peer URL into the member list; raises ToolError with etcd's word."""
        self._any("cluster/member/update", {"ID": str(member_id), "peerURLs": [peer_url]}, seconds)

    def disarm(self, alarm: Alarm, *, without: str = "", seconds: float = HEALTH_SECONDS) -> None:
        """Lower one alarm of one member, which need not exist any more; raises ToolError with etcd's word."""
        body = {"action": "DEACTIVATE", "memberID": str(alarm.member_id), "alarm": alarm.kind}
        self._any("maintenance/alarm", body, seconds, without)

    def call(self, node: str, path: str, body: Mapping[str, object], seconds: float) -> Mapping[str, object]:
        """One call of one member's JSON gateway, POST /v3/`path`; raises LabError with etcd's own words."""
        return self.gateway.post(self.manifest.node(node), path, body, seconds)

    def metrics(self, node: str, seconds: float) -> str:
        """One member's metrics page, as text; raises LabError when it does not answer."""
        return self.gateway.metrics(self.manifest.node(node), seconds)

    def alarms(self, seconds: float = HEALTH_SECONDS, *, without: str = "") -> list[Alarm]:
        """Alarms in force, [] when there are none, asked of any node but `without`; raises ToolError without an answer.

        etcd answers by an entry in the log that changes nothing (E server/etcdserver/v3_server.go, Alarm).
        """
        listed = self._any("maintenance/alarm", {"action": "GET"}, seconds, without).get("alarms")
        items = [item for item in listed if isinstance(item, Mapping)] if isinstance(listed, list) else []
        return [Alarm(number(item, "memberID"), _alarm_kind(item.get("alarm"))) for item in items]

    def leader(self, seconds: float = STATUS_SECONDS) -> str | None:
        """The node that leads, by its own word and the highest term; None when nobody does."""
        return leader_of(self.status(seconds))

    def move_leader(self, to: str, seconds: float = HEALTH_SECONDS) -> None:
        """Make node `to` the leader, and see that it is. Raises NotBuiltError, ToolError, DeadlineError."""
        target = self.manifest.node(to)

        def moved() -> None:
            statuses = {status.node: status for status in self.status()}
            leader = leader_of(list(statuses.values()))
            if leader == to:
                return
            if leader is None or not statuses[to].ok:
                raise Pending("no leader" if leader is None else statuses[to].error)
            try:
                self.gateway.post(
                    self.manifest.node(leader),
                    "maintenance/transfer-leadership",
                    {"targetID": str(statuses[to].member_id)},
                    seconds,
                )
            except CallError as error:
                raise Pending(str(error)) from error
            raise Pending(f"{leader} was asked to hand over")

        wait_until(moved, f"Moving the leader to {target.name}", seconds=3 * seconds, every=0.1)

    def hash_kv(self, revision: int = 0, seconds: float = STATUS_SECONDS) -> dict[str, int]:
        """Hash of the keys up to `revision` (0: its newest) per node; members that agree have equal ones.

        Raises ToolError when a member does not answer.
        """
        return {node: one.hash for node, one in self.hashes(revision, seconds).items()}

    def hashes(self, revision: int = 0, seconds: float = STATUS_SECONDS) -> dict[str, KvHash]:
        """The same with the compact revision, without which hashes cannot be compared."""

        return dict(self._each(lambda node: (node.name, self.hash_of(node.name, revision, seconds))))

    def hash_of(self, node: str, revision: int = 0, seconds: float = STATUS_SECONDS) -> KvHash:
        """One member's; raises ToolError when it does not answer."""
        try:
            return self._hash(self.manifest.node(node), revision, seconds)
        except CallError as error:
            raise ToolError(f"{node} does not tell its hash: {error}") from error

    def wait_healthy(self, seconds: float, on_wait: Callable[[float, str], None] | None = None) -> list[EndpointStatus]:
        """Wait until all members answer, know one leader and can commit; gives their status then.

        Raises DeadlineError with what was still missing.
        """

        def healthy() -> list[EndpointStatus]:
            statuses = self.status()
            problem = disagreement(statuses)
            if problem:
                raise Pending(problem)
            for health in self.health():
                if not health.healthy:
                    raise Pending(f"{health.node}: {health.reason}")
            return statuses

        return wait_until(
            healthy, "A healthy cluster", seconds=seconds, every=0.2, on_wait=on_wait, next="./lab logs NODE shows why."
        )

    def _each(self, call: Callable[[Node], T]) -> list[T]:
        with ThreadPoolExecutor(max_workers=len(self.manifest.nodes)) as pool:
            return list(pool.map(call, self.manifest.nodes))

    def _any(self, path: str, body: Mapping[str, object], seconds: float, without: str = "") -> Mapping[str, object]:
        seen = []
        for node in (node for node in self.manifest.nodes if node.name != without):
            try:
                return self.gateway.post(node, path, body, seconds)
            except CallError as error:
                seen.append(f"{node.name}: {error}")
        raise ToolError("No member answers", next="./lab status shows them.", tail="\n".join(seen))

    def _status(self, node: Node, seconds: float) -> EndpointStatus:
        try:
            answer = self.gateway.post(node, "maintenance/status", {}, seconds)
        except CallError as error:
            return EndpointStatus(node.name, ok=False, error=str(error), kind=error.kind)
        return status_from(node.name, answer)

    def _health(self, node: Node, seconds: float) -> MemberHealth:
        started = time.monotonic()
        try:
            healthy, reason = self.gateway.health(node, seconds)
        except LabError as error:
            healthy, reason = False, str(error).rstrip(".")
        return MemberHealth(node.name, healthy, reason, time.monotonic() - started)

    def _hash(self, node: Node, revision: int, seconds: float) -> KvHash:
        body = {"revision": str(revision)}
        try:
            answer = self.gateway.post(node, "maintenance/hashkv", body, seconds)
        except CallError as error:
            if error.status != 404:
                raise
            answer = self.gateway.post(node, "maintenance/hash", body, seconds)  # where 3.5 and earlier have it
        return KvHash(number(answer, "hash"), number(answer, "compact_revision"))


def leader_of(statuses: list[EndpointStatus]) -> str | None:
    """The node that takes itself for the leader in the highest term; None when nobody does."""
    leaders = [status for status in statuses if status.leader]
    return max(leaders, key=lambda status: status.raft_term).node if leaders else None


def disagreement(statuses: list[EndpointStatus]) -> str:
    """Why the members are not one working cluster, "" when they are."""
    for status in statuses:
        if not status.ok:
            return f"{status.node}: {status.error}"
        if status.errors:
            return f"{status.node}: {'; '.join(status.errors)}"
        if status.leader_id == 0:
            return f"{status.node}: knows no leader"
    if len({status.leader_id for status in statuses}) > 1:
        return "members name different leaders"
    if len({status.cluster_id for status in statuses}) > 1:
        return "members belong to different clusters"
    return "" if leader_of(statuses) else "the leader is none of the lab's nodes"


def status_from(node: str, answer: Mapping[str, object]) -> EndpointStatus:
    """A status answer of the gateway as data."""
    header = answer.get("header")
    head = header if isinstance(header, Mapping) else {}
    errors = answer.get("errors")
    return EndpointStatus(
        node,
        ok=True,
        member_id=number(head, "member_id"),
        cluster_id=number(head, "cluster_id"),
        version=str(answer.get("version", "")),
        db_size=number(answer, "dbSize"),
        db_size_in_use=number(answer, "dbSizeInUse"),
        db_size_quota=number(answer, "dbSizeQuota"),
        leader_id=number(answer, "leader"),
        learner=flag(answer, "isLearner"),
        raft_term=number(answer, "raftTerm"),
        raft_index=number(answer, "raftIndex"),
        raft_applied_index=number(answer, "raftAppliedIndex"),
        revision=number(head, "revision"),
        errors=tuple(str(error) for error in errors) if isinstance(errors, list) else (),
        storage_version=str(answer.get("storageVersion", "")),
    )


def _members(answer: Mapping[str, object]) -> list[Member]:
    listed = answer.get("members")
    return [_member(item) for item in listed if isinstance(item, Mapping)] if isinstance(listed, list) else []


def _member(item: Mapping[str, object]) -> Member:
    def urls(key: str) -> tuple[str, ...]:
        listed = item.get(key)
        return tuple(str(url) for url in listed) if isinstance(listed, list) else ()

    return Member(
        number(item, "ID"), str(item.get("name", "")), urls("peerURLs"), urls("clientURLs"), flag(item, "isLearner")
    )


def _alarm_kind(value: object) -> str:
    return _ALARMS.get(value, str(value)) if isinstance(value, int) else str(value)
