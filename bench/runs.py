"""Made-up runs for the report's tests and bench: the files that a run leaves, with figures as a cluster gives them.

Each scenario: a partition cuts one member off, which is the leader in every second one; clients of each member put and
get; the cluster elects; the cut heals. Seeded, so that two calls give the same run.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.report.model import FaultEntry, Machine, Report, Scenario, Step, Verdict
from infra.manifest import Hypervisor, Manifest, Node, Timeouts

SECOND = 1_000_000_000
ZERO = 5_000 * SECOND
HEARTBEAT_MS, ELECTION_MS = 300, 3000

Json = dict[str, Any]


def manifest(members: int = 3, version: str = "3.6.16", election_ms: int = ELECTION_MS) -> Manifest:
    """A lab on paper."""
    nodes = tuple(
        Node(
            name=f"etcd{number}",
            address=f"192.168.93.{10 + number}",
            mac=f"52:54:00:00:00:{number:02x}",
            domain=f"paper-etcd{number}",
            memory_mib=512,
            vcpus=1,
        )
        for number in range(1, members + 1)
    )
    return Manifest(
        lab_id="0badcafe",
        stack="paper",
        nodes=nodes,
        subnet="192.168.93.0/24",
        gateway="192.168.93.1",
        hypervisor=Hypervisor(kind="embedded", uri="qemu:///session", netns="paper", bridge="br0", accelerator="tcg"),
        etcd_version=version,
        timeouts=Timeouts(heartbeat_ms=election_ms // 10, election_ms=election_ms),
        peers="address",
    )


@dataclass
class Made:
    """One scenario and the records beside it."""

    scenario: Scenario
    history: list[Json] = field(default_factory=list)
    samples: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)

    def save(self, directory: Path) -> None:
        """Write the records where the report looks for them."""
        place = directory / "scenarios" / self.scenario.id
        place.mkdir(parents=True, exist_ok=True)
        for name, records in (("history", self.history), ("samples", self.samples), ("events", self.events)):
            text = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
            (place / f"{name}.jsonl").write_text(text)


def make(
    directory: Path,
    *,
    scenarios: int = 3,
    operations: int = 3000,
    members: int = 3,
    seed: int = 1,
    verdicts: tuple[Verdict, ...] = ("pass",),
    finished: bool = True,
    version: str = "3.6.16",
    election_ms: int = ELECTION_MS,
) -> Report:
    """Write a run into `directory`: `operations` in all, verdicts of the scenarios in turn."""
    directory.mkdir(parents=True, exist_ok=True)
    dice = random.Random(seed)  # noqa: S311 - figures, no secrets
    lab = manifest(members, version, election_ms)
    made = [
        _scenario(dice, f"N{number + 1}", lab, operations // scenarios, verdicts[number % len(verdicts)])
        for number in range(scenarios)
    ]
    for one in made:
        one.save(directory)
    report = Report(
        started="2026-01-02T03:04:05+00:00",
        finished="2026-01-02T03:34:05+00:00" if finished else "",
        lab=lab,
        machine=Machine(processors=2, model="Paper CPU at 2 GHz", memory_mib=8000, kernel="Linux 6.1"),
        calibration={
            "round_trip_ms": 0.8,
            "fsync_ms": {"median": 2.1, "p99": 9.4},
            "advice": "T holds on this machine",
        },
        workload={"processes": 2 * members, "pause_seconds": 0.05},
        scenarios=[one.scenario for one in made],
    )
    report.verdict = report.judge()
    text = json.dumps(report.model_dump(mode="json", by_alias=True), indent=1)
    (directory / "report.json").write_text(text + "\n")
    return report


@dataclass(frozen=True)
class _Course:
    """What happens in a scenario, and when (ns)."""

    nodes: tuple[str, ...]
    victim: str
    cut_leader: bool
    begin: int
    length: int
    cut: int
    elected: int
    healed: int


def _scenario(dice: random.Random, name: str, lab: Manifest, operations: int, verdict: Verdict) -> Made:
    begin = ZERO + dice.randrange(10**9)
    length = 45 * SECOND
    cut, healed = begin + 12 * SECOND, begin + 30 * SECOND
    cut_leader = int(name[1:]) % 2 == 0
    nodes = lab.node_names
    victim = nodes[0] if cut_leader else nodes[-1]
    patience = round(dice.uniform(1, 2) * lab.timeouts.election_ms / 1000, 3)
    elected = cut + int(patience * SECOND)
    course = _Course(nodes, victim, cut_leader, begin, length, cut, elected, healed)
    others = ",".join(node for node in nodes if node != victim)
    fault = FaultEntry(
        name="partition",
        target=f"{victim} | {others}",
        place="bridge br0",
        started_ns=cut - SECOND // 2,
        injected_ns=cut,
        proved_ns=cut + SECOND if verdict != "inconclusive" else 0,
        mended_ns=healed,
        healed_ns=healed + SECOND // 5,
        proof=[f"ok  tcp {victim} > {node} (from {victim}): no answer" for node in nodes if node != victim],
    )
    scenario = Scenario(
        id=name,
        title=f"cut {'the leader' if cut_leader else 'a follower'} off for 18 s",
        verdict=verdict,
        seconds=length / SECOND,
        started_ns=begin,
        ended_ns=begin + length,
        faults=[fault],
        metrics={
            "time_to_new_leader_seconds": patience if cut_leader else 0.0,
            "terms_grown": int(cut_leader),
            "finding": "Terms grow by one when the leader is cut off." if cut_leader else "",
            "judgements": [
                {"rule": "election", "observed": patience, "allowed_low": 2.7, "allowed_high": 6.3}
                | {"verdict": "inside", "why": f"{patience} s, allowed 2.70 to 6.30 s by [T - H, 2T + H]"}
            ],
            "traffic": {"phases": _traffic(dice, nodes, victim), "readings": 4 * len(nodes) - 1, "without_answer": 1},
            "write_availability": {"puts": operations, "longest_gap_seconds": patience},
        },
        steps=_steps(course, verdict),
    )
    return Made(scenario, _history(dice, course, operations), _samples(dice, course), _events(course))


def _traffic(dice: random.Random, nodes: tuple[str, ...], victim: str) -> Json:
    """Figures as chaos.measure.traffic makes them; the victim was not read while it was cut off."""
    return {
        phase: {
            node: {
                "seconds": 12.0,
                "fsync_mean_seconds": round(dice.uniform(0.005, 0.03), 5),
                "fsyncs_per_second": round(dice.uniform(2, 9), 2),
                "commit_mean_seconds": round(dice.uniform(0.01, 0.05), 5),
                "commits_per_second": round(dice.uniform(1, 4), 2),
                "peer_sent_bytes_per_second": dice.randrange(500, 9000),
                "peer_received_bytes_per_second": dice.randrange(500, 9000),
                "client_sent_bytes_per_second": dice.randrange(100, 2000),
                "client_received_bytes_per_second": dice.randrange(100, 2000),
                "restarted": False,
            }
            for node in nodes
            if node != victim or phase == "before"
        }
        for phase in ("before", "during", "after")
    }


def _steps(course: _Course, verdict: Verdict) -> list[Step]:
    begin, cut, healed, victim = course.begin, course.cut, course.healed, course.victim
    end = begin + course.length

    def step(title: str, expected: str, observed: str, span: tuple[int, int], said: Verdict = "pass") -> Step:
        return Step(
            title=title, expected=expected, observed=observed, verdict=said, started_ns=span[0], ended_ns=span[1]
        )

    doubt: Verdict = "inconclusive" if verdict == "inconclusive" else "pass"
    saw = "revision 8 after all was healed, 1 acknowledged write is gone" if verdict == "fail" else "all there"
    return [
        step(
            "steady state before",
            "every member is healthy",
            "3 healthy, etcd1 leads in term 2",
            (begin, begin + SECOND),
        ),
        step(f"inject partition on {victim}", "in force, and shows", "16 proofs hold", (cut, cut + SECOND), doubt),
        step("the majority writes", "put answered within 2T + H = 6.3 s", "3.4 s", (cut + SECOND, healed)),
        step(f"heal partition on {victim}", "the fault is gone", "7 proofs hold", (healed, healed + SECOND // 5)),
        step(
            "nothing acknowledged is lost",
            "every acknowledged value is read again",
            saw,
            (healed + SECOND, healed + 4 * SECOND),
            "fail" if verdict == "fail" else "pass",
        ),
        step(
            "healed and healthy after",
            "every member is healthy",
            "3 healthy",
            (end - SECOND, end),
        ),
    ]


def _history(dice: random.Random, course: _Course, operations: int) -> list[Json]:
    cut, healed, nodes = course.cut, course.healed, course.nodes
    back = course.elected if course.cut_leader else cut
    every = course.length / max(operations, 1)
    records: list[Json] = []
    for number in range(operations):
        at = course.begin + int(number * every)
        node = nodes[number % len(nodes)]
        took = int(dice.lognormvariate(16.6, 0.5))  # median 16 ms, as on emulated machines
        cut_off = cut <= at < (healed if node == course.victim else back)
        record: Json = {
            "process": number % len(nodes),
            "op": "put" if number % 2 else "get",
            "key": f"k{number % 10}",
            "value": str(number),
            "member": node,
            "invoke_ns": at,
            "return_ns": at + took,
            "outcome": "ok",
            "revision": number,
        }
        if cut_off:
            record |= (
                {"outcome": "unknown", "return_ns": None, "error": "DEADLINE_EXCEEDED: no answer in time"}
                if number % 2
                else {"outcome": "fail", "return_ns": at + 2 * SECOND, "error": "UNAVAILABLE: etcdserver: no leader"}
            )
        records.append(record)
    return records


def _samples(dice: random.Random, course: _Course) -> list[Json]:
    cut, elected, nodes = course.cut, course.elected, course.nodes
    records: list[Json] = []
    for tick in range(0, course.length, SECOND // 4):
        at = course.begin + tick
        gone = cut + 4 * SECOND < at < course.healed
        after = course.cut_leader and at >= elected
        leader = nodes[1] if after else nodes[0]
        for number, node in enumerate(nodes):
            here = gone and node == course.victim
            records.append(
                {
                    "at_ns": at + number,
                    "node": node,
                    "ok": not (here and at % 7 == 0),
                    "error": "",
                    "leader": node == leader and not here,
                    "leader_id": 0 if here or (course.cut_leader and cut + 2 * SECOND < at < elected) else 11,
                    "term": 3 if after and not here else 2,
                    "db_size": 20480 + tick // SECOND,
                    "fsync_seconds": dice.lognormvariate(-6, 0.6),
                }
            )
    return records


def _events(course: _Course) -> list[Json]:
    cut, elected, nodes = course.cut, course.elected, course.nodes
    found: list[Json] = []
    if course.cut_leader:
        lost = {"at_ns": cut + 3 * SECOND, "kind": "leader-lost", "text": "lost leader at term 2"}
        found += [lost | {"node": node} for node in nodes[1:]]
        found.append(
            {"at_ns": elected - 10**7, "node": nodes[1], "kind": "election", "text": "starting a new election"}
        )
        found.append({"at_ns": elected, "node": nodes[1], "kind": "leader-elected", "text": "became leader at term 3"})
    found.append(
        {
            "at_ns": course.healed + SECOND,
            "node": course.victim,
            "kind": "slow-apply",
            "text": "apply request took too long </script>",
        }
    )
    return found
