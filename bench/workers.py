"""Eight workers on a lab: where the processor time goes, to the workers or to the machines of the cluster.

    .venv/bin/python -m bench.workers [--stack NAME] [--workers 8] [--seconds 15]

All workers go as fast as they can. While the cluster is the bottleneck, a worker waits nearly all of the time, and the
machines have what is left of the processors.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench.sampling import processor_seconds
from chaos.lab.lab import Lab
from chaos.workload.client import Endpoint
from chaos.workload.plan import Plan
from chaos.workload.pool import Pool
from chaos.workload.workload import WorkloadSession
from infra.manifest import load
from machine.paths import stack_paths

TICKS = os.sysconf("SC_CLK_TCK")


def spent_by(pool: Pool) -> float:
    """Processor seconds of all workers so far (proc(5), stat: utime and stime)."""
    total = 0
    for worker in pool.workers.values():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", default="lab")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=15)
    args = parser.parse_args()
    paths = stack_paths(args.stack)
    with Lab(load(paths), paths) as lab, tempfile.TemporaryDirectory() as directory:
        revision = max(status.revision for status in lab.cluster.wait_healthy(60))
        names = lab.manifest.node_names
        ends = [Endpoint.of(lab.manifest, paths, names[number % len(names)]) for number in range(args.workers)]
        pool = Pool([replace(end, node=f"{end.node}-{number}") for number, end in enumerate(ends)])
        plan = Plan.parse("register,rate=0")
        session = WorkloadSession(pool, plan, f"bench/{time.monotonic_ns()}/", Path(directory), revision)
        try:
            session.begin()
            session.wait_ok(session.begun_ns, 2 * args.workers, everyone=True, seconds=60)
            begun, workers, machines = time.monotonic(), spent_by(pool), processor_seconds(lab)
            since_ns = time.monotonic_ns()
            time.sleep(args.seconds)
            took = time.monotonic() - begun
            done = session.ok_between(since_ns, time.monotonic_ns()).total()
            clients = 100 * (spent_by(pool) - workers) / took
            guests = {name: 100 * (now - machines[name]) / took for name, now in processor_seconds(lab).items()}
            session.stop()
        finally:
            pool.close()
    print(
        json.dumps(
            {
                "workers": args.workers,
                "operations_a_second": round(done / took, 1),
                "percent_of_a_processor_by_a_worker": round(clients / args.workers, 1),
                "percent_of_a_processor_by_all_workers": round(clients, 1),
                "percent_of_a_processor_by_machine": {name: round(one, 1) for name, one in guests.items()},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
