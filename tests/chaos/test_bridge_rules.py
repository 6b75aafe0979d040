"""Cuts at the bridge: the transaction's text, what its listing says, and real packets in a private namespace."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.faults.network import nft
from chaos.faults.network.flows import Flow, both_ways, service
from chaos.faults.network.nft import Bridge
from chaos.faults.renewal import LeaseRenewer
from infra.manifest import OBSERVER_PORTS
from machine.errors import HypervisorError, ToolError
from machine.netns import connect
from machine.process import Completed

RULES = nft.Rules(
    "bridge",
    "etcdlab_faults",
    {"a": IPv4Address("10.9.0.1"), "b": IPv4Address("10.9.0.2"), "host": IPv4Address("10.9.0.254")},
)

CUT = """\
add table bridge etcdlab_faults
add set bridge etcdlab_faults p1 { type ipv4_addr . ipv4_addr; flags timeout; }
flush set bridge etcdlab_faults p1
add chain bridge etcdlab_faults p1 { type filter hook forward priority -300; policy accept; }
flush chain bridge etcdlab_faults p1
add element bridge etcdlab_faults p1 { 10.9.0.1 . 10.9.0.2 timeout 30s, 10.9.0.2 . 10.9.0.1 timeout 30s }
add rule bridge etcdlab_faults p1 ip saddr 10.9.0.1 ip daddr 10.9.0.2 ip saddr . ip daddr @p1 counter drop comment "a>b"
add rule bridge etcdlab_faults p1 ip saddr 10.9.0.2 ip daddr 10.9.0.1 ip saddr . ip daddr @p1 counter drop comment "b>a"
"""


def test_a_cut_is_one_transaction_with_a_set_that_times_out_and_a_counting_rule_per_direction() -> None:
    assert nft.render_cut(RULES, "p1", both_ways("a", "b"), 30) == CUT


def test_cuts_of_a_port_match_it_by_direction_and_let_this_host_observe() -> None:
    text = nft.render_cut(RULES, "p1", service("host", "a", 2379), 30)
    rules = [line for line in text.splitlines() if line.startswith("add rule")]
    assert [line.split()[4] for line in rules] == ["p1__out", "p1__in"]
    assert "th dport 2379 th sport != 20000-29999 " in rules[0]
    assert "th sport 2379 th dport != 20000-29999 " in rules[1]
    assert "hook output" in text
    assert "hook input" in text
    peers = nft.render_cut(RULES, "p1", service("a", "b", 2380), 30)
    assert "!=" not in peers
    assert "hook forward" in peers


def test_in_a_guest_packets_are_dropped_where_they_come_in() -> None:
    inside = nft.render_cut(nft.Rules("inet", "t", RULES.addresses), "p1", both_ways("a", "b"), 30)
    assert "add chain inet t p1__in { type filter hook input priority -300; policy accept; }" in inside
    assert "forward" not in inside


@given(st.builds(Flow, *[st.sampled_from(["a", "b2", "host"])] * 2, *[st.integers(0, 65535)] * 2))
def test_a_flow_is_read_back_from_the_comment_of_its_rule(flow: Flow) -> None:
    assert Flow.parse(str(flow)) == flow


def test_a_flow_stops_a_connection_by_its_packets_or_by_the_answers() -> None:
    there, back = service("a", "b", 2380)
    for flow in (there, back):
        assert flow.stops("a", "b", 2380)
        assert not flow.stops("b", "a", 2380)
        assert not flow.stops("a", "b", 2379)
    for flow in both_ways("a", "b"):
        assert flow.stops("a", "b", 1)
        assert flow.stops("b", "a", 1)
        assert not flow.stops("a", "c", 1)


def test_renewing_replaces_the_elements_in_the_same_transaction() -> None:
    text = nft.render_renewal(RULES, "p1", [Flow("a", "b")], 5)
    assert text.splitlines() == [
        "delete element bridge etcdlab_faults p1 { 10.9.0.1 . 10.9.0.2 }",
        "add element bridge etcdlab_faults p1 { 10.9.0.1 . 10.9.0.2 timeout 5s }",
    ]


@pytest.mark.parametrize(("netns", "raises"), [(None, True), ("el-not-there", False)])
def test_a_cut_that_may_not_be_looked_for_is_not_taken_for_lifted(
    netns: str | None, raises: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(argv: list[str], **_: object) -> Completed:
        return Completed(tuple(argv), 1, "", "Operation not permitted (you must be root)")

    monkeypatch.setattr(nft, "run", refused)
    there = Bridge(netns, "t", {})
    with pytest.raises(HypervisorError, match="cannot be lifted") if raises else contextlib.nullcontext():
        there.mend("p1")


def test_a_cut_that_is_not_there_is_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(argv: list[str], **_: object) -> Completed:
        return Completed(tuple(argv), 0 if argv[-1] == "tables" else 1, "", "No such file or directory")

    monkeypatch.setattr(nft, "run", empty)
    Bridge(None, "t", {}).mend("p1")


A, B, C = "10.9.0.1", "10.9.0.2", "10.9.0.3"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces, which needs root")


class Net:
    """Three namespaces, each with one address, on a bridge in a fourth."""

    def __init__(self) -> None:
        self.hub = f"elt{os.getpid()}"
        self.nodes = {name: f"{self.hub}{name}" for name in "abc"}
        self.bridge = Bridge(self.hub, nft.TABLE, {"a": IPv4Address(A), "b": IPv4Address(B), "c": IPv4Address(C)})

    def build(self) -> None:
        for name in (self.hub, *self.nodes.values()):
            self.sh(f"ip netns add {name}")
        self.sh(f"ip -n {self.hub} link add lab0 type bridge && ip -n {self.hub} link set lab0 up")
        for (name, netns), address in zip(self.nodes.items(), (A, B, C), strict=True):
            self.sh(f"ip -n {self.hub} link add v{name} type veth peer name eth0 netns {netns}")
            self.sh(f"ip -n {self.hub} link set v{name} master lab0 up")
            self.sh(f"ip -n {netns} addr add {address}/24 dev eth0 && ip -n {netns} link set eth0 up")

    @staticmethod
    def sh(script: str) -> None:
        subprocess.run(["sh", "-ec", script], check=True, capture_output=True, timeout=20)

    def reaches(self, source: str, address: str) -> bool:
        """Whether `source` gets an answer to TCP: a refusal is one."""
        code = (
            "import socket,sys\ns = socket.socket(); s.settimeout(0.7)\n"
            f"try: s.connect(('{address}', 9))\n"
            "except ConnectionRefusedError: pass\nexcept OSError: sys.exit(1)"
        )
        argv = ["ip", "netns", "exec", self.nodes[source], "python3", "-c", code]
        return subprocess.run(argv, check=False, timeout=20).returncode == 0

    def close(self) -> None:
        for name in (*self.nodes.values(), self.hub):
            subprocess.run(["ip", "netns", "del", name], check=False, timeout=20)


@pytest.fixture
def net() -> Iterator[Net]:
    made = Net()
    try:
        made.build()
        yield made
    finally:
        made.close()


@needs_root
@pytest.mark.integration
def test_a_cut_drops_and_counts_both_directions_and_leaves_others_alone(net: Net) -> None:
    assert net.reaches("a", B)
    net.bridge.cut("p1", both_ways("a", "b"), 60)
    assert not net.reaches("a", B)
    assert not net.reaches("b", A)
    assert net.reaches("a", C)
    state = net.bridge.cuts()["p1"]
    assert state.pairs == {("a", "b"), ("b", "a")}
    assert state.dropped[Flow("a", "b")] > 0
    assert state.dropped[Flow("b", "a")] > 0
    net.bridge.mend("p1")
    assert net.reaches("a", B)
    assert not net.bridge.present()


@needs_root
@pytest.mark.integration
def test_an_open_connection_is_cut_too(net: Net) -> None:
    """Cut while a ping runs: its answers stop."""
    ping = ["ip", "netns", "exec", net.nodes["a"], "python3", "-u", "-c", ECHO_CLIENT.replace("PEER", B)]
    server = subprocess.Popen(
        ["ip", "netns", "exec", net.nodes["b"], "python3", "-u", "-c", ECHO_SERVER.replace("OWN", B)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        with subprocess.Popen(ping, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            answers = []
            for step in ("before", "during"):
                if step == "during":
                    net.bridge.cut("p1", both_ways("a", "b"), 60)
                client.stdin.write("x\n")
                client.stdin.flush()
                answers.append(client.stdout.readline().strip())
            client.stdin.close()
        assert answers == ["echo", "silence"]
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


ECHO_SERVER = """
import socket
s = socket.create_server(("OWN", 9000)); print("ready", flush=True)
c, _ = s.accept()
while data := c.recv(10): c.sendall(data)
"""

ECHO_CLIENT = """
import socket, sys
s = socket.create_connection(("PEER", 9000), 2); s.settimeout(1)
for line in sys.stdin:
    s.sendall(b"x")
    try: print("echo" if s.recv(1) else "closed", flush=True)
    except TimeoutError: print("silence", flush=True)
"""


@needs_root
@pytest.mark.integration
def test_two_cuts_come_and_go_in_any_order(net: Net) -> None:
    net.bridge.cut("p1", both_ways("a", "b"), 60)
    net.bridge.cut("p2", both_ways("a", "c"), 60)
    net.bridge.mend("p1")
    assert net.reaches("a", B)
    assert not net.reaches("a", C)
    net.bridge.cut("p1", both_ways("a", "b"), 60)
    net.bridge.cut("p1", both_ways("a", "b"), 60)
    net.bridge.mend("p2")
    assert net.reaches("a", C)
    assert not net.reaches("a", B)
    net.bridge.mend("p1")
    net.bridge.mend("p1")
    assert not net.bridge.present()


@needs_root
@pytest.mark.integration
def test_the_kernel_lifts_a_cut_that_nobody_renews_and_not_one_that_is_renewed(net: Net) -> None:
    pairs = both_ways("a", "b")
    keeper = LeaseRenewer(0.2)
    net.bridge.cut("kept", pairs, 1)
    net.bridge.cut("left", both_ways("a", "c"), 1)
    keeper.hold("kept", lambda: net.bridge.renew("kept", pairs, 1))
    time.sleep(2.0)
    cuts = net.bridge.cuts()
    assert cuts["kept"].flows == set(pairs)
    assert not cuts["left"].pairs
    assert net.reaches("a", C)
    keeper.close()
    deadline = time.monotonic() + 10
    while net.bridge.cuts()["kept"].pairs and time.monotonic() < deadline:
        time.sleep(0.1)
    assert net.reaches("a", B)
    assert not keeper.problems


@needs_root
@pytest.mark.integration
def test_counters_survive_a_renewal_and_renewing_a_cut_that_is_gone_is_an_error(net: Net) -> None:
    pairs = both_ways("a", "b")
    net.bridge.cut("p1", pairs, 30)
    net.reaches("a", B)
    before = net.bridge.cuts()["p1"].dropped
    net.bridge.renew("p1", pairs, 30)
    assert net.bridge.cuts()["p1"].dropped == before
    assert max(before.values()) > 0
    net.bridge.drop_table()
    net.bridge.drop_table()
    with pytest.raises(ToolError):
        net.bridge.renew("p1", pairs, 30)


@needs_root
@pytest.mark.integration
def test_a_cut_that_has_run_out_is_not_brought_back_by_a_late_renewal(net: Net) -> None:
    pairs = both_ways("a", "b")
    net.bridge.cut("p1", pairs, 1)
    deadline = time.monotonic() + 10
    while net.bridge.cuts()["p1"].pairs and time.monotonic() < deadline:
        time.sleep(0.1)
    with pytest.raises(ToolError):
        net.bridge.renew("p1", pairs, 30)
    assert not net.bridge.cuts()["p1"].pairs


def test_a_listing_without_elements_says_that_nothing_is_cut() -> None:
    listed = json.loads(
        '{"nftables": [{"chain": {"name": "p1"}}, {"set": {"name": "p1"}},'
        ' {"rule": {"chain": "p1", "comment": "a>b",'
        ' "expr": [{"counter": {"packets": 7, "bytes": 1}}, {"drop": null}]}}]}'
    )
    cuts = nft.parse_table(listed, {})
    assert cuts["p1"].pairs == frozenset()
    assert cuts["p1"].dropped == {Flow("a", "b"): 7}


@needs_root
@pytest.mark.integration
def test_a_cut_of_one_port_leaves_the_others_and_this_host_s_observers(net: Net) -> None:
    """The hub is this host: its connections to the client port are cut, those from an observer's port are not."""
    net.sh(f"ip -n {net.hub} addr add 10.9.0.254/24 dev lab0")
    cut = Bridge(net.hub, nft.TABLE, {**net.bridge.addresses, "host": IPv4Address("10.9.0.254")})
    flows = [*service("b", "a", 2379), *service("host", "a", 2379)]
    cut.cut("p1", flows, 60)
    assert cut.cuts()["p1"].flows == set(flows)
    assert net.reaches("b", A)  # port 9
    with pytest.raises(TimeoutError):
        connect(net.hub, A, 2379, 0.7)
    with pytest.raises(ConnectionRefusedError):
        connect(net.hub, A, 2379, 2.0, source_ports=OBSERVER_PORTS)
    assert cut.cuts()["p1"].dropped[Flow("host", "a", 2379)] > 0
    cut.mend("p1")
    with pytest.raises(ConnectionRefusedError):
        connect(net.hub, A, 2379, 2.0)
    assert not cut.present()
