"""Probes from inside guests: the script really runs, and its answers mean what they say."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from chaos.probes import Reach, classify_refusal, probe_script, read_probes, received_from


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def probe(port: int, *addresses: str, seconds: float = 3.0) -> dict[str, Reach]:
    script = probe_script(addresses, port, seconds)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=20, check=True)
    return read_probes(done.stdout, {address: address for address in addresses})


def test_an_open_port_and_a_refusing_one_are_both_answers_at_once(listener: int) -> None:
    begun = time.monotonic()
    assert probe(listener, "127.0.0.1", "127.0.0.2", seconds=9) == {
        "127.0.0.1": Reach.ANSWERED,
        "127.0.0.2": Reach.ANSWERED,
    }
    assert time.monotonic() - begun < 5


def test_an_attempt_that_nobody_answers_is_silence() -> None:
    """A listener whose backlog is full drops further SYNs, as a cut would."""
    with socket.socket() as server, contextlib.ExitStack() as held:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        assert probe(port, "127.0.0.1", "127.0.0.2", seconds=0.5) == {
            "127.0.0.1": Reach.SILENT,
            "127.0.0.2": Reach.ANSWERED,
        }


def test_a_probe_that_did_not_end_or_could_not_run_says_nothing() -> None:
    assert read_probes("open 10.0.0.1\n", {"10.0.0.1": "etcd1"}) == {}
    assert classify_refusal("Permission denied") is Reach.UNKNOWN
    assert classify_refusal("No route to host") is Reach.SILENT


def test_what_was_received_is_told_by_sender_without_the_keep_alives() -> None:
    text = (
        "# TYPE etcd_network_peer_received_bytes_total counter\n"
        'etcd_network_peer_received_bytes_total{From="0"} 280\n'
        'etcd_network_peer_received_bytes_total{From="1c3dbc1266e7b820"} 1.5759e+06\n'
        'etcd_network_peer_sent_bytes_total{To="1c3dbc1266e7b820"} 9\n'
    )
    assert received_from(text) == {"1c3dbc1266e7b820": 1575900.0}
