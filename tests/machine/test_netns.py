"""machine.netns without rights: names, and plain connections on loopback."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from machine import netns
from machine.errors import HypervisorError


def test_without_a_namespace_a_plain_connection_is_made() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with netns.connect(None, "127.0.0.1", server.getsockname()[1], 2.0) as connection:
            peer, _ = server.accept()
            with peer:
                connection.sendall(b"hello")
                assert peer.recv(5) == b"hello"
        assert connection.gettimeout() == 2.0


def test_a_closed_port_is_refused_as_with_any_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        netns.connect(None, "127.0.0.1", port, 2.0)


def test_a_missing_namespace_is_named_and_the_remedy_with_it() -> None:
    with pytest.raises(HypervisorError, match=r"etcdlab-none does not exist.*lab start"):
        netns.connect("etcdlab-none", "127.0.0.1", 1, 1.0)


def test_a_plain_file_is_no_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reboot leaves one where /run is on disk."""
    monkeypatch.setattr(netns, "NETNS_DIR", tmp_path)
    (tmp_path / "left").touch()
    assert not netns.exists("left")
    assert not netns.exists("never")
    assert netns.processes("left") == []


def test_all_processes_hold_this_one() -> None:
    assert os.getpid() in set(netns.all_processes())
