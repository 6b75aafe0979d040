"""Looking at the lab from outside and inside, for proofs: who answers whom, who counts whom as a peer."""

from __future__ import annotations

import enum
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from infra.manifest import METRICS_PORT
from machine.errors import LabError
from machine.netns import connect

if TYPE_CHECKING:
    from chaos.lab import Lab

SILENCE_SECONDS = 2.0
"""How long a connection attempt must go unanswered to count: longer than the first retransmission of a SYN (1 s)."""

ANSWER_SECONDS = 8.0
"""How long an answer is waited for where one must come: an emulated guest under load forks slowly."""

FROM_HERE_SECONDS = 1.5
"""The same for a probe that this host makes itself."""


class Reach(enum.Enum):
    """What a TCP connection attempt met."""

    ANSWERED = "answered"
    """Open or refused: packets go both ways."""
    SILENT = "no answer"
    UNKNOWN = "could not be probed"
    """The source did not do the probe (no ssh, no shell)."""


def tcp_matrix(lab: Lab, pairs: Iterable[tuple[str, str]], port: int, seconds: float) -> dict[tuple[str, str], Reach]:
    """Try a TCP connection for every directed pair at once, from inside the source guests.

    Attempts that nobody has answered after `seconds` are silent; when all are answered it ends at once.
    """
    wanted: dict[str, list[str]] = {}
    for source, target in pairs:
        wanted.setdefault(source, []).append(target)
    if not wanted:
        return {}
    with ThreadPoolExecutor(len(wanted)) as pool:
        rows = pool.map(lambda item: _row(lab, item[0], item[1], port, seconds), wanted.items())
        return {(source, target): reach for row in rows for source, target, reach in row}


def _row(lab: Lab, source: str, targets: Sequence[str], port: int, seconds: float) -> list[tuple[str, str, Reach]]:
    addresses = {str(lab.manifest.node(target).address): target for target in targets}
    try:
        said = lab.shell(source).run(probe_script(list(addresses), port, seconds), seconds=seconds + 10, check=False)
        found = read_probes(said.stdout, addresses)
    except LabError:
        found = {}
    return [(source, target, found.get(target, Reach.UNKNOWN)) for target in targets]


def probe_script(addresses: Sequence[str], port: int, seconds: float) -> str:
    """Shell script that tries all `addresses` at once, prints a line for each attempt that ends, then `end`.

    All in one bash, without further programs: starting one takes long in an emulated guest.
    """
    # bash's own message on failure names address and reason
    tries = f"for a in {' '.join(addresses)}; do (exec 3<>/dev/tcp/$a/{port} && echo open $a) 2>&1 & done"
    # a pipe on which nothing ever comes: `read -t` from it is a pause
    pause = "read -t 0.1 -u 9"
    watch = f"for ((i = 0; i < {round(seconds * 10)}; i++)); do [[ -n $(jobs -rp) ]] || break; {pause}; done"
    return (
        f"LC_ALL=C exec bash -c {shlex.quote(f'exec 9<> <(:); {tries}; {watch}; echo end; kill $(jobs -rp) 2>&-; :')}"
    )


_OPEN = re.compile(r"^open (\S+)$", re.M)
_CLOSED = re.compile(r"/dev/tcp/([^/]+)/\d+: (.+)$", re.M)


def read_probes(text: str, addresses: Mapping[str, str]) -> dict[str, Reach]:
    """What the script said, by node; {} when it did not get to its end."""
    told, end, _ = text.partition("\nend\n") if not text.startswith("end\n") else ("", "end", "")
    if not end:
        return {}
    found = dict.fromkeys(addresses.values(), Reach.SILENT)
    found |= {
        addresses[address]: classify_refusal(why) for address, why in _CLOSED.findall(told) if address in addresses
    }
    found |= {addresses[address]: Reach.ANSWERED for address in _OPEN.findall(told) if address in addresses}
    return found


def classify_refusal(message: str) -> Reach:
    """Meaning of an attempt that failed by itself; the messages are those of connect(2)."""
    if "refused" in message:
        return Reach.ANSWERED
    if "No route to host" in message or "timed out" in message:
        return Reach.SILENT
    return Reach.UNKNOWN


def answers(lab: Lab, address: IPv4Address, port: int, seconds: float = FROM_HERE_SECONDS) -> bool:
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


_RECEIVED = re.compile(r'^etcd_network_peer_received_bytes_total\{From="(\w+)"\} (\S+)', re.M)


def received_from(text: str) -> dict[str, float]:
    """Bytes that a member has received from each other, by member id (hex), out of its metrics.

    `etcd_network_active_peers` does not do: with TLS, 3.6 keeps a peer without power active for minutes, as the
    timeouts of its streams do not take hold. The leader hears from every follower at each heartbeat, a follower from
    the leader; keep-alives of the streams are counted under id 0 (E server/etcdserver/api/rafthttp).
    """
    return {sender: float(count) for sender, count in _RECEIVED.findall(text) if sender != "0"}
