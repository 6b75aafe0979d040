"""Real clusters on loopback that are not what the lab believes, of each version that this machine has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import build
from infra.cluster import Alarm
from infra.findings import examine, observe
from infra.view import parse, script
from machine.process import run
from machine.waiting import Pending, wait_until
from tests.etcd_cluster import Members, cluster, kept_versions

pytestmark = pytest.mark.integration


@pytest.fixture(params=kept_versions())
def members(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Members]:
    with cluster(tmp_path, request.param) as made:
        yield made


def kinds(members: Members) -> list[str]:
    return [one.kind for one in examine(members.manifest, observe(members.cluster))]


def shown(members: Members, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str]:
    """What a command says of this cluster, and its exit status."""
    lab: Any = SimpleNamespace(manifest=members.manifest, paths=members.paths, cluster=lambda: members.cluster)
    monkeypatch.setattr("cli.lab.open_lab", lambda _stack, **_more: lab)
    done = CliRunner().invoke(build(), list(words))
    return done.exit_code, done.output


def test_a_foreign_member_is_named_by_status_and_health_and_the_named_command_removes_it(
    members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("status", "health"):
        code, said = shown(members, monkeypatch, command)
        assert (code, "!" in said) == (0, False), said
    indexes = [one.raft_index for one in members.cluster.status()]
    url = f"https://{members.net}.99:2380"
    wait_until(lambda: asked(members, "member", "add", "extra", f"--peer-urls={url}"), "member add", seconds=20)
    before = [one.raft_index for one in members.cluster.status()]
    assert max(before) > max(indexes)
    for command in ("status", "health"):
        code, said = shown(members, monkeypatch, command)
        assert code == 1
        assert url in said
        assert "has never started and votes, which makes the quorum 3 of 4" in said
    assert "cluster is degraded" in said
    assert [one.raft_index for one in members.cluster.status()] == before or members.manifest.etcd_version < "3.5"
    members.kill("etcd3")
    code, said = shown(members, monkeypatch, "health")
    assert "cluster is unavailable" in said
    members.start("etcd3")
    wait_until(lambda: led(members), "a leader", seconds=20)
    (finding,) = examine(members.manifest, observe(members.cluster))
    words = finding.command.partition("./lab ctl etcd1 ")[2].split()[:3]
    wait_until(lambda: asked(members, *words), "member remove", seconds=20)
    wait_until(lambda: gone(members), "the member's end", seconds=20)


def asked(members: Members, *words: str, node: str = "") -> None:
    done = members.etcdctl(*words, node=node)
    if not done.ok:
        raise Pending(done.stderr)


def led(members: Members) -> None:
    if not observe(members.cluster).led:
        raise Pending("none")


def gone(members: Members) -> None:
    if found := kinds(members):
        raise Pending(str(found))


def test_alarms_of_each_kind_and_of_members_that_are_gone_are_seen_and_can_be_disarmed(members: Members) -> None:
    own = members.cluster.status()[1].member_id
    for kind in ("NOSPACE", "CORRUPT"):
        for member in (own, 77):
            body = {"action": "ACTIVATE", "memberID": str(member), "alarm": kind}
            members.cluster.call("etcd1", "maintenance/alarm", body, 5)
    found = [one for one in examine(members.manifest, observe(members.cluster)) if one.kind == "alarm"]
    assert [one.node for one in found].count("etcd2") == 2
    assert sum("in the member list no more" in one.what for one in found) == 2
    for member in (own, 77):
        for kind in ("NOSPACE", "CORRUPT"):
            members.cluster.disarm(Alarm(member, kind))
    wait_until(lambda: gone(members), "no alarm", seconds=10)


def test_a_node_sees_that_no_space_is_unhealthy_in_every_version(members: Members, tmp_path: Path) -> None:
    """3.4's `etcdctl endpoint health` says healthy under the alarm."""
    addresses = {str(node.address): node.name for node in members.manifest.nodes}
    env = tmp_path / "etcdctl.env"
    env.write_text(
        f"ETCDCTL_CACERT={members.paths.ca_cert}\nETCDCTL_CERT={members.paths.client_cert}\n"
        f"ETCDCTL_KEY={members.paths.client_key}\nPATH={members.programs.etcdctl.parent}:$PATH\n"
    )

    def health() -> tuple[list[bool], str, str]:
        done = run(["sh", "-c", script(list(addresses)).replace("/etc/etcd/etcdctl.env", str(env))], check=False)
        found = parse(done.stdout, addresses)
        return [one.healthy for one in found], found[0].reason, done.stderr

    healthy, _, said = health()
    assert healthy == [True, True, True]
    assert "unrecognized environment variable" not in said
    body = {"action": "ACTIVATE", "memberID": str(members.cluster.status()[0].member_id), "alarm": "NOSPACE"}
    members.cluster.call("etcd1", "maintenance/alarm", body, 5)
    healthy, reason, _ = health()
    assert healthy == [False, False, False]
    assert "NOSPACE" in reason


def test_with_authentication_on_everything_is_asked_and_changed_as_before(
    members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = members.cluster.members()
    members.enable_auth()
    code, said = shown(members, monkeypatch, "status")
    assert code == 0, said
    assert "authentication is on" in said
    assert "auth disable" in said
    assert shown(members, monkeypatch, "health")[0] == 0
    cluster = members.cluster
    assert cluster.members() == listed
    assert cluster.alarms() == []
    assert len(set(cluster.hash_kv().values())) == 1
    to = next(one.node for one in cluster.status() if not one.leader)
    cluster.move_leader(to)
    assert cluster.leader() == to
    cluster.call("etcd1", "kv/put", {"key": "YQ==", "value": "Yg=="}, 5)
    kvs = cluster.call("etcd1", "kv/range", {"key": "YQ=="}, 5)["kvs"]
    assert isinstance(kvs, list)
    assert kvs[0]["value"] == "Yg=="
    added = wait_until(lambda: learner(members), "a learner", seconds=20)
    assert kinds(members) == ["foreign learner", "authentication"]
    cluster.remove_member(added)
    members.kill("etcd1")
    assert cluster.status()[0].kind == "refused"
    wait_until(lambda: led(members), "a leader", seconds=20)
    wait_until(lambda: asked(members, "auth", "disable", node="etcd2"), "auth disable", seconds=30)
    assert not cluster.gateway.auth_on(members.manifest.node("etcd2"), 5)
    assert cluster.status()[1].ok


def learner(members: Members) -> int:
    try:
        return members.cluster.add_learner(f"https://{members.net}.99:2380", without="").id
    except Exception as error:
        raise Pending(str(error)) from error


def test_a_member_of_another_cluster_is_told_from_the_others(members: Members) -> None:
    members.kill("etcd1")
    members.wipe("etcd1")
    alone = members.settings("etcd1")
    alone |= {"initial-cluster": f"etcd1={alone['initial-advertise-peer-urls']}", "initial-cluster-token": "other"}
    members.start_with("etcd1", alone)

    def other() -> None:
        if "other cluster" not in kinds(members):
            raise Pending(str(kinds(members)))

    wait_until(other, "the other cluster", seconds=20)
    found = examine(members.manifest, observe(members.cluster))
    assert [one.node for one in found if one.kind == "other cluster"] == ["etcd1"]
