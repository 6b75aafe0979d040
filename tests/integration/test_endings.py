"""What ends with what, and in which environment, on a real lab: commands on nodes, runs that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from machine import guard
from machine.paths import CHECKOUT
from machine.waiting import Pending, wait_until

if TYPE_CHECKING:
    from tests.integration.conftest import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]

NAME = "endings"

ENDING_SECONDS = 15.0
"""From our end to the end on the node: sshd, the watch's 0.3 s, etcdctl's revocation, all emulated."""


@contextlib.contextmanager
def started(lab: Stack, *words: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """`./lab WORDS` in a session of its own, as a terminal has it; its output is a pipe."""
    process = subprocess.Popen(
        ["./lab", *words],
        cwd=CHECKOUT,
        env={**lab.env, **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def on_node(lab: Stack, node: str, script: str) -> str:
    return lab.ok("ssh", node, script).stdout.strip()


def nothing_left(lab: Stack, node: str, pattern: str) -> None:
    """No process on the node whose words match; the one that looks is left out by its pattern's brackets."""

    def probe() -> None:
        if left := on_node(lab, node, f"pgrep -af '{pattern}' || true"):
            raise Pending(left)

    wait_until(probe, f"the end of {pattern} on {node}", seconds=ENDING_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
def test_a_lock_is_released_when_the_command_that_holds_it_ends_here(lab: Stack, number: signal.Signals) -> None:
    """Ctrl-C, a closed terminal, kill, and SIGKILL: etcdctl on the node revokes its lease and ends."""
    with started(lab, "ctl", "etcd1", "lock", NAME) as command:
        assert command.stdout
        assert command.stdout.readline().startswith(NAME.encode()), "the lock is held"
        os.killpg(command.pid, number)
        command.wait(ENDING_SECONDS)

    def probe() -> None:
        if held := lab.ok("ctl", "etcd1", "get", "--prefix", "--keys-only", f"{NAME}/").stdout.strip():
            raise Pending(held)

    wait_until(probe, "the lock to be free", seconds=ENDING_SECONDS)
    nothing_left(lab, "etcd1", "[e]tcdctl lock")


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (("logs", "etcd1", "-f", "-n", "1"), "[j]ournalctl .*--follow"),
        (("ssh", "etcd1", "echo up; trap '' HUP; sleep 4321"), "[s]leep 4321"),
        (("ssh", "etcd1", "sh", "-c", "echo up; sleep 4322 & wait"), "[s]leep 4322"),
    ],
)
def test_what_runs_on_a_node_ends_with_a_sigkill_of_ours(lab: Stack, words: tuple[str, ...], pattern: str) -> None:
    with started(lab, *words) as command:
        assert command.stdout
        assert command.stdout.readline()
        assert on_node(lab, "etcd1", f"pgrep -af '{pattern}'")
        command.kill()
        command.wait()
        nothing_left(lab, "etcd1", pattern)


def test_commands_on_nodes_pass_binary_data_status_and_closed_pipes(lab: Stack, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(bytes(range(256)) * 8192)
    done = lab.shell(f"./lab ssh etcd1 cat <{data} | cmp - {data} && ./lab ssh etcd1 'kill -KILL $$'")
    assert done.status == 128 + signal.SIGKILL, done.stderr
    assert "Killed" not in done.stderr
    assert lab.shell("./lab ssh etcd1 'yes' | head -1").stdout == "y\n"
    nothing_left(lab, "etcd1", "^[y]es")
    assert lab.shell("echo 'hostname; exit 3' | ./lab ssh etcd1").stdout == "etcd1\n"


def tree_of(process: subprocess.Popen[bytes], *, wanted: tuple[str, ...], seconds: float) -> dict[int, str]:
    """Everything below the process, once a process of each kind is there."""

    def probe() -> dict[int, str]:
        if process.poll() is not None:
            pytest.fail(f"it ended with {process.returncode} before there was something to kill")
        found = {}
        for pid in guard.tree({process.pid}):
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        missing = [one for one in wanted if not any(one in words for words in found.values())]
        if missing:
            raise Pending(f"no {missing}")
        return found

    return wait_until(probe, "the processes of the run", seconds=seconds, every=0.1)


def all_ended(tree: dict[int, str], seconds: float = 15) -> None:
    def probe() -> None:
        if left := {pid: words for pid, words in tree.items() if guard.stat(pid)}:
            raise Pending(str(left))

    wait_until(probe, "the end of the run", seconds=seconds, every=0.05)


def test_sigkill_of_verify_ends_all_of_it_and_heal_works_at_once(lab: Stack) -> None:
    """A run that lives is named meanwhile, with its command and its end."""
    with started(lab, "verify", "--scenarios", "S6") as run:
        tree = tree_of(
            run, wanted=("-m pytest", "sampler_child", "workload.worker", "chaos.stack.provider_main"), seconds=180
        )
        refused = lab.lab("heal")
        assert refused.status == 2
        assert "./lab verify --scenarios S6" in refused.stderr
        assert f"kill -INT {run.pid}" in refused.stderr
        run.kill()
        run.wait()
        healed = lab.ok("heal", seconds=240)
        assert "Another run" not in healed.stderr
        all_ended(tree, 1)
    assert lab.lab("health").status == 0


def test_sigkill_of_an_injection_ends_engine_and_provider(lab: Stack) -> None:
    with started(lab, "fault", "inject", "partition", "--target", "etcd1") as run:
        tree = tree_of(run, wanted=("chaos.stack.provider_main", "pulumi --non-interactive"), seconds=60)
        run.kill()
        run.wait()
        all_ended(tree)
    lab.ok("heal", seconds=240)
    assert lab.lab("health").status == 0


def test_verify_in_an_environment_made_for_another_project(lab: Stack, tmp_path: Path) -> None:
    """Proxies that lead nowhere, a long TMPDIR, options of other tests, a Python without assertions."""
    proxy = "http://127.0.0.1:9"
    long = tmp_path / ("x" * 100)
    long.mkdir()
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    env = {
        **dict.fromkeys(names, proxy),
        "TMPDIR": str(long),
        "PYTEST_ADDOPTS": "-n auto",
        "PYTHONOPTIMIZE": "2",
        "PULUMI_DEBUG_PROVIDERS": "libvirt:1",
        "LC_ALL": "tr_TR.ISO-8859-9",
    }
    with started(lab, "verify", "--scenarios", "S3", "--yes", env=env) as run:
        out, _ = run.communicate(timeout=300)
    assert run.returncode == 0, out.decode()[-3000:]
    latest = (CHECKOUT / ".lab/reports/latest").resolve()
    samples = (latest / "scenarios/S3/samples.jsonl").read_text().splitlines()
    assert len(samples) > 3
    assert json.loads(samples[-1])["ok"], samples[-1]
    assert list(long.iterdir()) == [], "and nothing is left there"
    plain = lab.shell('export PYTEST_ADDOPTS="-n auto"; eval "$(./lab env)"; echo "${PYTEST_ADDOPTS-unset}"')
    assert plain.stdout.strip() == "unset"
