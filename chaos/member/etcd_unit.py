"""etcd's unit on a node, as systemd and the journal show it: what a member does with a disk or data it cannot use."""

from __future__ import annotations

import json
from dataclasses import dataclass

from chaos.evidence.sources import in_settings, lacking
from chaos.lab.lab import Lab
from infra.cluster import EndpointStatus
from machine.errors import DeadlineError, InconclusiveError, LabError
from machine.waiting import Pending, wait_until

ABREAST = 20
"""Entries that a member that keeps up may lag behind: clients go on writing between two answers."""

SECONDS = 30.0
"""Limit of one look: systemctl and journalctl under TCG."""


@dataclass(frozen=True, slots=True)
class EtcdUnit:
    """How the unit is."""

    active: str
    """systemd's ActiveState."""
    restarts: int
    """How often systemd has started it again since it was last started by hand."""
    trouble: str
    """The last thing of level fatal or panic in its log since `since`; "" when there is none."""

    def __str__(self) -> str:
        said = f", last words: {self.trouble}" if self.trouble else ""
        return f"{self.active}, restarted {self.restarts} times{said}"


def script(since: str) -> str:
    """Shell script for the node; `since` is a time as journalctl takes it, or `boot`."""
    when = "-b" if since == "boot" else f"--since '{since}'"
    return (
        "systemctl show -p ActiveState -p NRestarts etcd.service\n"
        f"journalctl --no-pager -o cat -u etcd.service {when} | "
        'grep -E \'^panic: |^fatal error: |"level":"(fatal|panic)"|unexpected fault address\' | tail -n 1'
    )


def read(text: str) -> EtcdUnit:
    """From what the script printed."""
    lines = text.splitlines()
    values = dict(line.partition("=")[::2] for line in lines[:2])
    return EtcdUnit(
        values.get("ActiveState", "unknown"), int(values.get("NRestarts") or 0), words("\n".join(lines[2:]))
    )


def words(line: str) -> str:
    """What a line of etcd's log says, without stack trace: message and error of JSON, else its begin."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line.strip()[:300]
    parts = [str(entry.get(name)) for name in ("msg", "error") if entry.get(name)]
    return ": ".join(parts)[:300]


def look(lab: Lab, node: str, since: str = "boot") -> EtcdUnit:
    """The unit on `node` now."""
    return read(lab.inside.run(lab.shell(node), script(since), SECONDS, check=False).stdout)


def clock(lab: Lab, node: str) -> str:
    """Time of the guest, as `since` takes it."""
    return f"@{lab.shell(node).run('date +%s', seconds=SECONDS).stdout.strip()}"


def wait_ended(lab: Lab, node: str, since: str, seconds: float) -> EtcdUnit:
    """Wait until the member has ended by itself, with a reason in its log.

    Raises InconclusiveError where the lab's settings keep that log from us.
    """
    if gone := lacking(in_settings(lab.manifest), "lines", [node]):
        raise InconclusiveError(f"Why {node} ends cannot be read: {gone}", where="etcd-extra", next=gone.next)

    def ended() -> EtcdUnit:
        unit = look(lab, node, since)
        if not unit.trouble:
            raise Pending(str(unit))
        return unit

    return wait_until(ended, f"the end of etcd on {node}", seconds=seconds, every=1)


def what_it_does(lab: Lab, node: str, since: str, seconds: float) -> str:
    """Wait until it is clear what a member does with damaged data, and say it: it ends again and again, or serves.

    Raises DeadlineError when it does neither, InconclusiveError where its last words could not be read.
    """
    gone = lacking(in_settings(lab.manifest), "lines", [node])

    def seen() -> str:
        status: dict[str, EndpointStatus] = {one.node: one for one in lab.cluster.status()}
        own, leader = status[node], next((one for one in status.values() if one.leader), None)
        if own.ok and leader is not None and leader.raft_applied_index - own.raft_applied_index <= ABREAST:
            return f"serves, with entries up to {own.raft_applied_index} applied; {look(lab, node, since)}"
        try:
            unit = look(lab, node, since)
        except LabError as error:
            raise Pending(str(error)) from error
        if unit.restarts >= 2 and unit.trouble:
            return f"ends again and again: {unit}"
        raise Pending(f"{unit}; {own.error or f'applied {own.raft_applied_index}'}")

    try:
        return wait_until(seen, f"what etcd on {node} does", seconds=seconds, every=1)
    except DeadlineError as error:
        if gone is None:
            raise
        raise InconclusiveError(f"{error.what}; {gone}", where="etcd-extra", next=gone.next) from error
