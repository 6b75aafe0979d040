"""The cluster from outside: answers of every version as data, failures in words."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from infra import gateway
from infra.cluster import Cluster, EndpointStatus, disagreement, leader_of, status_from
from infra.gateway import CallError, Gateway, classify
from infra.manifest import Node
from machine.paths import StackPaths

# Answers of real members, shortened. 3.4 leaves zeros out and knows fewer fields.
ANSWERS: Mapping[str, Mapping[str, object]] = {
    "3.4": {
        "header": {"cluster_id": "14841639068965178418", "member_id": "10276657743932975437", "raft_term": "2"},
        "version": "3.4.37",
        "dbSize": "20480",
        "leader": "10276657743932975437",
        "raftIndex": "4",
        "raftTerm": "2",
    },
    "3.6": {
        "header": {"cluster_id": "7", "member_id": "8", "revision": "5", "raft_term": "3"},
        "version": "3.6.16",
        "dbSize": "98304",
        "leader": "0",
        "raftIndex": "44",
        "raftTerm": "3",
        "raftAppliedIndex": "43",
        "errors": ["etcdserver: no leader"],
        "dbSizeInUse": "49152",
        "isLearner": False,
        "storageVersion": "3.6.0",
        "dbSizeQuota": "2147483648",
    },
}


def test_an_old_answer_with_zeros_left_out() -> None:
    status = status_from("etcd1", ANSWERS["3.4"])
    assert (status.member_id, status.leader, status.raft_term) == (10276657743932975437, True, 2)
    assert (status.revision, status.raft_applied_index, status.errors, status.learner) == (0, 0, (), False)


def test_a_new_answer_without_leader() -> None:
    status = status_from("etcd1", ANSWERS["3.6"])
    assert (status.leader, status.errors) == (False, ("etcdserver: no leader",))
    assert (status.db_size_in_use, status.revision, status.storage_version) == (49152, 5, "3.6.0")


def member(node: str, number: int, leader: int, term: int = 2, **more: object) -> EndpointStatus:
    return EndpointStatus(
        node,
        ok=True,
        member_id=number,
        cluster_id=1,
        leader_id=leader,
        raft_term=term,
        **more,  # type: ignore[arg-type]
    )


def test_the_leader_is_who_says_so_in_the_highest_term() -> None:
    deposed, elected = member("etcd1", 1, 1, term=2), member("etcd2", 2, 2, term=3)
    assert leader_of([deposed, elected, member("etcd3", 3, 2, term=3)]) == "etcd2"
    assert leader_of([member("etcd1", 1, 0), EndpointStatus("etcd2", ok=False, error="x")]) is None


@pytest.mark.parametrize(
    ("statuses", "problem"),
    [
        ([member("a", 1, 1), member("b", 2, 1)], ""),
        ([member("a", 1, 1), EndpointStatus("b", ok=False, error="no answer")], "b: no answer"),
        ([member("a", 1, 1), member("b", 2, 0)], "b: knows no leader"),
        ([member("a", 1, 1), member("b", 2, 2)], "members name different leaders"),
        ([member("a", 1, 9), member("b", 2, 9)], "the leader is none of the lab's nodes"),
        ([member("a", 1, 1), member("b", 2, 1, errors=("memberID:2 alarm:NOSPACE",))], "b: memberID:2 alarm:NOSPACE"),
    ],
)
def test_what_keeps_members_from_being_one_cluster(statuses: list[EndpointStatus], problem: str) -> None:
    assert disagreement(statuses) == problem


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError(), "refused"),
        (OSError(113, "No route to host"), "unreachable"),
        (ConnectionResetError(104, "reset"), "protocol"),
        (ssl.SSLError(1, "certificate verify failed"), "tls"),
    ],
)
def test_failures_are_told_apart(error: Exception, kind: str) -> None:
    found = classify(error, "10.0.0.1:2379", 2)
    assert found.kind == kind
    assert "10.0.0.1:2379" in str(found)


class Health(http.server.BaseHTTPRequestHandler):
    """A member's health page as the test wants it."""

    answer: tuple[int, str] = (200, "")

    def do_GET(self) -> None:
        status, body = Health.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def health_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(gateway, "METRICS_PORT", server.server_port)
    yield server.server_port
    server.shutdown()
    server.server_close()


LOCAL = Node(name="etcd1", address=IPv4Address("127.0.0.1"), mac="m", domain="d", memory_mib=512, vcpus=1)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, '{"health":"true","reason":""}', (True, "")),
        (200, '{"health":"true"}', (True, "")),  # 3.4
        (503, '{"health":"false","reason":"RAFT NO LEADER"}', (False, "RAFT NO LEADER")),
        (503, '{"health":"false"}', (False, "unhealthy, and does not say why")),  # 3.4
    ],
)
def test_the_health_page_is_read(
    health_port: int, tmp_path: Path, status: int, body: str, expected: tuple[bool, str]
) -> None:
    Health.answer = (status, body)
    assert Gateway(None, StackPaths(tmp_path, "lab")).health(LOCAL, 5) == expected


def test_a_page_that_is_no_json_is_an_error_of_protocol(health_port: int, tmp_path: Path) -> None:
    Health.answer = (200, "<html>")
    with pytest.raises(CallError) as caught:
        Gateway(None, StackPaths(tmp_path, "lab")).health(LOCAL, 5)
    assert caught.value.kind == "protocol"


def test_silence_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setattr(gateway, "METRICS_PORT", mute.getsockname()[1])
        with pytest.raises(CallError) as caught:
            Gateway(None, StackPaths(tmp_path, "lab")).health(LOCAL, 0.2)
    assert caught.value.kind == "timeout"


def test_etcds_own_words_are_what_a_refusal_says() -> None:
    text = json.dumps({"error": "etcdserver: not leader", "code": 9, "message": "etcdserver: not leader"})
    assert gateway._refusal(text, 412) == "etcdserver: not leader"
    assert gateway._refusal("oops", 500) == "HTTP status 500: oops"


def test_health_without_an_answer_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class OneNode:
        nodes = (LOCAL,)

        class hypervisor:  # noqa: N801
            netns = None

    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    monkeypatch.setattr(gateway, "METRICS_PORT", port)
    cluster = Cluster(OneNode(), StackPaths(tmp_path, "lab"))  # type: ignore[arg-type]
    (found,) = cluster.health(seconds=1)
    assert (found.node, found.healthy) == ("etcd1", False)
    assert "refused" in found.reason
