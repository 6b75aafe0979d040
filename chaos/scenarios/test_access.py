"""Reaching the members' own tools from the host (S11)."""

from __future__ import annotations

import statistics
import subprocess
import time

import pytest

from chaos.harness.declare import scenario
from chaos.harness.scenario_run import ScenarioRun
from machine.errors import InconclusiveError
from machine.paths import CHECKOUT

ARTICLE_SECONDS = 2.4
"""What one `vagrant ssh NODE -- etcdctl …` took in the article."""


@pytest.mark.access
@scenario("S11", "etcdctl on any node in one short command", "seed", "quick")
def test_etcdctl_on_any_node_from_the_host(scenario: ScenarioRun) -> None:
    """`./lab ctl NODE …` gives what etcdctl says, its exit status too, faster than the article's way."""
    lab = scenario.lab
    value = f"v{time.monotonic_ns()}"

    def ctl(node: str, *words: str) -> tuple[subprocess.CompletedProcess[str], float]:
        argv = [str(CHECKOUT / "lab"), "ctl", "--stack", lab.manifest.stack, node, *words]
        started = time.monotonic()
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
        return done, time.monotonic() - started

    times: dict[str, float] = {}
    first = lab.manifest.node_names[0]
    with scenario.step(f"./lab ctl {first} put access/key {value}", "OK, exit status 0") as step:
        done, _ = ctl(first, "put", "access/key", value)
        step.observed(done.stdout.strip() or done.stderr.strip())
        assert (done.returncode, done.stdout.strip()) == (0, "OK")
    scenario.quiesce()  # the article's calls met an idle cluster, and these are held against them
    for node in lab.manifest.node_names:
        with scenario.step(f"./lab ctl {node} get access/key", value) as step:
            # the first call may open the connection, which is kept then
            calls = [ctl(node, "get", "access/key", "--print-value-only") for _ in range(2)]
            done, times[node] = min(calls, key=lambda call: call[1])
            step.observed(f"{done.stdout.strip() or done.stderr.strip()} in {times[node]:.2f} s")
            assert (done.returncode, done.stdout.strip()) == (0, value)
    with scenario.step("a command that etcdctl refuses", "its own exit status and words") as step:
        done, _ = ctl(first, "get")
        step.observed(f"exit status {done.returncode}: {done.stderr.strip().splitlines()[0]}")
        assert done.returncode not in (0, 255)
        assert "get" in done.stderr
    scenario.metric("ctl_seconds", {node: round(seconds, 3) for node, seconds in times.items()})
    with scenario.step("time of one call", f"under the article's {ARTICLE_SECONDS} s") as step:
        middle = statistics.median(times.values())
        step.observed(f"{middle:.2f} s, median of {len(times)}")
        if middle >= ARTICLE_SECONDS:
            raise InconclusiveError(f"One call took {middle:.2f} s: this machine is too slow to compare")
