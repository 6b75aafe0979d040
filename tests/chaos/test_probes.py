"""What probes of a guest mean, and what members say of each other."""

from __future__ import annotations

import errno
import os
import shlex
import socket
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from chaos.lab import probes
from chaos.lab.guest_shell import REMOTE, Attempt, Session
from chaos.lab.guest_shells import GuestShells
from chaos.lab.probes import Reach, classify_refusal, meaning, received_from

if TYPE_CHECKING:
    from chaos.lab.lab import Lab


def test_an_attempt_means_what_came_back() -> None:
    assert meaning(Attempt(tried=True, opened=True)) is Reach.ANSWERED
    assert meaning(Attempt(tried=True, said="Connection refused")) is Reach.ANSWERED
    assert meaning(Attempt(tried=True, said="No route to host")) is Reach.SILENT
    assert meaning(Attempt(tried=True)) is Reach.SILENT


@pytest.mark.parametrize(
    ("error", "reach"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)), Reach.ANSWERED),
        (TimeoutError("timed out"), Reach.SILENT),
        (OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH)), Reach.SILENT),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), Reach.UNKNOWN),
        (None, Reach.ANSWERED),
    ],
)
def test_a_probe_from_this_host_means_the_same_as_one_from_a_guest(
    error: OSError | None, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object) -> Any:
        if error is not None:
            raise error
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(probes, "connect", connect)
    lab: Any = SimpleNamespace(manifest=SimpleNamespace(hypervisor=SimpleNamespace(netns=None)))
    assert probes.from_here(lab, IPv4Address("10.0.0.1"), 2379) is reach


def test_a_refusal_on_a_real_socket_is_an_answer() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, and not listening
        lab: Any = SimpleNamespace(manifest=SimpleNamespace(hypervisor=SimpleNamespace(netns=None)))
        assert probes.from_here(lab, IPv4Address("127.0.0.1"), closed.getsockname()[1]) is Reach.ANSWERED


def test_an_attempt_that_was_not_made_says_nothing() -> None:
    assert meaning(Attempt(tried=False)) is Reach.UNKNOWN
    assert classify_refusal("Permission denied") is Reach.UNKNOWN


def test_what_was_received_is_told_by_sender_without_the_keep_alives() -> None:
    text = (
        "# TYPE etcd_network_peer_received_bytes_total counter\n"
        'etcd_network_peer_received_bytes_total{From="0"} 280\n'
        'etcd_network_peer_received_bytes_total{From="1c3dbc1266e7b820"} 1.5759e+06\n'
        'etcd_network_peer_sent_bytes_total{To="1c3dbc1266e7b820"} 9\n'
    )
    assert received_from(text) == {"1c3dbc1266e7b820": 1575900.0}


class Guests:
    """A lab of shells on this host, one for each node; some are lost."""

    def __init__(self, lost: str = "") -> None:
        nodes = [SimpleNamespace(name=name, address=f"127.0.0.{number}") for number, name in enumerate("abc", 1)]
        self.manifest = SimpleNamespace(nodes=nodes)
        self.inside = GuestShells()
        self._lost = lost

    def shell(self, node: str) -> Any:
        argv = ["false"] if node in self._lost else ["bash", "-c", shlex.join(REMOTE)]
        return SimpleNamespace(name=node, exec_argv=lambda _words, tty: argv)  # noqa: ARG005 - as Shell's


@pytest.mark.parametrize(
    ("lost", "cut", "heard"),
    [
        ("", "", {"ab": True, "ac": True}),
        ("", "c", {"ab": True, "ac": False}),
        ("b", "", {"ab": None, "ac": True}),
        ("a", "", {"ab": None, "ac": None}),
    ],
)
def test_a_datagram_is_heard_or_not_and_unknown_where_an_end_cannot_be_asked(
    lost: str, cut: str, heard: dict[str, bool | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is sent on this host comes from the address of `a`; a cut here sends nothing, and says that it did."""
    monkeypatch.setattr(probes, "SILENCE_SECONDS", 0.5)
    real = Session.send

    def send(shell: Session, mark: str, targets: list[tuple[str, int]]) -> set[tuple[str, int]]:
        real(shell, mark, [target for target in targets if target[0] != "127.0.0.3" or not cut])
        return set(targets)

    monkeypatch.setattr(Session, "send", send)
    guests = Guests(lost)
    try:
        found = probes.datagrams(cast("Lab", guests), {("a", "b"): True, ("a", "c"): not cut})
    finally:
        guests.inside.close()
    assert {source + target: seen for (source, target), seen in found.items()} == heard
