"""Cost of the checker beside Porcupine's, on the same histories in the same run.

    python bench/checker.py [--sizes 10000,100000,1000000] [--cross 200] [--timeout 60]

Three questions: does the revision path grow near-linearly (10 keys, 50 processes, 1 % unknown); what about one
contended key (16 processes, unique values, 2 % unknown), which Porcupine gets without revisions; and how dear is the
search path (five processes, 200 operations on a register with repeating values). Then both decide many small
histories, right and damaged, and their verdicts are compared. Porcupine is a Go module in bench/porcupine; without Go
its columns stay empty. It takes about 14 KB an operation, so it is left out where the memory is not there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402

from bench.histories import Mix, Simulation  # noqa: E402
from chaos.checker.files import check_file  # noqa: E402

BYTES_PER_OPERATION = 16_000
"""What Porcupine was seen to take, with something to spare."""
SAME = {"linearizable": "ok", "violation": "illegal", "unknown": "unknown"}
REGISTER = Mix(put=0.3, get=0.35, cas=0.25, delete=0.1, unknown=0.1, values=4, revisions=False, mods=False)


@dataclass(frozen=True)
class Run:
    """One program's answer for one file."""

    verdict: str
    seconds: float
    mib: int
    cpu: float = 0.0
    """Processor seconds of the whole process, which a busy machine does not stretch."""

    def __str__(self) -> str:
        return f"{self.verdict:>13} {self.seconds:8.2f} s {self.cpu:8.2f} s of processor {self.mib:7d} MiB"


def ours(path: Path, timeout: float) -> Run:
    """`./lab check` in a process of its own: from file to verdict, with starting Python."""
    code = (
        "import sys,time,json,resource;began=time.monotonic();from pathlib import Path;"
        "from chaos.checker.files import check_file;"
        "report=check_file(Path(sys.argv[1]),seconds=float(sys.argv[2]));"
        "used=resource.getrusage(resource.RUSAGE_SELF);"
        "print(json.dumps([report.verdict.value,time.monotonic()-began,used.ru_maxrss//1024,"
        "used.ru_utime+used.ru_stime]))"
    )
    argv = [sys.executable, "-c", code, str(path), str(timeout)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    return Run(*json.loads(done.stdout))


def build_porcupine(directory: Path) -> Path | None:
    """The second opinion, or None, said, without Go."""
    if shutil.which("go") is None:
        print("No Go here: Porcupine is left out.")
        return None
    binary = directory / "porcupine"
    done = subprocess.run(["go", "build", "-o", str(binary), "."], cwd=ROOT / "bench" / "porcupine", check=False)
    if done.returncode:
        print("Porcupine could not be built: it is left out.")
        return None
    return binary


def porcupine(binary: Path, paths: list[Path], *, revisions: bool, timeout: float) -> list[Run]:
    """Porcupine's answers for some files."""
    argv = [str(binary), f"-timeout={timeout}s", f"-revisions={str(revisions).lower()}", *map(str, paths)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [Run(one["verdict"], one["seconds"], one["peak_mib"], cpu / len(paths)) for one in found]


def record(path: Path, simulation: Simulation) -> Path:
    """A history as a file, begun on an empty store."""
    with path.open("wb") as out:
        out.write(b'{"meta": {"base_revision": 1, "initial": {}, "closed_world": false}}\n')
        for line in simulation.lines():
            out.write(orjson.dumps(line) + b"\n")
    return path


def room_for(operations: int) -> bool:
    """Whether Porcupine's memory is there."""
    free = int(
        next(x for x in Path("/proc/meminfo").read_text().splitlines() if x.startswith("MemAvailable")).split()[1]
    )
    return free * 1024 > operations * BYTES_PER_OPERATION


def scale(directory: Path, binary: Path | None, sizes: list[int], timeout: float) -> None:
    """Cost against size, with revisions."""
    print("\nWith revisions: 10 keys, 50 processes, 1 % unknown; from file to verdict")
    for size in sizes:
        simulation = Simulation(size, processes=50, keys=10, seed=1)
        path = record(directory / f"scale-{size}.jsonl", simulation)
        print(f"{size:>9} checker   {ours(path, timeout)}", flush=True)
        if binary is not None and room_for(size):
            print(f"{'':>9} porcupine {porcupine(binary, [path], revisions=True, timeout=timeout)[0]}", flush=True)
        elif binary is not None:
            print(f"{'':>9} porcupine left out: it may need {size * BYTES_PER_OPERATION >> 30} GiB")
        path.unlink()


def contended(directory: Path, binary: Path | None, timeout: float) -> None:
    """One key that all write."""
    print("\nOne contended key: 10,000 operations, 16 processes, unique values, 2 % unknown")
    path = record(
        directory / "contended.jsonl", Simulation(10_000, processes=16, keys=1, seed=1, mix=Mix(unknown=0.02))
    )
    print(f"{'':>9} checker   {ours(path, timeout)}", flush=True)
    if binary is not None:
        for revisions in (False, True):
            with_ = "with revisions" if revisions else "without revisions"
            print(f"{'':>9} porcupine {porcupine(binary, [path], revisions=revisions, timeout=timeout)[0]} {with_}")


def registers(directory: Path, binary: Path | None, count: int, timeout: float) -> None:
    """The search path, in one process for all."""
    print(f"\nSearch path: {count} registers, 5 processes, 200 operations, repeating values, cas, 10 % unknown")
    paths, seconds, verdicts = [], [], Counter[str]()
    for seed in range(count):
        path = directory / f"register-{seed}.jsonl"
        lines = list(Simulation(200, processes=5, keys=1, seed=seed, mix=REGISTER).lines())
        if seed % 2:
            damage(lines, random.Random(seed))  # noqa: S311 - repeatable
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        paths.append(path)
        report = check_file(path, seconds=timeout)
        seconds.append(report.seconds)
        verdicts[report.verdict.value] += 1
    print(f"{'':>9} checker   slowest {max(seconds):.2f} s, all {sum(seconds):.2f} s; {dict(verdicts)}")
    if binary is not None:
        runs = porcupine(binary, paths, revisions=False, timeout=timeout)
        told, spent = dict(Counter(run.verdict for run in runs)), [run.seconds for run in runs]
        print(f"{'':>9} porcupine slowest {max(spent):.2f} s, all {sum(spent):.2f} s; {told}")


def damage(lines: list[dict[str, Any]], rnd: random.Random) -> None:
    """Give one read another value."""
    read = rnd.choice([line for line in lines if line["op"] == "get" and line["outcome"] == "ok"])
    read["value"] = rnd.choice([line["value"] for line in lines if line.get("value")])


def cross(directory: Path, binary: Path, count: int, timeout: float) -> bool:
    """Small histories, right and damaged: equal verdicts without revisions; with them, no milder one."""
    print(f"\nCross-check: {count} histories of 60 operations, 2 keys, half of them damaged")
    paths: dict[bool, list[Path]] = {False: [], True: []}
    for seed in range(count):
        rnd = random.Random(seed)  # noqa: S311 - repeatable
        mix = Mix(unknown=0.05, values=rnd.choice((0, 3)), cas=0.2, delete=0.1)
        for revisions in (False, True):
            chosen = replace(mix, revisions=revisions, mods=revisions)
            lines = list(Simulation(60, processes=5, keys=2, seed=seed, mix=chosen).lines())
            if seed % 2:
                damage(lines, random.Random(seed))  # noqa: S311 - repeatable
            path = directory / f"cross-{seed}-{revisions}.jsonl"
            path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
            paths[revisions].append(path)
    good = True
    for revisions in (False, True):
        mine = [check_file(path, seconds=timeout).verdict.value for path in paths[revisions]]
        theirs = [run.verdict for run in porcupine(binary, paths[revisions], revisions=revisions, timeout=timeout)]
        pairs = Counter(zip(mine, theirs, strict=True))
        wrong = sum(n for (a, b), n in pairs.items() if "unknown" not in (a, b) and SAME[a] != b)
        bad = pairs["linearizable", "illegal"] if revisions else wrong
        good = good and not bad
        print(f"{'':>9} {'with' if revisions else 'without'} revisions: {dict(pairs)}; contradictions: {bad}")
    return good


def main() -> int:
    """Run all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--cross", type=int, default=200)
    parser.add_argument("--registers", type=int, default=40)
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--no-porcupine", action="store_true")
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory(prefix="checker-bench-") as name:
        directory = Path(name)
        binary = None if options.no_porcupine else build_porcupine(directory)
        good = cross(directory, binary, options.cross, options.timeout) if binary else True
        registers(directory, binary, options.registers, options.timeout)
        contended(directory, binary, options.timeout)
        scale(directory, binary, [int(size) for size in options.sizes.split(",")], options.timeout)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
