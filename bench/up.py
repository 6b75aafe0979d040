"""How long the lab takes to build, use and remove, beside the article's way in the same run.

    .venv/bin/python -m bench.up [--no-baseline] [--rounds N] [--json FILE]

Both build three machines of 512 MiB on an embedded hypervisor of their own, one after the other, and are
removed again. Machines are noisy: quote the ratios. Memory is that of our own processes (bench/memory.py).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.memory import PeakMemory
from bench.vagrant import vagrant
from machine.errors import LabError
from machine.etcd_binaries import ensure
from machine.log import say
from machine.paths import CHECKOUT
from machine.process import run
from machine.versions import ETCD_DEFAULT

STACK = "bench"
Figures = dict[str, list[float]]


def _lab(*words: str) -> float:
    started = time.monotonic()
    run([str(CHECKOUT / "lab"), *words], seconds=900)
    return time.monotonic() - started


def _pulumi_up() -> float:
    lines = run([str(CHECKOUT / "lab"), "env", "--stack", STACK]).stdout
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", f'{lines}\npulumi up --yes --stack "$1" --expect-no-changes', "bash", STACK],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"The second pulumi up failed: {done.stdout[-800:]}{done.stderr[-400:]}")
    return time.monotonic() - started


def _times(figures: Figures, steps: dict[str, Callable[[], float]]) -> None:
    for name, step in steps.items():
        seconds = step()
        figures.setdefault(name, []).append(seconds)
        say(f"  {name}: {seconds:.1f} s")


def measure_lab(figures: Figures) -> float:
    """One round of the lab; gives the peak memory of its processes in MiB."""
    say("the lab")
    try:
        with PeakMemory() as memory:
            _times(figures, {"up": lambda: _lab("up", "--stack", STACK)})
        _times(
            figures,
            {
                "second up": _pulumi_up,
                "put": lambda: _lab("ctl", "--stack", STACK, "etcd1", "put", "key", "value"),
                "get": lambda: _lab("ctl", "--stack", STACK, "etcd1", "get", "key"),
                "status": lambda: _lab("status", "--stack", STACK),
                "off and on": lambda: (
                    _lab("fault", "inject", "power-off", "--target", "etcd3", "--stack", STACK)
                    + _lab("heal", "--stack", STACK)
                ),
            },
        )
    finally:
        _times(figures, {"destroy": lambda: _lab("destroy", "--stack", STACK)})
    return memory.peak_mib


def measure_baseline(figures: Figures) -> None:
    """One round of Vagrant and Ansible."""
    say("the baseline")
    binaries = ensure(ETCD_DEFAULT, say)
    with tempfile.TemporaryDirectory() as programs:
        for name, path in (("etcd", binaries.etcd), ("etcdctl", binaries.etcdctl)):
            shutil.copy(path, Path(programs) / name)
        with vagrant(Path(programs)) as its:
            _times(
                figures,
                {
                    "up": lambda: its.call("vagrant", "up", "--provider", "libvirt", "--parallel"),
                    "put": lambda: its.ssh("etcd1", "etcdctl put key value"),
                    "get": lambda: its.ssh("etcd1", "etcdctl get key"),
                    "status": lambda: its.ssh("etcd1", "etcdctl endpoint status -w table --cluster"),
                    "off and on": lambda: (
                        its.call("vagrant", "halt", "-f", "etcd3") + its.call("vagrant", "up", "etcd3")
                    ),
                    "destroy": lambda: its.call("vagrant", "destroy", "-f"),
                },
            )


def report(lab: Figures, baseline: Figures, memory: list[float]) -> dict[str, object]:
    """Print the table, and give it as plain data."""
    rows = []
    print(f"{'step':<12} {'lab':>8} {'baseline':>9} {'ratio':>6}")
    for name, seconds in lab.items():
        ours = statistics.median(seconds)
        theirs = statistics.median(baseline[name]) if name in baseline else None
        ratio = ours / theirs if theirs else None
        rows.append({"step": name, "lab_s": ours, "baseline_s": theirs, "ratio": ratio})
        print(
            f"{name:<12} {ours:>6.1f} s {f'{theirs:.1f} s' if theirs else '-':>9} {f'{ratio:.2f}' if ratio else '-':>6}"
        )
    if memory:
        print(f"peak memory of our own processes during up: {max(memory):.0f} MiB")
    return {"rows": rows, "peak_memory_mib": max(memory, default=None), "rounds": len(memory)}


def main() -> int:
    """Run the benchmark; 0 when it could be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-baseline", action="store_true", help="measure the lab alone")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is built (default 1)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    lab: Figures = {}
    baseline: Figures = {}
    memory: list[float] = []
    os.environ["NO_COLOR"] = "1"
    try:
        for _ in range(options.rounds):
            memory.append(measure_lab(lab))
            if not options.no_baseline:
                try:
                    measure_baseline(baseline)
                except LabError as error:
                    say(f"no baseline: {error}")
                    options.no_baseline = True
    except LabError as error:
        say(str(error))
        return error.exit_code
    figures = report(lab, baseline, memory)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
