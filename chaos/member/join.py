"""What makes a node join a cluster that there is: its entry, its configuration, and the scripts of its first start."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from chaos.lab.lab import Lab
from chaos.member import volume
from infra.cluster import Member
from infra.layout import CONFIG_FILE, DATA_DIR, ETCD_PROGRAM
from infra.manifest import Manifest, Node
from machine.errors import LabError

JOIN_DIR = "/run/etcd-lab/member"
JOIN_CONFIG = f"{JOIN_DIR}/etcd.yaml"
DROP_IN = "/run/systemd/system/etcd.service.d/etcdlab-join.conf"
"""Where the first start of the new member finds `initial-cluster-state: existing`. All of it is gone with a reboot,
and may be: etcd reads initial-* only while it has no data (E server/etcdserver/bootstrap.go)."""

SCRIPT_SECONDS = 150.0
"""Limit of a script: etcd's end, a check of the file system, a reload of systemd, under TCG."""


def start_with(lab: Lab, node: str, more: str) -> None:
    """Start etcd on `node` anew with further lines of configuration, until its next start; returns at once."""
    deployed = lab.shell(node).run(f"cat {CONFIG_FILE}", seconds=20).stdout
    lab.shell(node).run(JOIN, seconds=SCRIPT_SECONDS, stdin=f"{deployed.rstrip()}\n{more}")


def start_as_deployed(lab: Lab, node: str) -> None:
    """Let the next start of etcd on `node` be by its deployed configuration."""
    lab.shell(node).run(FORGET, seconds=60)


def entry_of(members: Sequence[Member], node: Node) -> Member | None:
    """The entry of a node in the member list: by its peer URL, else by its name, which others may have too."""
    hosts = {str(node.address), node.name}
    for member in members:
        if {_host(url) for url in member.peer_urls} & hosts:
            return member
    return next((member for member in members if member.name == node.name), None)


def initial_cluster(manifest: Manifest, members: Sequence[Member]) -> str:
    """etcd's `initial-cluster` of a member list: exactly its entries, those that never started by their node."""
    known = {entry.id: node.name for node in manifest.nodes if (entry := entry_of(members, node))}
    return ",".join(f"{member.name or known.get(member.id, f'{member.id:x}')}={url}"
                    for member in members for url in member.peer_urls)  # fmt: skip


def advertised(config: str) -> str:
    """The peer URL in a deployed configuration; raises LabError when there is none."""
    found = re.search(r'^initial-advertise-peer-urls: "([^",]+)', config, re.M)
    if found is None:
        raise LabError("The node's configuration names no peer URL", where=CONFIG_FILE, next="./lab up writes it anew.")
    return found.group(1)


def configuration(config: str, cluster: str) -> str:
    """A deployed configuration for a member that joins `cluster` (as `initial-cluster` has it)."""
    config = re.sub(r"^initial-cluster: .*$", lambda _: f'initial-cluster: "{cluster}"', config, flags=re.M)
    return re.sub(r"^initial-cluster-state: .*$", 'initial-cluster-state: "existing"', config, flags=re.M)


def _host(url: str) -> str:
    return url.partition("://")[2].rpartition(":")[0]


WIPE = "\n".join(
    (
        volume.LINEAR,
        volume.KILL_ETCD,
        # a file system that was damaged is mounted anew, a sound one stays
        f"if ! touch {volume.PROBE} 2>/dev/null; then {volume.UNMOUNT}\nfi",
        volume.MOUNT,
        volume.TIDY,
        f"mountpoint -q {DATA_DIR} || {{ echo no data volume is mounted >&2; exit 1; }}",
        f"find {DATA_DIR} -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {{}} +",
        f"sync -f {DATA_DIR}",
    )
)
"""Script: a data volume that works, with nothing on it, and etcd stopped."""

_UNIT = f"[Service]\nExecStart=\nExecStart={ETCD_PROGRAM} --config-file={JOIN_CONFIG}\n"

JOIN = f"""set -e
mkdir -p {JOIN_DIR} {DROP_IN.rpartition("/")[0]}
cat >{JOIN_CONFIG}
printf %s {shlex.quote(_UNIT)} >{DROP_IN}
systemctl daemon-reload
systemctl reset-failed etcd.service
systemctl restart --no-block etcd.service"""
"""Script: start etcd with the configuration that comes by standard input; the deployed one stays as it is."""

FORGET = f"[ ! -e {DROP_IN} ] || {{ rm -rf {DROP_IN} {JOIN_DIR} && systemctl daemon-reload; }}"
"""Script: the next start is by the deployed configuration again; the process that runs stays."""
