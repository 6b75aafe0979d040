"""What sampling costs a guest: processor time of each machine with and without it, in turns, on a lab that stands idle.

    .venv/bin/python -m bench.sampling [--stack NAME] [--seconds 15] [--rounds 3] [--period SECONDS] [--json FILE]

Processor time is the hypervisor's (virDomainGetInfo by libvirt), so that neither a busy host nor a guest's own
accounting distorts it. Baseline and sampling take turns; the figure is the difference in percent of one processor.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from chaos.lab.lab import Lab
from chaos.measure.sampler import Sampler, period_of
from infra.manifest import load
from machine import libvirt_api
from machine.paths import stack_paths


def processor_seconds(lab: Lab) -> dict[str, float]:
    """Processor time of every node's machine since its start."""
    with lab.libvirt() as connection:
        found: dict[str, float] = {}
        for node in lab.manifest.nodes:
            domain = cast("Any", libvirt_api.domain(connection, node.domain))
            found[node.name] = domain.info()[4] / 1e9
        return found


def used(lab: Lab, seconds: float) -> dict[str, float]:
    """Percent of one processor that each machine used through so many seconds."""
    begun, before = time.monotonic(), processor_seconds(lab)
    time.sleep(seconds)
    spent, after = time.monotonic() - begun, processor_seconds(lab)
    return {name: 100 * (after[name] - before[name]) / spent for name in after}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", default="lab")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--period", type=float, help="seconds from sample to sample (default: as in a run)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    paths = stack_paths(args.stack)
    rounds: list[dict[str, object]] = []
    added: dict[str, list[float]] = {}
    with Lab(load(paths), paths) as lab, tempfile.TemporaryDirectory() as directory:
        period = args.period or period_of(lab.manifest)
        lab.cluster.wait_healthy(60)
        for number in range(args.rounds):
            without = used(lab, args.seconds)
            sampler = Sampler.of(lab.manifest, paths, Path(directory) / f"{number}.jsonl", period=period)
            with sampler:
                used(lab, 2)  # the handshakes are not what goes on
                beside = used(lab, args.seconds)
            rounds.append({"without": without, "with": beside, "samples": len(sampler.rows)})
            for name in without:
                added.setdefault(name, []).append(beside[name] - without[name])
    result = {
        "period": period,
        "added_percent": {n: statistics.median(v) for n, v in added.items()},
        "rounds": rounds,
    }
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
