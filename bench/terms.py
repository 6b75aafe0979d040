"""Terms through a partition on real etcd of several versions, without machines: three members in three namespaces.

    .venv/bin/python -m bench.terms [--seconds 20] [--json FILE]        (root; etcd 3.4.23 and 3.6.16 in the cache)

The cheap companion of scenarios O3 and O4: one member's link goes down for a while, then up; its own term is read from
its log, the cluster's from Maintenance.Status, and both are held against the oracle's rules. H = 100 ms, T = 1 s.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.oracle.context import Context
from chaos.oracle.judge import compare
from chaos.oracle.timing import Timing, minor
from machine import etcd_binaries
from machine.log import say
from machine.process import in_netns, run
from machine.waiting import Pending, wait_until

PREFIX = "etcdlab-terms"
HEARTBEAT_MS, ELECTION_MS = 100, 1000
MEMBERS = (1, 2, 3)
CASES = (
    ("3.4.23", False, False),
    ("3.4.23", True, False),
    ("3.6.16", False, False),
    ("3.6.16", True, False),
    ("3.4.23", False, True),
    ("3.6.16", True, True),
)
"""Version, pre-vote, whether the leader is cut off."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a member says of itself."""

    term: int
    leader: str
    id: str


def ip(*words: str) -> None:
    """Run ip(8)."""
    run(["ip", *words], seconds=10)


@contextlib.contextmanager
def network() -> Iterator[None]:
    """A bridge in one namespace, a cable from it to each member's."""
    names = [f"{PREFIX}-{name}" for name in ("b", *MEMBERS)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", "br0", "up", "type", "bridge")
        for member, name in zip(MEMBERS, names[1:], strict=True):
            ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", f"p{member}", "netns", names[0])
            ip("-n", name, "addr", "add", f"10.77.0.{member}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", names[0], "link", "set", f"p{member}", "master", "br0", "up")
        yield
    finally:
        for name in names:
            run(["ip", "netns", "del", name], seconds=10, check=False)


@contextlib.contextmanager
def cluster(programs: Path, directory: Path, *, pre_vote: bool) -> Iterator[None]:
    """Three members, their logs in `directory`."""
    peers = ",".join(f"m{member}=http://10.77.0.{member}:2380" for member in MEMBERS)
    started: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as files:
        for member in MEMBERS:
            url = f"http://10.77.0.{member}:2380"
            words = {
                "name": f"m{member}",
                "data-dir": str(directory / f"m{member}"),
                "listen-peer-urls": url,
                "initial-advertise-peer-urls": url,
                "listen-client-urls": "http://127.0.0.1:2379",
                "advertise-client-urls": "http://127.0.0.1:2379",
                "initial-cluster": peers,
                "heartbeat-interval": str(HEARTBEAT_MS),
                "election-timeout": str(ELECTION_MS),
                "pre-vote": str(pre_vote).lower(),
                "logger": "zap",
            }
            argv = [str(programs / "etcd"), *(f"--{key}={value}" for key, value in words.items())]
            log = files.enter_context((directory / f"m{member}.log").open("wb"))
            started.append(subprocess.Popen(in_netns(f"{PREFIX}-{member}", argv), stdout=log, stderr=log))
        try:
            yield
        finally:
            for process in started:
                process.kill()
                process.wait()


def status(member: int) -> Status:
    """A member's own status; Pending while it does not answer or knows no leader."""
    argv = ["curl", "-s", "--max-time", "1", "-d", "{}", "http://127.0.0.1:2379/v3/maintenance/status"]
    done = run(in_netns(f"{PREFIX}-{member}", argv), seconds=5, check=False)
    try:
        said = json.loads(done.stdout)
        return Status(int(said.get("raftTerm", 0)), str(said.get("leader", "0")), str(said["header"]["member_id"]))
    except (ValueError, KeyError) as error:
        raise Pending(f"m{member} does not answer") from error


def together() -> dict[int, Status]:
    """All members' status, once they know one leader."""
    found = {member: status(member) for member in MEMBERS}
    if len({one.leader for one in found.values()}) > 1 or found[1].leader == "0":
        raise Pending("no common leader")
    return found


def campaigns(log: Path, begin: float, end: float) -> int:
    """The highest term that a member was a candidate for between two wall-clock seconds; 0: none."""
    terms = [0]
    for line in log.read_text(errors="replace").splitlines():
        found = re.search(r'"ts":"([^"]+)".*became candidate at term (\d+)', line)
        if found and begin <= datetime.datetime.fromisoformat(found[1].replace("Z", "+00:00")).timestamp() <= end:
            terms.append(int(found[2]))
    return max(terms)


def case(version: str, *, pre_vote: bool, led: bool, seconds: float) -> dict[str, Any]:
    """Cut a member off for a while; what became of the terms, and what the rules say of it."""
    programs = etcd_binaries.ensure(version, say).etcd.parent
    with tempfile.TemporaryDirectory(prefix="etcd-lab-") as name, network():
        directory = Path(name)
        with cluster(programs, directory, pre_vote=pre_vote):
            before = wait_until(together, f"a cluster of etcd {version}", seconds=60)
            leader = next(member for member, one in before.items() if one.leader == one.id)
            cut = leader if led else next(member for member in MEMBERS if member != leader)
            others = [member for member in MEMBERS if member != cut]
            begun, wall = time.monotonic(), time.time()
            ip("-n", f"{PREFIX}-b", "link", "set", f"p{cut}", "down")
            time.sleep(seconds)
            told, during = status(cut).term, max(status(member).term for member in others)
            alone, until = time.monotonic() - begun, time.time()
            ip("-n", f"{PREFIX}-b", "link", "set", f"p{cut}", "up")
            after = wait_until(together, "one cluster again", seconds=60)
        own = max(told, campaigns(directory / f"m{cut}.log", wall, until)) - before[cut].term
    timing = Timing.from_ms(HEARTBEAT_MS, ELECTION_MS, pre_vote=pre_vote, version=minor(version))
    context = Context(timing, alone=alone, led=led)
    grown = during - before[cut].term
    judged = {
        "own": compare(own, "term-alone" if pre_vote else "term-alone-without-pre-vote", context),
        "cluster": compare(grown, "term-cluster", context),
    }
    return {
        "version": version,
        "pre_vote": pre_vote,
        "cut": "leader" if led else "follower",
        "alone_seconds": round(alone, 1),
        "own_term_grew_by": own,
        "by_its_status": told - before[cut].term,
        "cluster_grew_by": grown,
        "return_raised_it_by": max(one.term for one in after.values()) - during,
        "judged": {name: one.as_json() for name, one in judged.items()},
    }


def main() -> None:
    """Play every case and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = []
    for version, pre_vote, led in CASES:
        one = case(version, pre_vote=pre_vote, led=led, seconds=args.seconds)
        found.append(one)
        verdicts = ", ".join(f"{name} {told['verdict']}" for name, told in one["judged"].items())
        words = "with" if pre_vote else "without"
        print(
            f"etcd {version} {words} pre-vote, {one['cut']} cut off {one['alone_seconds']} s: "
            f"own term +{one['own_term_grew_by']} (its status says +{one['by_its_status']}), the cluster's "
            f"+{one['cluster_grew_by']}, its return +{one['return_raised_it_by']}; {verdicts}"
        )
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
