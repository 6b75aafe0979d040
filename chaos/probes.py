"""Looking at the lab from outside and inside, for proofs: who answers whom, who counts whom as a peer."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from chaos.session import ANSWER_SECONDS, Attempt
from machine import libvirt_api
from machine.errors import LabError
from machine.netns import connect

if TYPE_CHECKING:
    from chaos.lab import Lab

SILENCE_SECONDS = 1.2
"""How long a connection attempt must go unanswered to count: longer than the first retransmission of a SYN (1 s)."""

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
    attempts = tcp_attempts(lab, ((source, target, port) for source, target in pairs), seconds)
    return {(source, target): meaning(attempt) for (source, target, _), attempt in attempts.items()}


def tcp_attempts(
    lab: Lab, probes: Iterable[tuple[str, str, int]], seconds: float
) -> dict[tuple[str, str, int], Attempt]:
    """The same for triples of source, target and port, with how each attempt went.

    The ports of one source come one after the other, since its answers must be told apart.
    """
    wanted: dict[str, dict[int, list[str]]] = {}
    for source, target, port in probes:
        wanted.setdefault(source, {}).setdefault(port, []).append(target)
    if not wanted:
        return {}

    def row(source: str) -> dict[tuple[str, str, int], Attempt]:
        found: dict[tuple[str, str, int], Attempt] = {}
        for port, targets in wanted[source].items():
            addresses = {str(lab.manifest.node(target).address): target for target in targets}
            attempts = _tried(lab, source, list(addresses), port, seconds)
            found |= {(source, addresses[one], port): attempt for one, attempt in attempts.items()}
        return found

    with ThreadPoolExecutor(len(wanted)) as pool:
        return {probe: attempt for row_found in pool.map(row, wanted) for probe, attempt in row_found.items()}


def _tried(lab: Lab, source: str, addresses: list[str], port: int, seconds: float) -> dict[str, Attempt]:
    shell = lab.shell(source)
    for _ in range(2):  # a shell that was lost meanwhile shows only when it is asked
        try:
            return lab.inside.session(shell).tcp(addresses, port, seconds)
        except LabError:
            lab.inside.forget(source)
    return dict.fromkeys(addresses, Attempt(tried=False))


def meaning(attempt: Attempt) -> Reach:
    """What an attempt from inside a guest says about the way there and back."""
    if attempt.opened:
        return Reach.ANSWERED
    if not attempt.tried:
        return Reach.UNKNOWN
    return Reach.SILENT if attempt.said is None else classify_refusal(attempt.said)


def classify_refusal(message: str) -> Reach:
    """Meaning of an attempt that failed by itself; the messages are those of connect(2)."""
    if "refused" in message:
        return Reach.ANSWERED
    if "No route to host" in message or "timed out" in message:
        return Reach.SILENT
    return Reach.UNKNOWN


PROBE_TABLE = "etcdlab_faults_probe"
"""nftables table in a guest while datagrams are awaited; begins as every table of ours, so that healing finds it."""

DATAGRAM_PORT = 33434
"""Where datagrams go: nobody listens there (the first port of traceroute(8))."""

ARM = f"""nft -f - <<'END'
add table inet {PROBE_TABLE}
delete table inet {PROBE_TABLE}
table inet {PROBE_TABLE} {{
set seen {{ type ipv4_addr; flags dynamic, timeout; timeout 60s; }}
chain in {{ type filter hook input priority 100; udp dport {DATAGRAM_PORT} add @seen {{ ip saddr }} drop; }}
}}
END"""
"""Script that lets a guest note who sends it datagrams."""


def datagrams(lab: Lab, pairs: Mapping[tuple[str, str], bool]) -> dict[tuple[str, str], bool | None]:
    """Send UDP datagrams along directed pairs; whether the target's kernel saw one. None: could not be probed.

    The target notes senders in an nftables set, after every rule that may drop (a cut inside it comes first). `pairs`
    says what is expected: one that ought to be seen is waited for, as another fault may make the line slow or lossy.
    """
    sources = list(dict.fromkeys(source for source, _ in pairs))
    targets = list(dict.fromkeys(target for _, target in pairs))

    def address(node: str) -> str:
        return str(lab.manifest.node(node).address)

    def said(node: str, script: str) -> str | None:
        try:
            return lab.inside.run(lab.shell(node), script, ANSWER_SECONDS + 10).stdout
        except LabError:
            return None

    def send(source: str) -> str:
        return said(source, send_script([address(target) for start, target in pairs if start == source])) or ""

    def read(target: str) -> str | None:
        awaited = [address(source) for (source, to), expected in pairs.items() if expected and to == target]
        return said(target, read_script(awaited))

    if not pairs:
        return {}
    with ThreadPoolExecutor(len(pairs)) as pool:
        armed = dict(zip(targets, pool.map(lambda node: said(node, ARM), targets), strict=True))
        sent = dict(zip(sources, pool.map(send, sources), strict=True))
        listed = dict(zip(targets, pool.map(read, targets), strict=True))
    found: dict[tuple[str, str], bool | None] = {}
    for source, target in pairs:
        text = listed[target]
        known = armed[target] is not None and text is not None and address(target) in sent[source].split()
        found[source, target] = f"{address(source)} " in (text or "") if known else None
    return found


def send_script(addresses: Iterable[str]) -> str:
    """Script that sends ten datagrams to each address and tells to whom it did.

    A line may lose some: where 30 % go, all ten do in six tries of a million.
    """
    send = f"for _ in {{1..10}}; do echo probe >/dev/udp/$a/{DATAGRAM_PORT}; done"
    return f"for a in {' '.join(addresses)}; do {send} && echo $a; done; :"


def read_script(awaited: Iterable[str]) -> str:
    """Script that tells the senders whose datagrams came, and forgets them; waits 2 s at most for the `awaited`."""
    return (
        f"for _ in {{1..10}}; do seen=$(nft list set inet {PROBE_TABLE} seen) || exit; late=\n"
        f'  for a in {" ".join(awaited)}; do [[ $seen == *"$a "* ]] || late=$a; done\n'
        '  [ -z "$late" ] && break; sleep 0.2\n'
        f'done\necho "$seen"; nft delete table inet {PROBE_TABLE}'
    )


def linked(lab: Lab) -> list[str]:
    """Nodes whose domain runs and whose network link is up."""
    with lab.libvirt() as connection:
        return [
            node.name
            for node in lab.manifest.nodes
            if libvirt_api.domain_state(connection, node.domain) == "running"
            and libvirt_api.link_is_up(connection, node.domain)
        ]


def answers(lab: Lab, address: IPv4Address, port: int, seconds: float = FROM_HERE_SECONDS) -> bool:
    """Whether a TCP connection from this host (in the lab's namespace) is taken."""
    try:
        connect(lab.manifest.hypervisor.netns, str(address), port, seconds).close()
    except OSError:
        return False
    return True


def from_here(lab: Lab, address: IPv4Address, port: int, seconds: float = FROM_HERE_SECONDS) -> Reach:
    """What a TCP connection from this host (in the lab's namespace) meets; to be refused is an answer."""
    try:
        connect(lab.manifest.hypervisor.netns, str(address), port, seconds).close()
    except OSError as error:
        return classify_refusal(str(error))
    return Reach.ANSWERED


_RECEIVED = re.compile(r'^etcd_network_peer_received_bytes_total\{From="(\w+)"\} (\S+)', re.M)


def received_from(text: str) -> dict[str, float]:
    """Bytes that a member has received from each other, by member id (hex), out of its metrics.

    `etcd_network_active_peers` does not do: with TLS, 3.6 keeps a peer without power active for minutes, as the
    timeouts of its streams do not take hold. The leader hears from every follower at each heartbeat, a follower from
    the leader; keep-alives of the streams are counted under id 0 (E server/etcdserver/api/rafthttp).
    """
    return {sender: float(count) for sender, count in _RECEIVED.findall(text) if sender != "0"}
