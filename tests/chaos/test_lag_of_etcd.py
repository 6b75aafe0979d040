"""The settings of `snapshot-lag` on real members of each version: one that was away comes back by a snapshot."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.faults.etcd.snapshot_lag import _APPLIED, _SENT, KEEP, SNAPSHOT_COUNT, _newest, catch_up_keys
from deploy.loopback import free_ports
from deploy.plan import etcd_file
from machine import etcd_binaries
from machine.paths import cache_dir
from machine.versions import ETCD_DEFAULT
from machine.waiting import Pending, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

NAMES = ("a", "b", "c")
WRITES = 3 * (SNAPSHOT_COUNT + KEEP)


def versions() -> list[str]:
    """One that has no name for the setting, the default, and what this machine has of 3.4 already."""
    kept = sorted(path.name for path in (cache_dir() / "etcd").glob("3.4.*") if (path / "record.json").exists())
    return ["3.5.13", ETCD_DEFAULT, *kept[-1:]]


class Members:
    """Three members on loopback, without certificates."""

    def __init__(self, version: str, directory: Path) -> None:
        ports = free_ports(2 * len(NAMES))
        self._clients = dict(zip(NAMES, ports[::2], strict=True))
        self._peers = dict(zip(NAMES, ports[1::2], strict=True))
        self._version, self._directory = version, directory
        self._program = etcd_binaries.ensure(version, print).etcd
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        client, peer = f"http://127.0.0.1:{self._clients[name]}", f"http://127.0.0.1:{self._peers[name]}"
        settings: dict[str, object] = {
            "name": name,
            "data-dir": str(self._directory / name),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": ",".join(f"{other}=http://127.0.0.1:{port}" for other, port in self._peers.items()),
            "enable-grpc-gateway": True,
            "logger": "zap",
            "log-outputs": ["stderr"],
            "snapshot-count": SNAPSHOT_COUNT,
            **dict.fromkeys(catch_up_keys(self._version), KEEP),
        }
        config = self._directory / f"{name}.yaml"
        config.write_text(etcd_file(settings))
        with (self._directory / f"{name}.log").open("ab") as log:
            words = ["setpriv", "--pdeathsig", "KILL", str(self._program), f"--config-file={config}"]
            self._running[name] = subprocess.Popen(words, stdout=log, stderr=log)

    def stop(self, name: str) -> None:
        self._running[name].kill()
        self._running.pop(name).wait()

    def close(self) -> None:
        for name in list(self._running):
            self.stop(name)

    def put(self) -> None:
        """One write through the first member, once it is taken."""
        body = json.dumps({"key": "YQ==", "value": "YQ=="}).encode()
        call = urllib.request.Request(f"http://127.0.0.1:{self._clients['a']}/v3/kv/put", body)

        def taken() -> None:
            try:
                with urllib.request.urlopen(call, timeout=5) as answer:  # noqa: S310 - http
                    answer.read()
            except OSError as error:
                raise Pending(str(error)) from None

        wait_until(taken, "a write to be taken", seconds=60)

    def log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text(errors="replace")


@pytest.fixture(params=versions())
def members(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Members]:
    with contextlib.closing(Members(request.param, tmp_path)) as made:
        yield made


def test_a_member_that_was_away_comes_back_by_a_snapshot(members: Members) -> None:
    for name in NAMES:
        members.start(name)
    members.put()
    members.stop("c")
    for _ in range(WRITES):
        members.put()
    members.start("c")

    def back() -> None:
        sent = max(_newest(_SENT, members.log(name)) for name in ("a", "b"))
        if not 0 < _newest(_APPLIED, members.log("c")) == sent:
            raise Pending(f"sent up to {sent}")

    wait_until(back, "the snapshot to be sent and applied", seconds=60)
