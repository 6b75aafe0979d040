"""What a cluster that works says about itself (S3)."""

from __future__ import annotations

import json

import pytest

from chaos.harness.declare import scenario
from chaos.harness.scenario_run import ScenarioRun
from infra.manifest import Manifest

COLUMNS = ("endpoint", "id", "version", "db size", "leader", "raft term", "raft index")


def hosts(manifest: Manifest) -> dict[str, str]:
    """By node, how its member advertises itself: by address, or by name where peers have names."""
    return {node.name: str(node.address) if manifest.peers == "address" else node.name for node in manifest.nodes}


@pytest.mark.status
@scenario("S3", "endpoint status of all members", "seed", "quick")
def test_status_table_shows_one_leader_and_one_term(scenario: ScenarioRun) -> None:
    """`etcdctl endpoint status --cluster` on a node and our own look from outside agree, member by member."""
    lab = scenario.lab
    first = lab.manifest.node_names[0]
    with scenario.step(f"etcdctl endpoint status -w table --cluster on {first}", "a table with every member") as step:
        table = lab.etcdctl(first, "endpoint", "status", "-w", "table", "--cluster")
        step.observed(table.stdout.strip() or table.stderr.strip())
        assert table.ok, table.stderr
        assert all(f"https://{host}:" in table.stdout for host in hosts(lab.manifest).values())
    with scenario.step(
        "the same as data, beside the gateway's answers", "ids, versions, leader and term agree"
    ) as step:
        told = lab.etcdctl(first, "endpoint", "status", "-w", "json", "--cluster")
        by_host = {
            item["Endpoint"].removeprefix("https://").rpartition(":")[0]: item["Status"]
            for item in json.loads(told.stdout)
        }
        seen = lab.cluster.status()
        rows = [
            (
                hosts(lab.manifest)[one.node],
                f"{one.member_id:x}",
                one.version,
                one.db_size,
                one.leader,
                one.raft_term,
                one.raft_index,
            )
            for one in seen
        ]
        step.observed(
            "; ".join(", ".join(f"{name} {value}" for name, value in zip(COLUMNS, row, strict=True)) for row in rows)
        )
        assert set(by_host) == {row[0] for row in rows}
        for one, row in zip(seen, rows, strict=True):
            status = by_host[row[0]]
            assert status["header"]["member_id"] == one.member_id
            assert status["version"] == one.version == lab.manifest.etcd_version
            assert status["leader"] == one.leader_id
            assert status["raftTerm"] == one.raft_term
            assert status["dbSize"] > 0
            assert one.raft_index >= status["raftIndex"] > 0
    with scenario.step("leader and term", "one leader, one term on all members") as step:
        leaders = [one.node for one in seen if one.leader]
        terms = {one.raft_term for one in seen}
        step.observed(f"leader {', '.join(leaders)}, term {', '.join(map(str, sorted(terms)))}")
        assert len(leaders) == 1
        assert len(terms) == 1
