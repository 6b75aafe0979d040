"""Looking at the lab from outside and inside, for proofs: who answers whom, who counts whom as a peer."""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address
from typing import TypeVar

from chaos.lab.guest_shell import Attempt, Hearing
from chaos.lab.lab import Lab
from machine import libvirt_api
from machine.errors import LabError
from machine.netns import connect

Answer = TypeVar("Answer")

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
    with suppress(LabError):
        return lab.inside.ask(lab.shell(source), lambda shell: shell.tcp(addresses, port, seconds))
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


HEARING_SECONDS = 2.0
"""How long a datagram that ought to be heard is waited for, as another fault may make the line slow."""


def datagrams(lab: Lab, pairs: Mapping[tuple[str, str], bool]) -> dict[tuple[str, str], bool | None]:
    """Send UDP datagrams along directed pairs; whether a program at the target heard one. None: could not be probed.

    `pairs` says what is expected: one that ought to be heard is waited for, the others for as long as a connection
    attempt must go unanswered to count.
    """
    mark = f"etcd-lab-{time.monotonic_ns()}"
    addresses = {node.name: str(node.address) for node in lab.manifest.nodes}
    with ExitStack() as hearing, ThreadPoolExecutor(max(1, len(pairs))) as pool:

        def hear(target: str) -> Hearing:
            return lab.inside.ask(lab.shell(target), lambda shell: hearing.enter_context(shell.hearing(mark)))

        def send(source: str) -> set[tuple[str, int]]:
            targets = [target for start, target in pairs if start == source and target in ears]
            to = [(addresses[target], ears[target].port) for target in targets]
            return lab.inside.ask(lab.shell(source), lambda shell: shell.send(mark, to))

        def listen(target: str) -> set[str]:
            expected = {addresses[source]: seen for (source, to), seen in pairs.items() if to == target}
            awaited = [address for address, seen in expected.items() if seen]
            silent = len(awaited) < len(expected)
            return ears[target].senders(awaited, SILENCE_SECONDS if silent else HEARING_SECONDS, whole=silent)

        ears = _answered(pool, hear, {target for _, target in pairs})
        sent = _answered(pool, send, {source for source, _ in pairs})
        heard = _answered(pool, listen, ears)
    found: dict[tuple[str, str], bool | None] = {}
    for source, target in pairs:
        known = target in heard and (addresses[target], ears[target].port) in sent.get(source, ())
        found[source, target] = addresses[source] in heard[target] if known else None
    return found


def _answered(pool: Executor, ask: Callable[[str], Answer], nodes: Iterable[str]) -> dict[str, Answer]:
    """What the guests that can be asked answer, all asked at the same time."""

    def asked(node: str) -> Answer | None:
        with suppress(LabError):
            return ask(node)
        return None

    names = list(nodes)
    answers = zip(names, pool.map(asked, names), strict=True)
    return {node: answer for node, answer in answers if answer is not None}


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
