"""What a worker of the workload can do, and what recording costs it, beside the same loop without recording.

    python bench/workload.py [--seconds 20] [--directory DIR]

One etcd on loopback, one worker's loop (register and ledger clients, as fast as it goes), in one process. Blocks with
and without recording take turns, so that both meet the same machine. Asked for: 300 operations a second, and an
overhead of the recorder under 2 ms at the 99th percentile. `--profile` says where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from chaos.workload.calls import Calls, channel  # noqa: E402
from chaos.workload.log import Log  # noqa: E402
from chaos.workload.plan import Plan  # noqa: E402
from chaos.workload.profiles import Client, Line, Worker, clients  # noqa: E402
from machine import etcd_binaries  # noqa: E402
from machine.versions import ETCD_DEFAULT  # noqa: E402
from machine.waiting import Pending, wait_until  # noqa: E402

BLOCK = 100
"""Operations of one kind before the other has its turn."""
ASKED_RATE, ASKED_OVERHEAD = 300, 0.002


@dataclass
class Side:
    """Times in seconds of one kind of loop: a whole turn, and what recording took of it."""

    turns: list[float] = field(default_factory=list)
    recording: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Operations a second."""
        return len(self.turns) / sum(self.turns)

    def text(self) -> str:
        """For a person."""
        return f"{self.rate:7.0f} op/s, turn median {middle(self.turns):.2f} ms, p99 {high(self.turns):.2f} ms"


def middle(times: list[float]) -> float:
    """Median in ms."""
    return statistics.median(times) * 1000


def high(times: list[float]) -> float:
    """99th percentile in ms."""
    return statistics.quantiles(times, n=100)[98] * 1000


@contextmanager
def etcd(directory: Path) -> Iterator[int]:
    """A single etcd on loopback, with its own defaults; gives its port."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as server:
            ports.append(server.getsockname()[1])
    client, peer = (f"http://127.0.0.1:{port}" for port in ports)
    words = f"--data-dir {directory}/data --listen-client-urls {client} --advertise-client-urls {client} "
    words += f"--listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster default={peer}"
    with (directory / "etcd.log").open("w") as log:
        process = subprocess.Popen([etcd_binaries.ensure(ETCD_DEFAULT, print).etcd, *words.split()], stderr=log)
    try:
        yield ports[0]
    finally:
        process.terminate()
        process.wait(20)


def turn(calls: Calls, request: Line, log: Log | None, side: Side) -> Line:
    """One operation, with what a worker does around it."""
    began = time.perf_counter()
    spent = 0.0
    if log is None:
        answer = calls.run(request, 5)
        line = request | answer | {"outcome": "ok" if answer["code"] == "OK" else "fail"}
    else:

        def note(at_ns: int) -> None:
            nonlocal spent
            before = time.perf_counter()
            log.begin(request, at_ns)
            spent += time.perf_counter() - before

        answer = calls.run(request, 5, note)
        before = time.perf_counter()
        line = log.end(answer)
        spent += time.perf_counter() - before
        side.recording.append(spent)
    side.turns.append(time.perf_counter() - began)
    return line


def loop(calls: Calls, play: Client, log: Log, seconds: float) -> tuple[Side, Side]:
    """Turns without and with recording, in blocks, for a time."""
    sides, end = (Side(), Side()), time.monotonic() + seconds
    request = next(play)
    while time.monotonic() < end:
        for recorder, side in zip((None, log), sides, strict=True):
            for _ in range(BLOCK):
                answer = turn(calls, request, recorder, side) if request is not None else {}
                request = play.send(answer)
    return sides


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--directory", type=Path, default=None, help="where etcd and the worker write")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory(prefix="workload-bench-", dir=options.directory) as name, etcd(Path(name)) as port:
        calls = Calls(channel(f"127.0.0.1:{port}", "", "", ""))

        def ready() -> None:
            told = calls.run({"op": "get", "key": "ready"}, 1)
            if told["code"] != "OK":
                raise Pending(told["error"])

        wait_until(ready, "etcd on loopback", seconds=30)
        worker = Worker(Plan.parse("default,rate=0"), "b/", 0, random.Random(1))  # noqa: S311 - repeatable
        profile = cProfile.Profile()
        with Log(Path(name) / "worker.jsonl", 0, "etcd1") as log:
            if options.profile:
                profile.enable()
            plain, recorded = loop(calls, clients(worker), log, options.seconds)
            profile.disable()
    overhead = high(recorded.recording)
    print(f"without recording {plain.text()}")
    print(f"with recording    {recorded.text()}")
    print(f"rate with / without recording: {recorded.rate / plain.rate:.2f}")
    print(f"recorder alone: median {middle(recorded.recording):.3f} ms, p99 {overhead:.3f} ms")
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(15)
    good = recorded.rate >= ASKED_RATE and overhead < ASKED_OVERHEAD * 1000
    print(f"asked for {ASKED_RATE} op/s and p99 under {ASKED_OVERHEAD * 1000:g} ms: {'yes' if good else 'no'}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
