"""Everyday commands on a real lab of three nodes."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from chaos.workload.client import Endpoint, Writer
from chaos.workload.clients import Clients
from chaos.workload.outcome import Op
from infra.manifest import load

if TYPE_CHECKING:
    from chaos.lab.lab import Lab
    from tests.integration.conftest import Stack

# The limit holds for fixtures too: whichever test is first builds the lab and plays the scenarios.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]


def test_a_second_up_changes_nothing(lab: Stack) -> None:
    started = time.monotonic()
    done = lab.ok("up", seconds=120)
    print(f"second up: {time.monotonic() - started:.1f} s")  # noqa: T201
    assert re.search(r"Resources:\s+\d+ unchanged\s", done.stdout), done.stdout
    for changed in ("created", "updated", "deleted", "replaced"):
        assert f" {changed}" not in done.stdout.partition("Resources:")[2]


def test_status_is_the_table_of_the_article(lab: Stack) -> None:
    """S3: endpoint, id, version, db size, leader, raft term, raft index."""
    rows = [line.split("  ") for line in lab.ok("status").stdout.splitlines()]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    header, members = rows[0], rows[1:]
    assert header[:6] == ["NODE", "ENDPOINT", "ID", "VERSION", "DB SIZE", "IS LEADER"]
    assert [row[0] for row in members] == ["etcd1", "etcd2", "etcd3"]
    assert [row[5] for row in members].count("true") == 1
    assert len({row[7] for row in members}) == 1, "one raft term"


def test_health_from_here_and_from_each_node(lab: Stack) -> None:
    assert "cluster is healthy" in lab.ok("health").stdout
    for node in ("etcd1", "etcd3"):
        assert f"cluster is healthy, seen from {node}" in lab.ok("health", "--from", node).stdout
    unknown = lab.lab("health", "--from", "nobody")
    assert unknown.status == 2
    assert "etcd1, etcd2, etcd3" in unknown.stderr


def test_ctl_is_etcdctl_on_a_node(lab: Stack) -> None:
    """S11, with what makes it usable in scripts: odd words, input, exit status."""
    assert lab.ok("ctl", "etcd1", "put", "a key", 'it\'s "x" $HOME').stdout == "OK\n"
    assert lab.ok("ctl", "etcd2", "--", "get", "a key", "--print-value-only").stdout == 'it\'s "x" $HOME\n'
    assert lab.ok("ctl", "etcd3", "put", "from-input", stdin="by stdin").stdout == "OK\n"
    assert lab.ok("ctl", "etcd1", "get", "--print-value-only", "from-input").stdout == "by stdin\n"
    assert lab.lab("ctl", "etcd1", "get").status not in {0, 2}
    assert lab.lab("ctl", "nobody", "get", "x").status == 2


def test_ssh_passes_status_input_and_words(lab: Stack) -> None:
    assert lab.ok("ssh", "etcd2", "hostname").stdout == "etcd2\n"
    assert lab.lab("ssh", "etcd2", "--", "sh", "-c", "exit 7").status == 7
    assert lab.ok("ssh", "etcd2", "cat", stdin="through").stdout == "through"
    assert lab.ok("ssh", "etcd2", "echo 'a b' | wc -w").stdout.strip() == "2"
    assert lab.ok("ssh", "etcd2", "printf", "%s.", "a b", "$HOME").stdout == "a b.$HOME."


def test_logs_are_etcds(lab: Stack) -> None:
    assert "etcd" in lab.ok("logs", "etcd1", "-n", "50").stdout


def test_a_new_heartbeat_rolls_through_the_members_with_quorum_kept(lab: Stack, opened: Lab) -> None:
    """A client at each member writes all the time: at no moment do all of them stand still for long."""
    before = opened.manifest.timeouts
    heartbeat = 2 * before.heartbeat_ms
    lab.configure(subnet="192.168.94.0/24", heartbeat_ms=heartbeat, election_ms=10 * heartbeat)
    names = opened.manifest.node_names
    ends = [Endpoint.of(opened.manifest, opened.paths, name) for name in names]
    writers = [Writer(index, end, prefix=f"roll/{end.node}/") for index, end in enumerate(ends)]
    try:
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(lab.ok, "up", seconds=600).result()
    finally:
        ops = [op for writer in writers for op in writer.stop()]
    assert load(lab.paths).timeouts.heartbeat_ms == heartbeat
    for name in names:
        assert f"heartbeat-interval: {heartbeat}" in lab.ok("ssh", name, "cat", "/etc/etcd/etcd.yaml").stdout
    assert lab.lab("health").status == 0
    gap = longest_gap(ops)
    print(f"longest time without an acknowledged write: {gap:.2f} s; {done.stdout[-300:]}")  # noqa: T201
    # One lost leader: an election (1 to 2 election timeouts), and a slow machine.
    assert gap < 2 * 10 * heartbeat / 1000 + 5
    check_kept(opened, ops)


def longest_gap(ops: list[Op]) -> float:
    """Seconds between two acknowledged writes, whoever wrote, at the longest."""
    ends = sorted(op.return_ns for op in ops if op.ok and op.return_ns is not None)
    assert len(ends) > 20, "the writers wrote"
    return max(later - earlier for earlier, later in itertools.pairwise(ends)) / 1e9


def check_kept(opened: Lab, ops: list[Op]) -> None:
    """Every acknowledged write is still there."""
    with contextlib.closing(Clients(opened.manifest, opened.paths)) as clients:
        reader = clients.of(opened.manifest.node_names[0])
        kept = {key: value for key, value, _ in reader.range("roll/", deadline=20.0).values}
    lost = [op.key for op in ops if op.ok and kept.get(op.key) != op.value]
    assert lost == []


def test_a_refresh_of_a_lab_as_it_was_built_finds_no_change(lab: Stack) -> None:
    done = lab.shell('eval "$(./lab env)" && pulumi refresh --yes --skip-preview --expect-no-changes', seconds=180)
    assert done.ok, done.stdout[-3000:] + done.stderr


def test_refresh_sees_a_stopped_service_and_up_repairs_it(lab: Stack) -> None:
    lab.ok("ssh", "etcd2", "systemctl", "stop", "etcd")
    assert lab.lab("health").status == 1
    assert lab.lab("status").status == 1
    refreshed = lab.shell('eval "$(./lab env)" && pulumi refresh --yes --skip-preview', seconds=180)
    assert refreshed.ok, refreshed.stderr
    assert "drifted: etcd2: etcd.service" in refreshed.stdout + refreshed.stderr
    preview = lab.shell('eval "$(./lab env)" && pulumi preview --expect-no-changes', seconds=180)
    assert preview.status != 0, "a preview after the refresh shows what up would repair"
    lab.ok("up", seconds=300)
    assert lab.lab("health").status == 0


def test_stop_and_start_keep_the_state(lab: Stack) -> None:
    lab.ok("ctl", "etcd1", "put", "kept", "over the night")
    lab.ok("stop", seconds=180)
    assert lab.lab("status").status == 1
    again = lab.ok("stop")
    assert "off already" in again.stderr
    lab.ok("start", seconds=400)
    assert lab.ok("ctl", "etcd3", "get", "--print-value-only", "kept").stdout == "over the night\n"


def test_secrets_are_private_and_the_state_holds_them_encrypted(lab: Stack) -> None:
    paths = lab.paths
    for path in (paths.ssh_key, paths.client_key, paths.dir.parent.parent / "passphrase"):
        assert path.stat().st_mode & 0o077 == 0, path
    state_dir = paths.dir.parent.parent / "state"
    texts = {path: path.read_bytes() for path in state_dir.rglob("*") if path.is_file()}
    assert any(b"ciphertext" in text for text in texts.values())
    for path, text in texts.items():
        assert b"PRIVATE KEY" not in text, f"a key in the clear in {path}"
    passphrase = (paths.dir.parent.parent / "passphrase").read_text().strip()
    assert not any(passphrase.encode() in text for text in texts.values())


def test_plain_pulumi_and_pytest_work_after_env(lab: Stack) -> None:
    script = 'eval "$(./lab env)" && pulumi preview --expect-no-changes && pytest chaos/ -m S3'
    done = lab.shell(script, seconds=600)
    assert done.ok, done.stdout + done.stderr
    assert "1 passed" in done.stdout
