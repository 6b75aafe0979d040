"""The WAL of a real etcd on loopback, read while it runs: exactly what was written, in order, also when compacted."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from chaos.checker.history_reader import read_history
from chaos.checker.log_evidence import find, open_writes
from chaos.checker.raftlog.committed import merge
from chaos.checker.raftlog.requests import request_of
from chaos.checker.raftlog.wal_reader import Log
from chaos.measure import raft_logs
from machine import etcd_binaries
from machine.paths import cache_dir
from machine.process import Completed, run
from machine.versions import ETCD_DEFAULT
from machine.waiting import Pending, wait_until

pytestmark = pytest.mark.integration


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


class Etcd:
    """One etcd, spoken to through its JSON gateway."""

    def __init__(self, binary: Path, directory: Path) -> None:
        self.port, self.data = free_port(), directory / "data"
        client, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{free_port()}"
        words = f"--data-dir {self.data} --listen-client-urls {client} --advertise-client-urls {client} "
        words += f"--listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster default={peer}"
        with (directory / "etcd.log").open("w") as log:
            self.process = subprocess.Popen([binary, *words.split()], stdout=log, stderr=log)

    def ask(self, path: str, **body: Any) -> int:
        """A call; the header's revision."""
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/v3/{path}", json.dumps(body).encode())
        with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310 - http
            return int(json.load(answer)["header"]["revision"])

    def put(self, key: str, value: str) -> int:
        return self.ask("kv/put", key=coded(key), value=coded(value))

    def log(self) -> Log:
        """As it is fetched from a member."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(raft_logs, "DIRECTORY", str(self.data / "member" / "wal"))
            here: Any = SimpleNamespace(shell=lambda _: SimpleNamespace(run=local))  # noqa: S604 - no subprocess
            found = raft_logs.collect(here, ["m"], 0, self.data / "copies")
        assert found.missed == {}
        assert sum(path.stat().st_size for path in self.data.glob("copies/m/*.wal")) < 1 << 20, "64 MB, mostly empty"
        return found.logs[0]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def local(script: str, seconds: float) -> Completed:
    """A member's shell, on this machine."""
    return run(["sh", "-c", script], seconds=seconds)


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def kept() -> list[str]:
    """The default version, and those of other lines that are on this machine already."""
    there = {path.name for path in (cache_dir() / "etcd").glob("3.*") if (path / "etcd").exists()}
    return [ETCD_DEFAULT, *sorted(there - {ETCD_DEFAULT})]


@pytest.fixture(params=kept())
def etcd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Etcd]:
    server = Etcd(etcd_binaries.ensure(request.param, print).etcd, tmp_path)

    def answers() -> None:
        try:
            server.ask("kv/range", key=coded("x"))
        except OSError as error:
            raise Pending(str(error)) from None

    try:
        wait_until(answers, "etcd on loopback", seconds=30)
        yield server
    finally:
        server.close()


def test_a_log_holds_exactly_what_was_written_in_order(etcd: Etcd) -> None:
    written = [(f"k/{number}", f"value {number}" * (number * 50 + 1)) for number in range(8)]
    revisions = [etcd.put(*pair) for pair in written]
    etcd.ask("kv/deleterange", key=coded("k/0"))
    guard = {"key": coded("k/1"), "target": "VERSION", "version": "0"}
    put = {"requestPut": {"key": coded("k/1"), "value": coded("never")}}
    refused = etcd.ask("kv/txn", compare=[guard], success=[put])
    end = etcd.put("k/end", "end")
    etcd.ask("kv/compaction", revision=str(end), physical=True)
    began = time.monotonic()
    log = etcd.log()
    committed = merge([log], 1)
    found = [pair for entry in committed.entries for pair in request_of(entry).puts]
    assert found == [*written, ("k/1", "never"), ("k/end", "end")]
    assert committed.whole_from == 1
    assert time.monotonic() - began < 10

    # as if no answer had come to a put, a txn that was refused, and a put that never arrived
    lines = []
    for number, (key, value) in enumerate([*written, ("k/1", "never"), ("k/end", "end"), ("k/2", "on the way")]):
        times = {"process": number, "invoke_ns": number * 10, "return_ns": number * 10 + 5}
        line: dict[str, Any] = {"op": "put", "key": key, "value": value, "outcome": "ok"} | times
        line |= {"revision": (*revisions, refused, end, 0)[number]}
        if value in {written[3][1], "never", "on the way"}:
            line |= {"outcome": "unknown", "return_ns": None, "revision": None}
        lines.append(line)
    lines.append({"op": "delete", "key": "k/0", "outcome": "ok", "process": 99, "invoke_ns": 85, "return_ns": 86,
                  "revision": revisions[-1] + 1, "deleted": 1})  # fmt: skip
    history = read_history([orjson.dumps(line) for line in lines])
    said = find(history, [], open_writes(history, ()), [log], members=1, base_index=0)
    assert said.happened == {3: revisions[3]}
    # of delete and txn, one took a revision; which one is not for the log to say
    assert (said.never, said.committed) == ({10}, {8})
