"""Looking at the lab from outside and inside, for proofs: who answers whom, who counts whom as a peer."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from infra.manifest import METRICS_PORT
from machine.errors import LabError
from machine.netns import connect

if TYPE_CHECKING:
    from chaos.lab import Lab

PROBE_SECONDS = 1.5
"""How long a TCP connection attempt may go unanswered: longer than the first retransmission of a SYN (1 s)."""


class Reach(enum.Enum):
    """What a TCP connection attempt met."""

    ANSWERED = "answered"
    """Open or refused: packets go both ways."""
    SILENT = "no answer"
    UNKNOWN = "could not be probed"
    """The source did not do the probe (no ssh, no shell)."""


def tcp_matrix(lab: Lab, pairs: Iterable[tuple[str, str]], port: int) -> dict[tuple[str, str], Reach]:
    """Try a TCP connection for every directed pair at once, from inside the source guests."""
    wanted: dict[str, list[str]] = {}
    for source, target in pairs:
        wanted.setdefault(source, []).append(target)
    if not wanted:
        return {}
    with ThreadPoolExecutor(len(wanted)) as pool:
        rows = pool.map(lambda item: _row(lab, item[0], item[1], port), wanted.items())
        return {(source, target): reach for row in rows for source, target, reach in row}


def _row(lab: Lab, source: str, targets: Sequence[str], port: int) -> list[tuple[str, str, Reach]]:
    addresses = {str(lab.manifest.node(target).address): target for target in targets}
    found = dict.fromkeys(targets, Reach.UNKNOWN)
    try:
        done = lab.shell(source).run(probe_script(addresses, port), seconds=PROBE_SECONDS + 8, check=False)
    except LabError:
        return [(source, target, Reach.UNKNOWN) for target in targets]
    for line in done.stdout.splitlines():
        address, _, rest = line.partition(" ")
        if address in addresses:
            found[addresses[address]] = classify_probe(rest)
    return [(source, target, reach) for target, reach in found.items()]


def probe_script(addresses: Iterable[str], port: int) -> str:
    """Shell script that tries all `addresses` at once and prints `ADDRESS STATUS MESSAGE` for each."""
    attempt = f'm=$(timeout {PROBE_SECONDS} bash -c "exec 3<>/dev/tcp/$a/{port}" 2>&1); echo $a $? $m'
    return f"for a in {' '.join(addresses)}; do ({attempt}) & done; wait"


def classify_probe(said: str) -> Reach:
    """Meaning of `STATUS MESSAGE`: 124 is timeout(1)'s, the messages are those of connect(2) in bash."""
    status, _, message = said.partition(" ")
    if status == "0" or "refused" in message:
        return Reach.ANSWERED
    if status == "124" or "No route to host" in message or "timed out" in message:
        return Reach.SILENT
    return Reach.UNKNOWN


def answers(lab: Lab, address: IPv4Address, port: int, seconds: float = PROBE_SECONDS) -> bool:
    """Whether a TCP connection from this host (in the lab's namespace) is taken."""
    try:
        connect(lab.manifest.hypervisor.netns, str(address), port, seconds).close()
    except OSError:
        return False
    return True


def metrics(lab: Lab, node: str, seconds: float = 3.0) -> str:
    """etcd's metrics of a node as text (plain HTTP, port 2381); raises OSError when it does not answer."""
    address = str(lab.manifest.node(node).address)
    with connect(lab.manifest.hypervisor.netns, address, METRICS_PORT, seconds) as sock:
        sock.settimeout(seconds)
        sock.sendall(f"GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
        parts = []
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts).decode(errors="replace")


_ACTIVE = re.compile(r'^etcd_network_active_peers\{Local="(\w+)",Remote="(\w+)"\} (\d+)', re.M)


def active_peers(text: str) -> set[str]:
    """Member ids (hex) that a member holds connections with (E server/etcdserver/api/rafthttp/metrics.go)."""
    return {remote for _, remote, value in _ACTIVE.findall(text) if int(value) > 0}
