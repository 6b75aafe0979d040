"""Replacing a member whose data is not to be trusted: removed, wiped, added as a learner, promoted.

Putting an older copy of its directory back would be a rollback, which Raft does not allow for (a member must never
forget what it has acknowledged); so it comes back as another member, with another id and no data
(etcd's docs, op-guide/runtime-configuration, "Replace a failed machine"; learners: learning/design-learner).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence

from chaos.lab.lab import Lab
from chaos.member import join, journal, volume
from chaos.member.join import entry_of
from infra.cluster import EndpointStatus, Member
from infra.findings import alarms_of, compare, home_of
from infra.layout import CONFIG_FILE, DATA_DIR
from machine.errors import LabError, ToolError, UsageError
from machine.log import Say
from machine.waiting import Pending, wait_until

CHANGE_SECONDS = 60.0
"""For one change of membership: etcd refuses it until all have been connected for 5 s (E etcdserver/server.go)."""
CALL_SECONDS = 8.0
"""For one question that needs the quorum: longer than an election, which a stopped leader leads to."""

START_SECONDS = 120.0
CATCH_UP_SECONDS = 180.0

_HOW_IT_IS = (
    f"s=$(systemctl show -P ActiveState etcd.service); [ ! -e {volume.DAMAGE} ] || s=damaged; "
    # an etcd that was wiped and not yet added has nothing to lose
    f"[ -e {DATA_DIR}/member/wal ] || s=$s-empty; echo $s; case $s in active*) ;; *) {journal.LINES} ;; esac"
)


def needs_replacing(lab: Lab, damaged: Collection[str] = ()) -> list[str]:
    """Nodes whose member has to be replaced for the cluster to be whole, in the manifest's order.

    Those that are known to be `damaged`, that a note beside their data says are, that the member list has as learners
    only, whose etcd does not run and says that its own data is the reason, or that the cluster has removed it; and
    those that the list lacks and that have no data. The unit's state proves nothing: a removed member reports READY to
    systemd and exits with 0 or 1. Nor is a member wiped for what is said elsewhere: one that the list lacks and that
    has data goes on until it says itself that it was removed. Without a quorum the list is left out.
    """
    found = set(damaged)
    statuses = lab.cluster.status(CALL_SECONDS)
    home = home_of(statuses)
    absent: set[str] = set()
    with contextlib.suppress(ToolError):
        settled = [one for one in statuses if one.ok and one.cluster_id == home]
        known = compare(lab.manifest, lab.cluster.members(CALL_SECONDS), settled).of
        found |= {name for name, entry in known.items() if entry.learner}
        absent = set(lab.manifest.node_names) - set(known)
    inconsistent: list[str] = []
    for name in lab.running():
        with contextlib.suppress(LabError):
            state, _, log = lab.shell(name).run(_HOW_IT_IS, seconds=20, check=False).stdout.partition("\n")
            state = state.strip()
            nothing_to_lose = state.endswith("empty") and name in absent
            if state.startswith("damaged") or nothing_to_lose or (state != "active" and journal.damage(log)):
                found.add(name)
            elif state != "active" and journal.inconsistent(log):
                inconsistent.append(name)
    found |= {name for name in inconsistent if _others_agree(lab, name, statuses)}
    return [name for name in lab.manifest.node_names if name in found]


def _others_agree(lab: Lab, node: str, statuses: Sequence[EndpointStatus]) -> bool:
    """Whether all other members hold the same data and are a quorum: then it is this one's that is wrong."""
    others = [one for one in statuses if one.node != node and one.ok and one.leader_id]
    if len(others) < lab.manifest.quorum:
        return False
    revision = min(one.revision for one in others)
    try:
        hashes = {lab.cluster.hash_of(one.node, revision) for one in others}
    except LabError:
        return False
    return len(hashes) == 1


def replace(lab: Lab, node: str, say: Say | None = None, *, whole: bool = True) -> Member:
    """Make the member on `node` a new one with the cluster's data; gives it, healthy and voting.

    Goes on from any half state that an earlier call, or `retire`, left. Without `whole` the other members need not be
    healthy in the end, as when several are being replaced. Raises UsageError where no other members are
    left to carry the cluster, LabError when they do not, DeadlineError when etcd does not follow in time.
    """
    tell = say or (lambda _text: None)
    entry = retire(lab, node, tell)
    if entry is None:
        entry = _join(lab, node)
        tell(f"{node}: learner {entry.id:x} added and started")
    _wait_started(lab, node, entry.id)
    _promote(lab, node, entry.id)
    lab.shell(node).run(join.FORGET, seconds=60)
    if whole:
        lab.cluster.wait_healthy(CATCH_UP_SECONDS)
    else:
        wait_until(lambda: _require_serving(lab, node), f"The new member on {node}", seconds=CATCH_UP_SECONDS)
    tell(f"{node}: member {entry.id:x} votes, {'all are' if whole else 'it is'} healthy")
    return entry


def retire(lab: Lab, node: str, say: Say | None = None) -> Member | None:
    """Take the member on `node` out of the cluster, its data wiped: what replacing it begins with.

    Gives the entry of a learner that has started and runs: it is left, as it only has to be promoted. Alarms of the
    member end with it, as nobody else would disarm them. Raises as `replace` does.
    """
    tell = say or (lambda _text: None)
    members = _check(lab, node)
    entry = entry_of(members, lab.manifest.node(node))
    status = _status(lab, node)
    if entry and entry.learner and status.ok and status.member_id == entry.id:
        return entry
    if status.leader:
        with contextlib.suppress(LabError):
            lab.cluster.move_leader(next(name for name in lab.manifest.node_names if name != node))
    tell(f"{node}: etcd is stopped, its data wiped")
    lab.shell(node).run(join.WIPE, seconds=join.SCRIPT_SECONDS)
    if entry and (entry.name or not entry.learner):
        _remove(lab, node, entry.id)
        tell(f"{node}: member {entry.id:x} removed")
        for alarm in alarms_of(lab.cluster.status(CALL_SECONDS)):
            if alarm.member_id == entry.id:
                lab.cluster.disarm(alarm, without=node)
                tell(f"{node}: alarm {alarm.kind} of member {entry.id:x} disarmed")
    return None


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


def _check(lab: Lab, node: str) -> list[Member]:
    """See that the others are a quorum without this member, of the voting members there are; gives the member list."""
    others = [name for name in lab.manifest.node_names if name != node]
    lab.manifest.node(node)
    if not others:
        raise UsageError(
            f"{node} is the only member: without it there is nothing to replace it from",
            next="Build a lab of three nodes for this, or build this one anew.",
        )

    def carried() -> list[Member]:
        try:
            members = lab.cluster.members(CALL_SECONDS, without=node)
        except ToolError as error:
            raise Pending(error.tail or str(error)) from error
        needed = sum(not one.learner for one in members) // 2 + 1
        serving = [name for name in _serving(lab) if name != node]
        if len(serving) < needed:
            raise Pending(f"healthy besides {node}: {', '.join(serving) or 'none'}; needed are {needed}")
        return members

    return wait_until(
        carried,
        f"Replacing {node} needs a quorum of the others",
        seconds=CHANGE_SECONDS,
        next="Heal the others first: removing a member now would take the quorum away.",
    )


def _serving(lab: Lab) -> list[str]:
    """Nodes that can commit: healthy, or unhealthy by an alarm alone, with which members can still be changed."""
    healthy = {one.node for one in lab.cluster.health() if one.healthy}
    alarmed = {
        one.node for one in lab.cluster.status(CALL_SECONDS)
        if one.ok and one.leader_id and one.errors and all("alarm:" in error for error in one.errors)
    }  # fmt: skip
    return [name for name in lab.manifest.node_names if name in healthy | alarmed]


def _require_serving(lab: Lab, node: str) -> None:
    if node not in _serving(lab):
        raise Pending("not healthy yet")


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
