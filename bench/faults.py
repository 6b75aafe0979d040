"""How long faults take to make, prove and heal on a lab that stands, beside the article's three `vagrant ssh` calls.

    .venv/bin/python -m bench.faults [--stack NAME] [--kinds A,B] [--rounds N] [--no-baseline] [--json FILE]

Each kind is made on one node through the verification stack, and healed. `change` is until the fault is made, `proof`
until it has shown, `whole` what the caller waits, engine included. `skew` is the time between the first and the last
node that it hits, where several machines take part. The commands are timed from start to end, as a user waits for
them. Figures are medians; machines are noisy, so quote the ratios.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.vagrant import require, vagrant
from chaos.faults.base import Fault, Result
from chaos.faults.registry import KINDS, kind
from chaos.harness.sequences import WORDS
from chaos.heal.heal import heal_lab
from chaos.lab.lab import Lab
from chaos.lab.lock import exclusive_use
from chaos.stack.verification import Verification
from infra.manifest import load
from machine.errors import LabError
from machine.etcd_binaries import ensure
from machine.log import say
from machine.paths import CHECKOUT, stack_paths
from machine.process import run
from machine.versions import ETCD_DEFAULT

COMMANDS = (("partition", "etcd2"), ("one-way", "etcd2"), ("stop-process", "etcd2"), ("kill", "etcd2"))
"""Faults that are also made by `./lab fault inject`, and their target; one that must wait for systemd, `kill`, too."""

Figures = dict[str, list[float]]


def measure(lab: Lab, stack: Verification, name: str, rounds: int) -> dict[str, object]:
    """Medians of one kind, in seconds; what went wrong instead, when it could not be measured."""
    figures: Figures = {}
    skews: list[float] = []
    words = lab.manifest.node_names[-1 - (WORDS.get(name, 1) - 1) :]
    try:
        for _ in range(rounds):
            fault = kind(name).declare(lab, tuple(words))
            for action, wanted in (("inject", [fault]), ("heal", [])):
                started = time.monotonic()
                [result] = stack.set(wanted)
                _note(figures, action, result, time.monotonic() - started)
                if action == "inject" and (skew := skew_of(fault, result, lab)) is not None:
                    skews.append(skew)
            lab.cluster.wait_healthy(240)
    except LabError as error:
        heal_lab(lab)
        return {"fault": name, "error": str(error)}
    medians = {figure: round(statistics.median(seconds), 2) for figure, seconds in figures.items()}
    return {"fault": name, **medians, "skew": round(statistics.median(skews), 3) if skews else None}


def _note(figures: Figures, action: str, result: Result, whole: float) -> None:
    result.require()
    for figure, seconds in {
        "change": (result.applied_ns - result.started_ns) / 1e9,
        "proof": (result.ended_ns - result.applied_ns) / 1e9,
        "whole": whole,
    }.items():
        figures.setdefault(f"{action} {figure}", []).append(seconds)


def skew_of(fault: Fault, result: Result, lab: Lab) -> float | None:
    """Seconds between the first and the last machine, from the proof; 0 at the bridge, which is one transaction."""
    if result.place == f"bridge {lab.manifest.hypervisor.bridge}":
        return 0.0
    for proof in result.proof:
        if "first to last" in proof.what and (found := re.match(r"[0-9.]+", proof.observed)):
            return float(found[0])
    return None if len(fault.nodes) > 1 else 0.0


def timed(*words: str) -> float:
    """Seconds of one `./lab` command, which must succeed."""
    started = time.monotonic()
    run([str(CHECKOUT / "lab"), *words], seconds=600)
    return time.monotonic() - started


def commands(stack: str, rounds: int) -> Figures:
    """`./lab fault inject` and `./lab heal`, as a user waits for them."""
    figures: Figures = {}
    for name, target in COMMANDS:
        for _ in range(rounds):
            inject = timed("fault", "inject", name, "--target", target, "--stack", stack)
            figures.setdefault(f"inject {name}", []).append(inject)
            figures.setdefault(f"heal {name}", []).append(timed("heal", "--stack", stack))
    return figures


def baseline(rounds: int) -> Figures:
    """The article's way: a rule on each of three nodes by `vagrant ssh`, and away again."""
    binaries = ensure(ETCD_DEFAULT, say)
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as programs:
        for name, path in (("etcd", binaries.etcd), ("etcdctl", binaries.etcdctl)):
            shutil.copy(path, Path(programs) / name)
        with vagrant(Path(programs)) as its:
            its.call("vagrant", "up", "--provider", "libvirt", "--parallel")
            for _ in range(rounds):
                for figure, flag in (("inject", "-A"), ("heal", "-D")):
                    rules = [f"sudo iptables {flag} INPUT -p tcp --dport 2380 -j DROP"] * 3
                    calls = [its.ssh(f"etcd{number}", rule) for number, rule in enumerate(rules, 1)]
                    figures.setdefault(figure, []).append(sum(calls))
            its.call("vagrant", "destroy", "-f")
    return figures


def report(rows: Sequence[dict[str, object]], ours: Figures, theirs: Figures) -> dict[str, object]:
    """Print both tables, and give them as plain data."""
    columns = ["inject change", "inject proof", "inject whole", "heal change", "heal proof", "heal whole", "skew"]
    print(f"{'fault':<14} " + " ".join(f"{column:>13}" for column in columns) + "   (s)")
    for row in rows:
        cells = [row.get(column) for column in columns]
        shown = " ".join(f"{'-' if cell is None else cell:>13}" for cell in cells)
        print(f"{row['fault']:<14} {row.get('error') or shown}")
    compared = []
    for name, seconds in ours.items():
        base = statistics.median(theirs[name.split()[0]]) if theirs else None
        own = statistics.median(seconds)
        ratio = own / base if base else None
        compared.append({"command": name, "lab_s": own, "baseline_s": base, "ratio": ratio})
        print(f"{name:<22} {own:6.1f} s" + (f"  three vagrant ssh {base:6.1f} s  ratio {ratio:.2f}" if base else ""))
    return {"faults": list(rows), "commands": compared}


def main() -> int:
    """Run the benchmark; 0 when all could be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", default="lab", help="the lab that stands (default: lab)")
    kinds_help = "faults, by name (default: all; empty: only the commands)"
    parser.add_argument("--kinds", default=",".join(KINDS), help=kinds_help)
    parser.add_argument("--rounds", type=int, default=1, help="how often each is measured (default 1)")
    parser.add_argument("--no-baseline", action="store_true", help="measure the lab alone")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    paths = stack_paths(options.stack)
    theirs: Figures = {}
    rows: list[dict[str, object]] = []
    try:
        if not options.no_baseline:
            require()
        names = [kind(name).name for name in options.kinds.split(",") if name]
        with exclusive_use(paths, "measure faults"), Lab(load(paths), paths) as lab:
            stack = Verification(lab)
            for name in names:
                rows.append(measure(lab, stack, name, options.rounds))
                say(json.dumps(rows[-1]))
        ours = commands(options.stack, options.rounds)
        if not options.no_baseline:
            theirs = baseline(options.rounds)
    except LabError as error:
        say(str(error))
        return error.exit_code
    figures = report(rows, ours, theirs)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return int(any("error" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
