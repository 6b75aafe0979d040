"""What probes of a guest mean, and what members say of each other."""

from __future__ import annotations

import errno
import os
import socket
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chaos import probes
from chaos.probes import Reach, classify_refusal, meaning, received_from
from chaos.session import Attempt
from machine.process import run


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


@pytest.mark.parametrize(
    ("awaited", "comes_at", "looks"),
    [((), 99, 1), (("10.0.0.1",), 1, 1), (("10.0.0.1",), 3, 3), (("10.0.0.1", "10.0.0.2"), 1, 10)],
)
def test_the_set_is_read_until_all_that_is_awaited_was_seen(
    awaited: tuple[str, ...], comes_at: int, looks: int, tmp_path: Path
) -> None:
    fakes = {
        "nft": f"""echo "$@" >>{tmp_path}/calls
            [ $(grep -c list {tmp_path}/calls) -lt {comes_at} ] || echo 'elements = {{ 10.0.0.1 timeout 60s }}'""",
        "sleep": ":",
    }
    for name, script in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run(["bash", "-c", probes.read_script(awaited)], env={"PATH": path})
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sum("list" in call for call in calls) == looks
    assert calls[-1] == f"delete table inet {probes.PROBE_TABLE}"
    assert ("10.0.0.1 " in done.stdout) == (comes_at <= looks)


def test_datagrams_are_sent_to_each_address_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        monkeypatch.setattr(probes, "DATAGRAM_PORT", server.getsockname()[1])
        refused = "255.255.255.255"  # not without SO_BROADCAST (ip(7)), so nothing leaves this host
        done = run(["bash", "-c", probes.send_script(["127.0.0.1", refused])])
        assert done.stdout.split() == ["127.0.0.1"]
        assert [server.recv(100) for _ in range(10)] == [b"probe\n"] * 10
