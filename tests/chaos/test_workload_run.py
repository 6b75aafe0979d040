"""Workers against a real etcd on loopback: every profile recorded, merged, found linearizable; death and silence."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.checker.files import check_file
from chaos.workload.client import Endpoint
from chaos.workload.plan import Plan
from chaos.workload.pool import Pool
from chaos.workload.workload import Window, WorkloadSession
from machine import etcd_binaries
from machine.errors import InconclusiveError, LabError
from machine.versions import ETCD_DEFAULT
from machine.waiting import Pending, wait_until

pytestmark = pytest.mark.integration


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    directory, port = tmp_path_factory.mktemp("etcd"), free_port()
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
    words = f"--data-dir {directory}/data --listen-client-urls {client} --advertise-client-urls {client} "
    words += f"--listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster default={peer}"
    binary = etcd_binaries.ensure(ETCD_DEFAULT, print).etcd
    with (directory / "etcd.log").open("w") as log:
        process = subprocess.Popen([binary, *words.split()], stdout=log, stderr=log)

    def listens() -> None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError as error:
            raise Pending(str(error)) from None

    wait_until(listens, "etcd on loopback", seconds=30)
    yield process, port
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def pool(etcd: tuple[subprocess.Popen[bytes], int]) -> Iterator[Pool]:
    made = Pool([Endpoint(name, f"127.0.0.1:{etcd[1]}") for name in ("m1", "m2", "m3")])
    yield made
    made.close()


def session(pool: Pool, directory: Path, words: str) -> WorkloadSession:
    made = WorkloadSession(pool, Plan.parse(words), f"w/{time.monotonic_ns()}/", directory, 1)
    made.begin()
    return made


def history_of(made: WorkloadSession) -> list[dict[str, object]]:
    return [json.loads(line) for line in (made.directory / "history.jsonl").read_text().splitlines()[1:]]


@pytest.mark.parametrize("profile", ["default", "register", "txn", "watch", "lease", "lock"])
def test_every_profile_works_is_recorded_and_checks_out(pool: Pool, tmp_path: Path, profile: str) -> None:
    made = session(pool, tmp_path, f"{profile},rate=60,seed=3,lease_ttl=1")
    # who waits for a lock asks for it all the time, so that its turns take more operations
    made.wait_ok(made.begun_ns, 900 if profile == "lock" else 150, everyone=True, seconds=30)
    made.stop()
    made.do("m1", {"op": "put", "key": made.prefix + "z/end", "value": "end"}, 5)
    told = made.read_all(made.prefix + "z/end", 10)
    assert all(isinstance(one, dict) and one["whole"] and one["events"] > 20 for one in told.values()), told
    report = check_file(made.merge(), seconds=60)
    assert report.verdict.value == "linearizable", report.text()
    lines = history_of(made)
    assert report.operations == len(lines) > 150
    assert {line["member"] for line in lines} == {"m1", "m2", "m3"}
    kinds = {"default": "cas", "register": "delete", "txn": "txn", "watch": "get", "lease": "lease_keepalive"}
    assert kinds.get(profile, "lease_revoke") in {line["op"] for line in lines}
    assert sorted(int(str(line["invoke_ns"])) for line in lines) == [line["invoke_ns"] for line in lines]


def test_silence_is_recorded_as_unknown_and_counted_in_its_phase(
    etcd: tuple[subprocess.Popen[bytes], int], pool: Pool, tmp_path: Path
) -> None:
    made = session(pool, tmp_path, "watch,rate=30,deadline=0.4,mix=put:1")
    made.wait_ok(made.begun_ns, 30, everyone=True, seconds=20)
    begin = time.monotonic_ns()
    etcd[0].send_signal(signal.SIGSTOP)
    with pytest.raises(InconclusiveError, match="stands still"):
        made.wait_ok(time.monotonic_ns() + 100_000_000, 1, seconds=1)
    etcd[0].send_signal(signal.SIGCONT)
    window = Window(begin, time.monotonic_ns())
    made.wait_ok(window.end_ns, 10, everyone=True, seconds=20)
    made.stop()
    phases = made.phases([window])
    assert phases["during"]["unknown"] >= 3
    assert phases["before"]["ok"] >= 30
    assert phases["after"]["ok"] >= 10
    made.require(before=None, during=0, side=None, after=None)  # the only member there was did not run
    assert made.shortfall([window]) == ""
    made.require(before=None, during=10_000, side=["m2"], after=None)
    assert "during on m2" in made.shortfall([window])
    made.do("m1", {"op": "put", "key": made.prefix + "z/end", "value": "end"}, 5)
    made.read_all(made.prefix + "z/end", 10)
    report = check_file(made.merge(), seconds=60)
    assert report.verdict.value == "linearizable", report.text()
    unknown = [line for line in history_of(made) if line["outcome"] == "unknown"]
    assert unknown
    assert all(line["return_ns"] is None for line in unknown)
    # whether a call reached the stopped member is chance; what a watch tells of is settled, and nothing else
    events = [json.loads(line) for line in (made.directory / "watch.jsonl").read_text().splitlines()]
    happened = {(one["key"], one["value"]) for one in events if one["event"] == "put"}
    seen = [line for line in unknown if (line["key"], line.get("value")) in happened]
    assert sum(at > 0 for at in report.settled.values()) == len(seen)


def test_a_rate_that_is_not_reached_is_said(pool: Pool, tmp_path: Path) -> None:
    made = session(pool, tmp_path, "register,rate=9000")
    made.wait_ok(made.begun_ns, 30, seconds=20)
    made.stop()
    reached, enough = made.rate([])
    assert 0 < reached < 9000
    assert not enough


def test_a_killed_worker_leaves_its_last_operation_unknown_and_is_replaced(pool: Pool, tmp_path: Path) -> None:
    made = session(pool, tmp_path, "ledger,rate=0")
    made.wait_ok(made.begun_ns, 30, everyone=True, seconds=20)
    os.kill(pool.workers["m2"].pid, signal.SIGKILL)
    made.stop()
    assert list(made.lost) == ["m2"]
    text = made.history_of("m2").read_bytes()
    report = check_file(made.merge(), seconds=60)
    assert report.verdict.value == "linearizable", report.text()
    last = json.loads(text[: text.rfind(b"\n")].splitlines()[-1])
    if "outcome" not in last:
        assert [line for line in history_of(made) if line["outcome"] == "unknown"][-1]["key"] == last["key"]
    again = session(pool, tmp_path / "again", "ledger,rate=50")
    again.wait_ok(again.begun_ns, 9, everyone=True, seconds=20)
    again.stop()
    assert not again.lost


def test_a_worker_that_cannot_obey_says_why(pool: Pool, tmp_path: Path) -> None:
    made = session(pool, tmp_path, "ledger,rate=50")
    with pytest.raises(LabError, match="no operation"):
        made.do("m1", {"op": "nonsense", "key": "k"}, 1)
    made.stop()


def test_workers_end_when_their_parent_is_killed(etcd: tuple[subprocess.Popen[bytes], int], tmp_path: Path) -> None:
    code = (
        "import time\nfrom pathlib import Path\nfrom chaos.workload.client import Endpoint\n"
        "from chaos.workload.plan import Plan\nfrom chaos.workload.pool import Pool\n"
        "from chaos.workload.workload import WorkloadSession\n"
        f"pool = Pool([Endpoint('m1', '127.0.0.1:{etcd[1]}')])\n"
        f"made = WorkloadSession(pool, Plan.parse('watch,rate=20'), 'o/', Path('{tmp_path}'), 1)\n"
        "made.begin()\nprint(pool.workers['m1'].pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert Path(f"/proc/{worker}").exists()
        parent.kill()

    def gone() -> None:
        if Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split()[2]:
            raise Pending("still there")

    wait_until(gone, "the orphaned worker's end", seconds=10)
