"""From machines that run to a healthy cluster: members, alarms and units are repaired where that is safe.

What is not safe is said once, with the command that does it, and what cannot come is not waited for: a unit that ends
at each start, a quorum that is lost, data on which no majority agrees. Then `Recovery.run` raises LabError at once.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from chaos.faults import records
from chaos.faults.registry import damage_records
from chaos.lab.lab import Lab
from chaos.member import journal, replacement
from infra.cluster import Alarm, EndpointStatus
from infra.findings import Finding, Membership, Observed, compare, examine, observe, url_of
from machine.errors import DeadlineError, LabError
from machine.log import Heartbeat, Say

HEALTHY_SECONDS = 180.0
"""From running machines to a healthy cluster: a start of etcd and an election, under TCG with all members at once."""

SETTLE_SECONDS = 20.0
"""How long the cluster may need to get healthy by itself before members are replaced."""

LOOK_EVERY = 3.0
"""Seconds between two looks at what is not healthy; systemd starts the unit again after one (RestartSec)."""

UNIT_SECONDS = 20.0
CONFIRM_SECONDS = 4.0
"""For a member list as the quorum has it, where there was a leader a moment ago."""
TRIES: Final = 3
"""How often a change of membership is asked for: etcd refuses one for 5 s after members have connected."""

DEFAULT_QUOTA: Final = 2 << 30
"""Bytes (E server/storage/quota.go, DefaultQuotaBytes)."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing that was found and what was done about it."""

    what: str
    where: str
    done: str
    ok: bool
    pending: bool = False
    """Not ok, and a guest still has the undo script, so that a later look tells."""

    def __str__(self) -> str:
        return f"{self.what} ({self.where}): {self.done}"


Note = Callable[[Repair], None]


class Recovery:
    """One attempt; `noted` are nodes whose data is not to be trusted, `sweep` looks over the guests once more."""

    def __init__(
        self, lab: Lab, note: Note, say: Say, sweep: Callable[[], object], noted: Collection[str] = ()
    ) -> None:
        self._lab, self._note, self._say, self._sweep = lab, note, say, sweep
        self._damaged = damage_records(lab.paths)
        self._recorded = {name for record in self._damaged for name in record.nodes}
        self._untrusted = {*noted, *self._recorded}
        self._differing: set[str] = set()
        """Nodes whose data differs from what a majority has."""
        self._tries: Counter[tuple[str, int, str]] = Counter()
        self._left: set[tuple[str, int, str]] = set()
        self._final: dict[str, journal.Trouble] = {}
        """What keeps the cluster from ever being healthy, by what it is about."""
        self._units: dict[str, journal.Unit] = {}
        self._seen = Observed((), None)

    def run(self) -> None:
        """Wait until all members are healthy and to be trusted; repair what keeps them from it.

        Raises LabError as soon as that cannot come any more, DeadlineError when it does not.
        """
        ends = time.monotonic() + HEALTHY_SECONDS
        settled = time.monotonic() + SETTLE_SECONDS
        beat = Heartbeat("waiting for a healthy cluster", say=self._say).beat
        replaced: set[str] = set()
        while True:
            if self._look():
                ends = time.monotonic() + HEALTHY_SECONDS
            left = ends - time.monotonic()
            try:
                statuses = self._lab.cluster.wait_healthy(
                    0.0 if self._untrusted else max(0.0, min(LOOK_EVERY, left)), on_wait=beat
                )
            except DeadlineError as error:
                if left <= 0:
                    raise DeadlineError(
                        "A healthy cluster",
                        seconds=HEALTHY_SECONDS,
                        last=error.last,
                        next="./lab status and ./lab logs NODE show why.",
                    ) from error
            else:
                unfit = self._untrusted | {status.node for status in statuses if status.learner}
                if not unfit:
                    for record in self._damaged:  # it speaks of members that are others now
                        records.remove(self._lab.paths, record.id)
                    return
                if left <= 0:
                    raise DeadlineError(
                        "A cluster of members to be trusted",
                        seconds=HEALTHY_SECONDS,
                        last=f"to be replaced: {', '.join(sorted(unfit))}",
                        next="./lab heal goes on where this ended.",
                    )
            stuck = {**self._final, **self._stuck()}
            if not self._untrusted and not stuck and time.monotonic() < settled:
                continue
            self._sweep()  # what was on its way down when it was looked at is down by now
            others = self._replace(replaced, stuck)
            replaced |= others
            if others:
                ends = time.monotonic() + HEALTHY_SECONDS
            elif stuck:
                self._give_up(stuck)

    # -- members and alarms -----------------------------------------------------------------------------------------

    def _look(self) -> bool:
        """Repair what the members themselves show; whether something was."""
        self._seen = seen = observe(self._lab.cluster)
        self._final.clear()
        acted = False
        for finding in examine(self._lab.manifest, seen):
            if finding.kind in {"foreign member", "foreign learner", "peer URL"} and finding.by_heal:
                acted |= seen.led and self._change(finding)
            elif finding.kind == "alarm":
                acted |= seen.led and self._alarm(finding)
            elif seen.led and finding.grave and not finding.by_heal:  # a list without a leader may be an old one
                self._leave(finding)
        self._foreign_leader(seen)
        return acted

    def _change(self, finding: Finding) -> bool:
        """Change the member list as the finding says."""
        key = (finding.kind, finding.member_id, finding.node)
        if self._tries[key] >= TRIES:
            return False
        self._tries[key] += 1
        cluster, manifest = self._lab.cluster, self._lab.manifest
        try:
            if finding.kind == "peer URL":
                cluster.update_member(finding.member_id, url_of(manifest, manifest.node(finding.node)))
                done = "corrected"
            else:
                # once more as the quorum has it: it may have started meanwhile
                entry = next(
                    one for one in cluster.members(CONFIRM_SECONDS, without="-") if one.id == finding.member_id
                )
                if entry.name:
                    return False
                cluster.remove_member(finding.member_id)
                done = "removed"
        except StopIteration:
            return False
        except LabError as error:
            if self._tries[key] == TRIES:
                said = getattr(error, "tail", "") or str(error)
                self._note(Repair(finding.what, "member list", f"etcd refused: {said}; {finding.command}", ok=False))
            return False
        self._note(Repair(finding.what, "member list", done, ok=True))
        return True

    def _leave(self, finding: Finding) -> None:
        """Say once what is not repaired here, and how it is."""
        key = (finding.kind, finding.member_id, finding.node)
        if key not in self._left:
            self._left.add(key)
            self._note(Repair(finding.what, "cluster", f"left as it is; {finding.command}", ok=False))
        if finding.kind == "other cluster":
            self._final[finding.node] = journal.Trouble(finding.what, finding.command)

    def _foreign_leader(self, seen: Observed) -> None:
        known = self._known(seen)
        leads = {one.leader_id for one in seen.statuses if one.ok and one.leader_id}
        for one in known.foreign if known else ():
            if leads == {one.id}:
                reason = f"the leader is member {one.id:x}, which is not a node of this lab"
                self._final["leader"] = journal.Trouble(reason, f"stop it, or ./lab ctl NODE member remove {one.id:x}")

    def _known(self, seen: Observed) -> Membership | None:
        return None if seen.members is None else compare(self._lab.manifest, seen.members, seen.statuses)

    def _alarm(self, finding: Finding) -> bool:
        """Disarm an alarm whose cause is gone, or make it go; whether the cluster was changed."""
        key, alarm = (finding.alarm, finding.member_id, ""), Alarm(finding.member_id, finding.alarm)
        if self._tries[key] >= TRIES:
            return False
        with contextlib.suppress(LabError):
            listed = self._seen.members is None or any(one.id == alarm.member_id for one in self._seen.members)
            if not listed:
                return self._disarm(alarm, finding, "disarmed, as that member is gone")
            if alarm.kind == "CORRUPT":
                return self._corrupt(alarm, finding)
            if alarm.kind == "NOSPACE":
                self._tries[key] += 1
                return self._no_space(alarm, finding)
        return False

    def _disarm(self, alarm: Alarm, finding: Finding, done: str) -> bool:
        self._tries[alarm.kind, alarm.member_id, ""] += 1
        self._lab.cluster.disarm(alarm)
        self._note(Repair(finding.what, "etcd", done, ok=True))
        return True

    def _corrupt(self, alarm: Alarm, finding: Finding) -> bool:
        statuses = self._seen.statuses
        if not all(one.ok for one in statuses):
            return False  # all are compared, or none
        found = self._lab.cluster.hashes(min(one.revision for one in statuses))
        groups = Counter((one.hash, one.compact_revision) for one in found.values())
        best, count = groups.most_common(1)[0]
        if count == len(found):
            return self._disarm(alarm, finding, "disarmed, as the data of all members is the same")
        if count > len(found) // 2:
            self._differing = {node for node, one in found.items() if (one.hash, one.compact_revision) != best}
            self._untrusted |= self._differing
            return False
        said = ", ".join(f"{node} {one.hash:08x}" for node, one in found.items())
        reason = f"the members' data differs, and no majority agrees (HashKV: {said})"
        self._final["data"] = journal.Trouble(reason, "restore a snapshot, or ./lab destroy and ./lab up")
        return False

    def _no_space(self, alarm: Alarm, finding: Finding) -> bool:
        """Make room on every member; disarm when there is some."""
        lab = self._lab
        first = next(one.node for one in self._seen.statuses if one.ok)
        lab.etcdctl(first, "compact", str(max(one.revision for one in self._seen.statuses)))
        for one in self._seen.statuses:
            if one.ok:
                lab.etcdctl(one.node, "defrag", "--command-timeout=60s", seconds=90)
        full = {one.node: one.db_size for one in lab.cluster.status() if one.ok and one.db_size >= self._quota(one)}
        if full:
            said = ", ".join(f"{node} {size} bytes" for node, size in full.items())
            reason = f"the keys themselves fill the quota ({said} after compaction and defragmentation)"
            how = "delete keys, or set etcd-extra.quota-backend-bytes higher and ./lab up; then ./lab heal"
            self._final["quota"] = journal.Trouble(reason, how)
            return False
        return self._disarm(alarm, finding, "room made, disarmed")

    def _quota(self, status: EndpointStatus) -> int:
        given = self._lab.manifest.etcd_extra.get("quota-backend-bytes", 0)
        return status.db_size_quota or (given if isinstance(given, int) and given > 0 else DEFAULT_QUOTA)

    # -- units ------------------------------------------------------------------------------------------------------

    def _stuck(self) -> dict[str, journal.Trouble]:
        """Nodes whose unit has ended again since the last look, for the reason that it gave then."""
        found: dict[str, journal.Trouble] = {}
        for name in [one.node for one in self._lab.cluster.status() if not one.ok]:
            try:
                script = self._lab.inside.run(self._lab.shell(name), journal.SCRIPT, UNIT_SECONDS, check=False)
                unit = journal.read(script.stdout)
            except (LabError, ValueError):
                self._units.pop(name, None)
                continue
            before, self._units[name] = self._units.get(name), unit
            now = journal.trouble(unit, name)
            if before is None or now is None or journal.damage(unit.journal):
                continue
            again = unit.restarts > before.restarts or unit.active == before.active in {"failed", "inactive"}
            if again and journal.trouble(before, name) == now:
                found[name] = journal.Trouble(f"etcd on {name} does not start: {now.reason}", now.remedy)
        return found

    # -- what cannot come -------------------------------------------------------------------------------------------

    def _replace(self, but: Collection[str], stuck: Collection[str]) -> set[str]:
        """Replace the members that need it, `but` some that were; the nodes where that went well."""
        needed = {*replacement.needs_replacing(self._lab, self._recorded), *self._differing}
        nodes = [node for node in self._lab.manifest.node_names if node in needed and node not in but]
        self._require_quorum([*nodes, *stuck])
        replaced = set(replace_members(self._lab, nodes, self._note, self._say))
        self._untrusted = set(nodes) - replaced
        self._differing -= replaced
        return replaced

    def _require_quorum(self, out: Collection[str]) -> None:
        """Raise LabError when there is no leader, and without these nodes there can be none."""
        seen = observe(self._lab.cluster)
        known = self._known(seen)
        if known is None or seen.led:
            return
        silent = {one.node for one in seen.statuses if not one.ok}
        able = [node for node, entry in known.of.items() if not entry.learner and not (node in out and node in silent)]
        if len(able) >= known.quorum or not silent & set(out):
            return
        gone = ", ".join(sorted(silent & set(out)))
        strangers = f" {len(known.foreign)} of them are not nodes of this lab." if known.foreign else ""
        reasons = " ".join(f"{one.reason}: {one.remedy}." for node, one in self._stuck().items() if node in out)
        raise LabError(
            f"The quorum is lost: {known.quorum} of {len(known.voters)} voting members are needed, and of this lab "
            f"{len(able)} can run ({', '.join(able) or 'none'}; not {gone})",
            next=f"{reasons or 'Restore a snapshot, or ./lab destroy and ./lab up build the lab again.'}{strangers}",
        )

    def _give_up(self, stuck: dict[str, journal.Trouble]) -> None:
        """Raise LabError when nothing else is on its way."""
        waiting = [one.node for one in self._lab.cluster.status() if not one.ok and one.node not in stuck]
        if not waiting:
            reasons = "; ".join(dict.fromkeys(one.reason for one in stuck.values()))
            remedies = "; ".join(dict.fromkeys(one.remedy for one in stuck.values()))
            raise LabError(f"The cluster cannot become healthy: {reasons}", next=f"Next: {remedies}.")


def replace_members(lab: Lab, nodes: Collection[str], note: Note, say: Say) -> list[str]:
    """Replace the members of these nodes; where that went well.

    Of several all are removed before one is added: releases up to 3.5.12 and 3.6.0 add none while another is listed
    that is down (seen with 3.4.23, 3.5.12 and 3.6.0; not with 3.5.34, 3.6.16 and 3.7.3).
    """

    def tell(text: str) -> None:
        say(f"  {text}")

    def failed(node: str, error: LabError) -> None:
        note(Repair(f"the member of {node}", "etcd", f"could not be replaced: {error}", ok=False))

    ready: list[str] = []
    for node in nodes:
        try:
            if len(nodes) > 1:
                replacement.retire(lab, node, tell)
        except LabError as error:
            failed(node, error)
        else:
            ready.append(node)
    replaced = []
    for node in ready:
        try:
            entry = replacement.replace(lab, node, tell, whole=len(nodes) == 1)
        except LabError as error:
            failed(node, error)
        else:
            note(Repair(f"the member of {node}", "etcd", f"replaced by {entry.id:x}", ok=True))
            replaced.append(node)
    return replaced
