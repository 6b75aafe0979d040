"""Replacing a member whose data is not to be trusted: removed, wiped, added as a learner, promoted.

Putting an older copy of its directory back would be a rollback, which Raft does not allow for (a member must never
forget what it has acknowledged); so it comes back as another member, with another id and no data
(etcd's docs, op-guide/runtime-configuration, "Replace a failed machine"; learners: learning/design-learner).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

from chaos.faults import records
from chaos.lab.lab import Lab
from chaos.member import join, volume
from chaos.member.join import entry_of
from infra.cluster import EndpointStatus, Member
from infra.layout import CONFIG_FILE
from machine.errors import LabError, ToolError, UsageError
from machine.log import Say
from machine.waiting import Pending, wait_until

DAMAGING = frozenset({"bit-flip", "truncate", "rollback", "lost-writes"})
"""Names of the faults after which a member's data is not to be trusted."""

CHANGE_SECONDS = 60.0
"""For one change of membership: etcd refuses it until all have been connected for 5 s (E etcdserver/server.go)."""
CALL_SECONDS = 8.0
"""For one question that needs the quorum: longer than an election, which a stopped leader leads to."""

START_SECONDS = 120.0
CATCH_UP_SECONDS = 180.0

DAMAGE_SIGNS = re.compile(
    r"crc mismatch|checksum (error|mismatch)|failed to (read|open) WAL|failed to recover v3 backend|"
    r"tocommit\(\d+\) is out of range|no available snapshot|invalid database|"
    r"unexpected fault address|freepages|page \d+ already freed|invalid page type|assertion failed|"
    r"snapshot .{0,80}doesn't exist|has already been bootstrapped|"
    r"permanently removed from the cluster|data inconsistency with peers|"
    r"data.{0,20}corrupt|corrupt.{0,20}data|unexpected EOF",
    re.IGNORECASE,
)
"""What a member says that cannot run on what it has, or that the cluster has removed."""

_HOW_IT_IS = (
    f"s=$(systemctl show -P ActiveState etcd.service); [ ! -e {volume.DAMAGE} ] || s=damaged; echo $s; "
    "[ $s = active ] || journalctl --no-pager -o cat -u etcd.service -n 60"
)


def needs_replacing(lab: Lab) -> list[str]:
    """Nodes whose member has to be replaced for the cluster to be whole, in the manifest's order.

    Those that a record or a note beside their data says are damaged, that the member list lacks or has as learners
    only, and those whose etcd does not run and says that its data is the reason. Without a quorum the list is left out.
    """
    found = {name for record in damage_records(lab) for name in record.nodes}
    with contextlib.suppress(ToolError):
        members = lab.cluster.members(CALL_SECONDS)
        for node in lab.manifest.nodes:
            entry = entry_of(members, node)
            if entry is None or entry.learner:
                found.add(node.name)
    for name in lab.running():
        with contextlib.suppress(LabError):
            state, _, log = lab.shell(name).run(_HOW_IT_IS, seconds=20, check=False).stdout.partition("\n")
            if state.strip() == "damaged" or (state.strip() != "active" and DAMAGE_SIGNS.search(log)):
                found.add(name)
    return [name for name in lab.manifest.node_names if name in found]


def damage_records(lab: Lab) -> list[records.Record]:
    """Records of faults after which the data of their nodes' members is not to be trusted."""
    return [record for record in records.load_all(lab.paths)[0] if record.name in DAMAGING]


def replace(lab: Lab, node: str, say: Say | None = None) -> Member:
    """Make the member on `node` a new one with the cluster's data; gives it, healthy and voting.

    Goes on from any half state that an earlier call left. Raises UsageError where no other members are left to carry
    the cluster, LabError when they do not, DeadlineError when etcd does not follow in time.
    """
    tell = say or (lambda _text: None)
    _check(lab, node)
    entry = entry_of(_members(lab, node), lab.manifest.node(node))
    status = _status(lab, node)
    if not (entry and entry.learner and status.ok and status.member_id == entry.id):
        if status.leader:
            with contextlib.suppress(LabError):
                lab.cluster.move_leader(next(name for name in lab.manifest.node_names if name != node))
        tell(f"{node}: etcd is stopped, its data wiped")
        lab.shell(node).run(join.WIPE, seconds=join.SCRIPT_SECONDS)
        if entry and (entry.name or not entry.learner):
            _remove(lab, node, entry.id)
            tell(f"{node}: member {entry.id:x} removed")
        entry = _join(lab, node)
        tell(f"{node}: learner {entry.id:x} added and started")
    _wait_started(lab, node, entry.id)
    _promote(lab, node, entry.id)
    lab.shell(node).run(join.FORGET, seconds=60)
    lab.cluster.wait_healthy(CATCH_UP_SECONDS)
    tell(f"{node}: member {entry.id:x} votes, all are healthy")
    return entry


def _remove(lab: Lab, node: str, member_id: int) -> None:
    _change(
        lab,
        node,
        f"Removing the member of {node}",
        done=lambda found: found is None or found.id != member_id,
        ask=lambda: lab.cluster.remove_member(member_id, without=node),
        seconds=CHANGE_SECONDS,
    )


def _join(lab: Lab, node: str) -> Member:
    """Add the node as a learner, unless it is one that never started, and start it with no data."""
    deployed = lab.shell(node).run(f"cat {CONFIG_FILE}", seconds=20).stdout
    url = join.advertised(deployed)
    _change(
        lab,
        node,
        f"Adding {node} as a learner",
        done=lambda found: found is not None,
        ask=lambda: lab.cluster.add_learner(url, without=node),
        seconds=CHANGE_SECONDS,
    )
    members = _members(lab, node)
    entry = entry_of(members, lab.manifest.node(node))
    if entry is None:
        raise LabError(f"{node} was added and is not in the member list", next="./lab heal goes on.")
    config = join.configuration(deployed, join.initial_cluster(lab.manifest, members))
    lab.shell(node).run(join.JOIN, seconds=join.SCRIPT_SECONDS, stdin=config)
    return entry


def _promote(lab: Lab, node: str, member_id: int) -> None:
    _change(
        lab,
        node,
        f"Promoting {node}",
        done=lambda found: found is not None and not found.learner,
        ask=lambda: lab.cluster.promote_member(member_id, without=node),
        seconds=CATCH_UP_SECONDS,
    )


def _check(lab: Lab, node: str) -> None:
    others = [name for name in lab.manifest.node_names if name != node]
    lab.manifest.node(node)
    if not others:
        raise UsageError(
            f"{node} is the only member: without it there is nothing to replace it from",
            next="Build a lab of three nodes for this, or build this one anew.",
        )
    needed = len(others) // 2 + 1

    def carried() -> None:
        healthy = [one.node for one in lab.cluster.health() if one.healthy and one.node != node]
        if len(healthy) < needed:
            raise Pending(f"healthy besides {node}: {', '.join(healthy) or 'none'}; needed are {needed}")

    wait_until(
        carried,
        f"Replacing {node} needs a quorum of the others",
        seconds=CHANGE_SECONDS,
        next="Heal the others first: removing a member now would take the quorum away.",
    )


def _members(lab: Lab, node: str) -> list[Member]:
    """The member list as the others' quorum has it."""

    def listed() -> list[Member]:
        try:
            return lab.cluster.members(CALL_SECONDS, without=node)
        except ToolError as error:
            raise Pending(error.tail or str(error)) from error

    return wait_until(listed, "The member list", seconds=CHANGE_SECONDS, next="./lab status shows who answers.")


def _status(lab: Lab, node: str) -> EndpointStatus:
    return next(status for status in lab.cluster.status(CALL_SECONDS) if status.node == node)


def _change(
    lab: Lab, node: str, what: str, *, done: Callable[[Member | None], bool], ask: Callable[[], object], seconds: float
) -> None:
    """Ask for a change of membership until the member list shows it; etcd may refuse for a while."""

    def attempt() -> None:
        refusal = ""
        try:
            if done(entry_of(lab.cluster.members(CALL_SECONDS, without=node), lab.manifest.node(node))):
                return
            ask()
        except ToolError as error:
            refusal = error.tail or str(error)
        raise Pending(refusal or "asked")

    wait_until(attempt, what, seconds=seconds, every=0.5, next="./lab heal goes on where this ended.")


def _wait_started(lab: Lab, node: str, member_id: int) -> None:
    """Wait for the first answer of the new member; see that it has entries to apply meanwhile.

    One that came by a snapshot of more than 5000 entries refuses its own first request, "too many requests", until it
    has applied an entry of the log: the snapshot alone does not move the index that it compares with (seen with 3.6.16
    in a cluster without writes, for minutes; E server/etcdserver/v3_server.go, maxGapBetweenApplyAndCommitIndex).
    """

    def started() -> None:
        status = _status(lab, node)
        if not status.ok:
            with contextlib.suppress(LabError):
                lab.cluster.alarms(CALL_SECONDS, without=node)
            raise Pending(status.error)
        if status.member_id != member_id:
            raise Pending(f"it is still {status.member_id:x}")

    wait_until(started, f"The new member on {node}", seconds=START_SECONDS, every=0.5, next=f"See ./lab logs {node}.")
