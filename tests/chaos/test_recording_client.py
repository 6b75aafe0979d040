"""The recording client against a real etcd on loopback: what it tells about answers, silence and death."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.workload.availability import measure
from chaos.workload.client import Client, Endpoint, Writer
from machine import etcd_binaries
from machine.errors import LabError
from machine.versions import ETCD_DEFAULT
from machine.waiting import Pending, wait_until

pytestmark = pytest.mark.integration


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


class Etcd:
    """One etcd without TLS, which tests may stop, continue and kill."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        client, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{free_port()}"
        binary = etcd_binaries.ensure(ETCD_DEFAULT, print).etcd
        words = f"--data-dir {directory}/data --listen-client-urls {client} --advertise-client-urls {client} "
        words += f"--listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster default={peer}"
        with (directory / "etcd.log").open("w") as log:
            self.process = subprocess.Popen([binary, *words.split()], stdout=log, stderr=log)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("etcd1", f"127.0.0.1:{self.port}")

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    server = Etcd(tmp_path)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def client(etcd: Etcd) -> Iterator[Client]:
    made = Client(7, etcd.endpoint)
    try:

        def answers() -> None:
            got = made.put("ready", "", deadline=2)
            if not got.ok:
                raise Pending(str(got))

        wait_until(answers, "etcd on loopback", seconds=30)
        yield made
    finally:
        made.close()


def test_operations_tell_value_and_revisions(client: Client) -> None:
    first = client.put("k", "1")
    assert first.revision is not None
    got = client.get("k")
    assert (got.value, got.revision, got.mod_revision) == ("1", first.revision, first.revision)
    lost, won = client.cas("k", "9", "2"), client.cas("k", "1", "2")
    assert (lost.succeeded, won.succeeded) == (False, True)
    assert won.revision == first.revision + 1
    assert client.range("k").values == (("k", "2", won.revision),)
    assert (client.delete("k").deleted, client.delete("k").deleted) == (1, 0)
    absent = client.get("k")
    assert (absent.ok, absent.value, absent.mod_revision) == (True, None, None)


def test_silence_is_unknown_at_the_deadline_and_the_worker_goes_on_under_another_number(
    etcd: Etcd, client: Client
) -> None:
    process = client.get("k").process
    etcd.process.send_signal(signal.SIGSTOP)
    put = client.put("k", "1", deadline=0.5)
    etcd.process.send_signal(signal.SIGCONT)
    assert (put.outcome, put.code) == ("unknown", "DEADLINE_EXCEEDED")
    assert 0.5 <= put.seconds < 2
    assert client.get("k").process != process


def test_a_refused_connection_is_a_certain_failure_and_is_not_retried(etcd: Etcd, client: Client) -> None:
    etcd.process.kill()
    etcd.process.wait()
    client.put("k", "0", deadline=1)  # may meet the connection as it ends: unknown
    put = client.put("k", "1", deadline=1)
    assert put.outcome == "fail", put
    assert put.seconds < 0.9


def test_a_writer_sees_the_gap_that_was_made(etcd: Etcd, client: Client) -> None:
    assert client.put("k", "1").ok
    with Writer(8, etcd.endpoint, prefix="w/", period=0.05, deadline=0.4) as writer:
        wait_until(lambda: enough(writer, 10), "calm", seconds=10, every=0.05)
        etcd.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic_ns()
        time.sleep(1.5)
        etcd.process.send_signal(signal.SIGCONT)
        continued = time.monotonic_ns()
        more = len(writer.acknowledged) + 10
        wait_until(lambda: enough(writer, more), "after", seconds=10, every=0.05)
    (gap,) = measure(writer.ops).within(stopped, continued)
    assert abs(gap.begin_ns - stopped) < 0.3e9
    assert continued - 0.1e9 < gap.end_ns < continued + 1.5e9
    stored = {key: value for key, value, _ in client.range("w/").values}
    assert all(stored[key] == op.value for key, op in writer.acknowledged.items())


def enough(writer: Writer, count: int) -> None:
    if len(writer.acknowledged) < count:
        raise Pending(f"{len(writer.acknowledged)} acknowledged")


def test_a_client_whose_process_dies_says_so(etcd: Etcd, client: Client) -> None:
    process = client._child._process
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(LabError, match="recording client ended"):
        client.put("k", "1")


def test_a_client_ends_when_its_parent_is_killed(etcd: Etcd, client: Client) -> None:
    """The pipe's end is the order to stop, even in the middle of a loop."""
    code = (
        "import os, sys, time\nfrom chaos.workload.client import Endpoint, Writer\n"
        f"w = Writer(1, Endpoint('etcd1', '127.0.0.1:{etcd.port}'), prefix='x/')\n"
        "print(w._child._process.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.kill()

    def gone() -> None:
        if Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
            raise Pending("still there")

    wait_until(gone, "the orphaned client's end", seconds=10)
