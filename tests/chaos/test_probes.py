"""Probes from inside guests: the script really runs, and its answers mean what they say."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator

import pytest

from chaos.probes import Reach, active_peers, classify_probe, probe_script


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def probe(address: str, port: int) -> Reach:
    done = subprocess.run(
        ["sh", "-c", probe_script([address], port)], capture_output=True, text=True, timeout=20, check=True
    )
    told, _, rest = done.stdout.strip().partition(" ")
    assert told == address
    return classify_probe(rest)


def test_an_open_port_and_a_refusing_one_are_both_answers(listener: int) -> None:
    assert probe("127.0.0.1", listener) is Reach.ANSWERED
    with socket.create_server(("127.0.0.1", 0)) as gone:
        free = gone.getsockname()[1]
    assert probe("127.0.0.1", free) is Reach.ANSWERED


def test_silence_is_no_answer_and_a_broken_probe_is_neither() -> None:
    assert classify_probe("124 ") is Reach.SILENT
    assert classify_probe("1 bash: connect: No route to host bash: line 1: /dev/tcp/…") is Reach.SILENT
    assert classify_probe("127 timeout: not found") is Reach.UNKNOWN


def test_peers_are_counted_by_their_connections() -> None:
    text = (
        "# TYPE etcd_network_active_peers gauge\n"
        'etcd_network_active_peers{Local="8e9e05c52164694d",Remote="91bc3c398fb3c146"} 1\n'
        'etcd_network_active_peers{Local="8e9e05c52164694d",Remote="fd422379fda50e48"} 0\n'
    )
    assert active_peers(text) == {"91bc3c398fb3c146"}
