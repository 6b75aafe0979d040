"""What of a cluster is not as the lab describes it: members, alarms, versions, authentication.

`./lab status`, `health` and `heal` and the steady state of every scenario ask the same question, and get the same
findings; all but `observe` is pure. Looking changes nothing: it takes the members' own status, in which every alarm
stands (E server/etcdserver/api/v3rpc/maintenance.go, Status), and a member list that is answered locally. A list of
alarms and `etcdctl endpoint health` are entries in the raft log from 3.5 on, so neither is asked for.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from infra.cluster import STATUS_SECONDS, Alarm, Cluster, EndpointStatus, Member
from infra.gateway import CallError
from infra.manifest import PEER_PORT, Manifest, Node
from machine.errors import LabError

Kind = Literal[
    "foreign member",
    "foreign learner",
    "learner",
    "missing member",
    "duplicate name",
    "peer URL",
    "alarm",
    "other cluster",
    "versions",
    "no quorum",
    "authentication",
]

_ALARM: Final = re.compile(r"(?:memberID:\s*(\d+)\s+)?alarm:\s*(\w+)")
"""An alarm as a status spells it: protobuf's text form, with one space or two (by the build)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not belong, or is not as described."""

    kind: Kind
    what: str
    """A clause: `member 1f (https://…) is not a node of this lab`."""
    command: str
    """The command that repairs it."""
    by_heal: bool = False
    """Whether `./lab heal` may do it: nothing is lost by it."""
    member_id: int = 0
    """The member or the alarm that it is about; 0: none."""
    node: str = ""
    """The node that it is about; "": none."""
    alarm: str = ""
    """The alarm that it is about: NOSPACE or CORRUPT; "": none."""
    grave: bool = True
    """Whether a cluster like this is not the one that the lab describes; else it is only worth knowing."""

    def __str__(self) -> str:
        return f"{self.what}: {self.command}"


@dataclass(frozen=True, slots=True)
class Observed:
    """What the members said of themselves and of each other."""

    statuses: tuple[EndpointStatus, ...]
    members: tuple[Member, ...] | None
    """The member list as the leader has it, or a member that follows; None when nobody gave one."""
    auth: bool = False

    def status(self, node: str) -> EndpointStatus | None:
        """What the member on `node` said."""
        return next((one for one in self.statuses if one.node == node), None)

    @property
    def led(self) -> bool:
        """Whether some member knows a leader."""
        return any(one.ok and one.leader_id for one in self.statuses)


@dataclass(frozen=True, slots=True)
class Membership:
    """The member list beside the manifest."""

    of: Mapping[str, Member]
    """Entry of each node that has one."""
    foreign: tuple[Member, ...]
    voters: tuple[Member, ...] = field(default=())

    @property
    def quorum(self) -> int:
        """Voting members that must agree, of those there are."""
        return len(self.voters) // 2 + 1

    def node_of(self, member_id: int) -> str:
        """The node with this entry; "" when it is none of the lab's."""
        return next((node for node, entry in self.of.items() if entry.id == member_id), "")


def observe(cluster: Cluster, seconds: float = STATUS_SECONDS) -> Observed:
    """Ask all members; each call takes at most about `seconds`."""
    statuses = cluster.status(seconds)
    home = home_of(statuses)
    ours = [one for one in statuses if one.ok and one.cluster_id == home]
    ours.sort(key=lambda one: (not one.leader, one.leader_id == 0))
    members: tuple[Member, ...] | None = None
    auth = False
    for one in ours:
        with contextlib.suppress(LabError):
            members = tuple(cluster.members_on(one.node, seconds))
            break
    if cluster.gateway.auth_met and ours:
        with contextlib.suppress(CallError):
            auth = cluster.gateway.auth_on(cluster.manifest.node(ours[0].node), seconds)
    return Observed(tuple(statuses), members, auth)


def home_of(statuses: Sequence[EndpointStatus]) -> int:
    """Id of the cluster that most members speak of; among equals one with a leader. 0 when none answers."""
    counted = Counter(one.cluster_id for one in statuses if one.ok)
    led = {one.cluster_id for one in statuses if one.ok and one.leader_id}
    return max(counted, key=lambda known: (counted[known], known in led), default=0)


def compare(manifest: Manifest, members: Sequence[Member], statuses: Sequence[EndpointStatus] = ()) -> Membership:
    """Which entry is which node's: by the id that the node itself gives, else by its peer URL, else by its name."""
    left = list(members)
    of: dict[str, Member] = {}
    ids = {one.node: one.member_id for one in statuses if one.ok}

    def take(node: Node, entry: Member | None) -> None:
        if entry is not None and node.name not in of:
            of[node.name] = entry
            left.remove(entry)

    for node in manifest.nodes:
        take(node, next((one for one in left if one.id == ids.get(node.name)), None))
    for node in manifest.nodes:
        take(node, next((one for one in left if _at(one, node)), None))
    for node in manifest.nodes:
        take(node, next((one for one in left if one.name == node.name), None))
    return Membership(of, tuple(left), tuple(one for one in members if not one.learner))


def examine(manifest: Manifest, seen: Observed) -> list[Finding]:
    """Everything that is not as the manifest describes, in the order in which it is repaired."""
    found: list[Finding] = []
    asked = next((one.node for one in seen.statuses if one.ok), manifest.node_names[0])
    home = home_of(seen.statuses)
    strays = {one.node for one in seen.statuses if one.ok and one.cluster_id != home}
    known: Membership | None = None
    if seen.members is not None:
        settled = [one for one in seen.statuses if one.node not in strays]
        known = compare(manifest, seen.members, settled)
        found += _foreign(known, asked)
        found += _of_nodes(manifest, known, asked, strays)
        found += _names(seen.members)
    for one in seen.statuses:
        if one.node in strays:
            what = f"etcd on {one.node} belongs to another cluster ({one.cluster_id:x}, the others to {home:x})"
            # its data is not ours to remove
            command = f"keep what you need of {one.node}, then ./lab destroy and ./lab up"
            found.append(Finding("other cluster", what, command, node=one.node))
    found += [_alarm(alarm, known) for alarm in alarms_of(seen.statuses)]
    found += _versions(manifest, seen.statuses)
    if known is not None:
        found += _quorum(known, seen)
    if seen.auth:
        found.append(
            Finding(
                "authentication",
                "authentication is on: the lab calls etcd over gRPC as the user root (the CommonName of its client "
                "certificate), as the JSON gateway refuses it; its clients are that user too",
                f"./lab ctl {asked} auth disable turns it off",
                grave=False,
            )
        )
    return found


def graves(found: Sequence[Finding]) -> list[Finding]:
    """Those findings with which the cluster is not the one described."""
    return [one for one in found if one.grave]


def alarms_of(statuses: Sequence[EndpointStatus]) -> list[Alarm]:
    """The alarms in force, each once, as the members' own status has them."""
    found: dict[Alarm, None] = {}
    for one in statuses:
        for error in one.errors:
            for member_id, kind in _ALARM.findall(error):
                found[Alarm(int(member_id or 0), kind)] = None
    return list(found)


def url_of(manifest: Manifest, node: Node) -> str:
    """The peer URL that the node is deployed with (deploy.plan.etcd_settings)."""
    return f"https://{node.address if manifest.peers == 'address' else node.name}:{PEER_PORT}"


def described(member: Member) -> str:
    """A member in words: `member 1f 'extra' (https://10.0.0.9:2380)`."""
    name = f" {member.name!r}" if member.name else ""
    return f"member {member.id:x}{name} ({', '.join(member.peer_urls) or 'no peer URL'})"


def _at(member: Member, node: Node) -> bool:
    hosts = {url.partition("://")[2].rpartition(":")[0] for url in member.peer_urls}
    return bool(hosts & {str(node.address), node.name})


def _foreign(known: Membership, asked: str) -> Iterator[Finding]:
    size = f"{known.quorum} of {len(known.voters)}"
    for one in known.foreign:
        started = bool(one.name)
        what = f"{described(one)} is not a node of this lab; it {'' if started else 'has never started and '}"
        what += "is a learner" if one.learner else f"votes, which makes the quorum {size}"
        yield Finding(
            "foreign learner" if one.learner else "foreign member",
            what,
            f"./lab ctl {asked} member remove {one.id:x} removes it",
            by_heal=not started,
            member_id=one.id,
        )


def _of_nodes(manifest: Manifest, known: Membership, asked: str, strays: set[str]) -> Iterator[Finding]:
    for node in manifest.nodes:
        entry = known.of.get(node.name)
        if entry is None:
            if node.name not in strays:
                what = f"{node.name} is not in the member list: it was removed from the cluster"
                command = "./lab heal lets it join again as a new member"
                yield Finding("missing member", what, command, by_heal=True, node=node.name)
            continue
        if entry.learner:
            what = f"{node.name} is a learner ({described(entry)}), left when it was being replaced, and does not vote"
            command = "./lab heal promotes or replaces it"
            yield Finding("learner", what, command, by_heal=True, node=node.name, member_id=entry.id)
        url = url_of(manifest, node)
        if entry.peer_urls != (url,):
            listed = ", ".join(entry.peer_urls) or "no peer URL"
            what = f"the member list has {node.name} at {listed}, not at {url}, so that the others may not reach it"
            command = f"./lab ctl {asked} member update {entry.id:x} --peer-urls={url} corrects it"
            yield Finding("peer URL", what, command, by_heal=True, node=node.name, member_id=entry.id)


def _names(members: Sequence[Member]) -> Iterator[Finding]:
    for name, count in Counter(one.name for one in members if one.name).items():
        if count > 1:
            ids = ", ".join(f"{one.id:x}" for one in members if one.name == name)
            what = f"{count} members are called {name!r} ({ids})"
            command = "remove the one that is not a node of this lab"
            yield Finding("duplicate name", what, command)


def _alarm(alarm: Alarm, known: Membership | None) -> Finding:
    node = known.node_of(alarm.member_id) if known else ""
    listed = known is None or any(one.id == alarm.member_id for one in (*known.of.values(), *known.foreign))
    whose = node or f"member {alarm.member_id:x}"
    effect = "writes are refused" if alarm.kind == "NOSPACE" else "reads and writes are refused"
    what = f"alarm {alarm.kind} of {whose}" + ("" if listed else ", which is in the member list no more")
    return Finding(
        "alarm",
        f"{what}: {effect}",
        "./lab heal disarms it once its cause is gone",
        by_heal=True,
        member_id=alarm.member_id,
        node=node,
        alarm=alarm.kind,
    )


def _versions(manifest: Manifest, statuses: Sequence[EndpointStatus]) -> Iterator[Finding]:
    runs = {one.node: one.version for one in statuses if one.ok and one.version}
    others = {node: version for node, version in runs.items() if version != manifest.etcd_version}
    if others:
        said = ", ".join(f"{node} {version}" for node, version in others.items())
        what = f"not all members run etcd {manifest.etcd_version}, which the lab was built with: {said}"
        yield Finding("versions", what, "./lab up installs it")


def _quorum(known: Membership, seen: Observed) -> Iterator[Finding]:
    answering = [node for node, entry in known.of.items() if not entry.learner and _answers(seen, node)]
    if len(answering) < known.quorum and not seen.led:
        what = f"no quorum: {known.quorum} of {len(known.voters)} voting members are needed, and "
        what += f"{len(answering)} answer ({', '.join(answering) or 'none'})"
        yield Finding("no quorum", what, "./lab heal starts what is down, or says why it cannot")


def _answers(seen: Observed, node: str) -> bool:
    status = seen.status(node)
    return status is not None and status.ok
