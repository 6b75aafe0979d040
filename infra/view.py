"""The cluster as one node sees it: etcdctl on that node, asked for every member by address.

The article's `cluster-health` (etcd's v2 command, gone since 3.6) told healthy, unhealthy and unreachable apart; this
does so too, with a TCP probe beside `etcdctl endpoint health`. Endpoints are given one by one, as from etcd 3.5 on
`--cluster` needs a quorum itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from infra.access import shell_for
from infra.cluster import MemberHealth
from infra.findings import Observed, compare, described
from infra.layout import ENV_FILE
from infra.manifest import CLIENT_PORT, Manifest
from machine.errors import ToolError
from machine.paths import StackPaths
from machine.process import tail
from machine.ssh import Shell

TCP_SECONDS = 2
"""How long a member may leave a connection attempt unanswered: longer than one lost SYN (1 s)."""

COMMAND_SECONDS = 5
"""etcdctl's own default command timeout (E etcdctl/ctlv3/ctl.go): what users see."""

SSH_SECONDS = 30.0

ViewVerdict = Literal["healthy", "degraded", "unavailable"]


@dataclass(frozen=True, slots=True)
class View:
    """Health of each member as `viewer` sees it."""

    viewer: str
    quorum: int
    members: tuple[MemberHealth, ...]

    @property
    def verdict(self) -> ViewVerdict:
        """healthy: all members are; degraded: a quorum is; unavailable: less than that."""
        healthy = sum(member.healthy for member in self.members)
        if healthy == len(self.members):
            return "healthy"
        return "degraded" if healthy >= self.quorum else "unavailable"

    def beside(self, manifest: Manifest, seen: Observed) -> View:
        """The same beside the member list: voting members that are none of the lab's count, and cannot be asked."""
        if seen.members is None:
            return self
        known = compare(manifest, seen.members, seen.statuses)
        others = tuple(
            MemberHealth(
                f"{one.id:x}", healthy=False, reason=f"{described(one)} is not a node of this lab", seconds=0.0
            )
            for one in known.foreign
            if not one.learner
        )
        return View(self.viewer, known.quorum, (*self.members, *others))

    def member(self, node: str) -> MemberHealth:
        """Health of one member."""
        return next(member for member in self.members if member.node == node)

    def __str__(self) -> str:
        parts = [
            f"{member.node} healthy" if member.healthy else f"{member.node} {member.reason}" for member in self.members
        ]
        return f"from {self.viewer}: {'; '.join(parts)}; cluster is {self.verdict}"


def view_from(manifest: Manifest, paths: StackPaths, viewer: str, shell: Shell | None = None) -> View:
    """Ask on the node `viewer`, through ssh. Raises ToolError when it gives no answer that can be read."""
    addresses = {str(node.address): node.name for node in manifest.nodes}
    shell = shell or shell_for(manifest, paths, viewer)
    done = shell.run(script(list(addresses)), seconds=SSH_SECONDS, check=False)
    try:
        members = parse(done.stdout, addresses)
    except ValueError as error:
        raise ToolError(
            f"etcdctl on {viewer} said nothing that can be read: {error}",
            next=f"Look at ./lab logs {viewer}.",
            tail=tail(done.stderr or done.stdout),
        ) from error
    return View(viewer, manifest.quorum, members)


def script(addresses: list[str]) -> str:
    """Shell script for the node: one TCP probe per member beside etcdctl; prints `tcp ADDRESS STATUS` and JSON.

    Settings go by environment: etcdctl refuses a flag whose variable is set.
    """
    probe = f'timeout {TCP_SECONDS} bash -c "exec 3<>/dev/tcp/$a/{CLIENT_PORT}" 2>/dev/null'
    endpoints = ",".join(f"https://{address}:{CLIENT_PORT}" for address in addresses)
    return (
        f"set -a; . {ENV_FILE}; "
        f"ETCDCTL_ENDPOINTS={endpoints} ETCDCTL_COMMAND_TIMEOUT={COMMAND_SECONDS}s; "
        f"for a in {' '.join(addresses)}; do ({probe}; echo tcp $a $?) & done; "
        # 3.4's answer leaves alarms out, which the members' status has
        "case $(etcdctl version) in *' 3.4.'*) "
        "etcdctl endpoint status -w json 2>/dev/null | sed 's/^/status /' & esac; "
        "etcdctl endpoint health -w json; s=$?; wait; exit $s"
    )


def parse(text: str, addresses: Mapping[str, str]) -> tuple[MemberHealth, ...]:
    """Members in the order of `addresses` (address to node name) from what the script printed.

    Raises ValueError when a member is missing in it.
    """
    reached: dict[str, bool] = {}
    health: dict[str, dict[str, object]] = {}
    alarms: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("tcp "):
            _, address, status = line.split()
            reached[address] = status == "0"
        elif line.startswith("status "):
            for item in json.loads(line.removeprefix("status ")):
                errors = [error.strip() for error in item["Status"].get("errors") or () if "alarm:" in error]
                alarms[_host(item["Endpoint"])] = "; ".join(errors)
        elif line.startswith("["):
            for item in json.loads(line):
                health[_host(item["endpoint"])] = item
    missing = [name for address, name in addresses.items() if address not in health or address not in reached]
    if missing:
        raise ValueError(f"no word on {', '.join(missing)}")
    return tuple(
        _member(name, reached[address], health[address], alarms.get(address, "")) for address, name in addresses.items()
    )


def _host(endpoint: str) -> str:
    return endpoint.removeprefix("https://").rpartition(":")[0]


def _member(node: str, reached: bool, item: Mapping[str, object], alarm: str) -> MemberHealth:
    seconds = go_seconds(str(item.get("took", "0s")))
    error = alarm or str(item.get("error") or "no reason given")
    if item.get("health") is True and not alarm:
        return MemberHealth(node=node, healthy=True, reason="", seconds=seconds)
    reason = f"unhealthy: {error}" if reached else f"unreachable: no TCP answer within {TCP_SECONDS} s; {error}"
    return MemberHealth(node=node, healthy=False, reason=reason, seconds=seconds)


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9}


def go_seconds(text: str) -> float:
    """Seconds of a duration as Go writes it (time.Duration.String).

    >>> go_seconds("1m5.5s"), go_seconds("12ms")
    (65.5, 0.012)
    """
    total, number, unit = 0.0, "", ""
    for char in [*text, "0"]:
        if char.isdigit() or char == ".":
            if unit:
                total += float(number) * _UNITS[unit]
                number, unit = "", ""
            number += char
        else:
            unit += char
    return total
