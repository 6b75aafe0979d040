"""Bad lines: words for tc, what pings say, and when that is proof."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.faults.network import dns, netem
from chaos.faults.network.dns import read_lookup
from chaos.faults.network.flows import Flow, both_ways, service
from chaos.faults.network.impairments import Corrupt, Duplicate, Jitter, Latency, Loss, Rate, Reorder
from chaos.faults.network.netem import Netem, make_script, read_netem
from chaos.faults.network.pings import Pings, read_pings
from chaos.faults.registry import kind
from chaos.lab.lab import Lab
from machine.errors import UsageError
from machine.process import Completed

GROUPS = (("a",), ("b", "c"))

SAID = """\
10.0.0.2 PING 10.0.0.2 (10.0.0.2): 56 data bytes
10.0.0.2 64 bytes from 10.0.0.2: seq=0 ttl=64 time=101.306 ms
10.0.0.2 64 bytes from 10.0.0.2: seq=2 ttl=64 time=2.5 ms
10.0.0.3 64 bytes from 10.0.0.3: seq=0 ttl=64 time=1.0 ms
10.0.0.2 64 bytes from 10.0.0.2: seq=1 ttl=64 time=120 ms
10.0.0.2 64 bytes from 10.0.0.2: seq=1 ttl=64 time=121 ms (DUP!)
10.0.0.2 4 packets transmitted, 3 packets received, 1 duplicates, 25% packet loss
10.0.0.3 1 packets transmitted, 1 packets received, 0% packet loss
"""


def pings(*times: float, sent: int | None = None, numbers: tuple[int, ...] | None = None, duplicates: int = 0) -> Pings:
    return Pings(sent or len(times), times, numbers or tuple(range(len(times))), duplicates)


def holds(fault: Netem, seen: Pings, *, in_force: bool) -> bool:
    return fault.judge(seen, in_force=in_force)[2]


def test_what_pings_say_is_read_by_address() -> None:
    found = read_pings(SAID, ["10.0.0.2", "10.0.0.3", "10.0.0.4"])
    first = found["10.0.0.2"]
    assert (first.sent, first.lost, first.duplicates, first.disordered) == (4, 1, 1, 1)
    assert first.times == (101.306, 2.5, 120.0)
    assert found["10.0.0.3"].times == (1.0,)
    assert found["10.0.0.4"].sent == 0


def test_only_packets_to_the_chosen_peers_go_through_netem() -> None:
    script = make_script(["10.0.0.2", "10.0.0.3"], "delay 100ms")
    assert "parent 1:4 handle 40: netem limit 10000 delay 100ms" in script
    assert script.count("filter add") == 2
    assert "match ip dst 10.0.0.3/32 flowid 1:4" in script
    # without a filter, packets take the bands of the map, which is the first for all
    assert f"priomap {' '.join(['0'] * 16)}" in script
    assert script.index("qdisc del") < script.index("qdisc add")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Latency(GROUPS, params={"ms": 80.0, "jitter_ms": 10.0}), "delay 80ms 10ms"),
        (Latency(GROUPS), "delay 100ms"),
        (Loss(GROUPS, params={"percent": 12.5}), "loss 12.5%"),
        (Corrupt(GROUPS), "corrupt 20%"),
        (Duplicate(GROUPS), "duplicate 30%"),
        (Reorder(GROUPS), "delay 100ms reorder 25%"),
        (Rate(GROUPS), "rate 512kbit"),
    ],
)
def test_words_for_netem_are_those_of_its_manual(fault: Netem, words: str) -> None:
    assert fault.netem == words


def test_latency_is_proved_by_the_quickest_and_gone_when_one_is_quicker() -> None:
    fault = Latency(GROUPS, params={"ms": 100.0})
    assert holds(fault, pings(101, 140), in_force=True)
    assert not holds(fault, pings(99, 140), in_force=True)
    assert holds(fault, pings(3, 400), in_force=False)
    assert not holds(fault, pings(101, 400), in_force=False)
    assert not holds(fault, Pings(5, (), (), 0), in_force=True)
    assert not holds(fault, Pings(5, (), (), 0), in_force=False)


def test_jitter_needs_times_that_differ() -> None:
    fault = Jitter(GROUPS, params={"ms": 100.0, "jitter_ms": 50.0})
    assert holds(fault, pings(60, 140), in_force=True)
    assert not holds(fault, pings(100, 110), in_force=True)


def test_loss_is_proved_within_what_chance_gives_and_gone_at_none() -> None:
    fault = Loss(GROUPS, params={"percent": 30.0})
    lost = {count: Pings(40, (1.0,) * (40 - count), tuple(range(40 - count)), 0) for count in (0, 1, 12, 30, 40)}
    assert {count: holds(fault, seen, in_force=True) for count, seen in lost.items()} == {
        0: False,
        1: True,
        12: True,
        30: False,
        40: False,
    }
    assert [holds(fault, lost[count], in_force=False) for count in (0, 1)] == [True, False]
    assert not holds(fault, Pings(0, (), (), 0), in_force=False)
    assert holds(Loss(GROUPS, params={"percent": 100.0}), lost[40], in_force=True)


def test_duplicates_and_disorder_are_counted_apart_from_loss() -> None:
    twice = Pings(40, (1.0,) * 40, tuple(range(40)), 12)
    assert holds(Duplicate(GROUPS), twice, in_force=True)
    assert not holds(Duplicate(GROUPS), twice, in_force=False)
    shuffled = Pings(40, (1.0,) * 40, tuple(n ^ 1 for n in range(40)), 0)
    assert shuffled.disordered == 20
    assert holds(Reorder(GROUPS), shuffled, in_force=True)
    assert not holds(Reorder(GROUPS), shuffled, in_force=False)
    assert not holds(Reorder(GROUPS), twice, in_force=True)


@given(st.floats(32, 10000))
def test_a_slow_line_is_proved_by_a_ping_that_it_cannot_take_sooner(kbit: float) -> None:
    fault = Rate(GROUPS, params={"kbit": kbit})
    needs = fault.size * 8 / kbit
    assert 200 <= fault.size <= 8000
    assert needs >= 5
    assert holds(fault, pings(needs * 1.01), in_force=True)
    assert not holds(fault, pings(needs * 0.9, 1000), in_force=True)
    assert holds(fault, pings(needs * 0.9, 1000), in_force=False)


@given(st.integers(1, 100))
def test_enough_pings_are_sent_to_hit_some(percent: int) -> None:
    fault = Loss(GROUPS, params={"percent": percent})
    assert 40 <= fault.count <= 400
    assert fault.count * percent / 100 >= 4


def test_what_netem_says_of_itself() -> None:
    told = '[{"kind":"prio","packets":9},{"kind":"netem","packets":7,"drops":2}]'
    assert read_netem(told) == (7, "netem, 7 packets, 2 dropped")
    assert read_netem('[{"kind":"fq_codel","packets":9}]') == (None, "fq_codel")


def test_what_cannot_be_read_is_no_proof_that_netem_is_gone() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        read_netem("")
    fault = Latency((("a",), ("b",)))
    assert not fault._qdisc("a", "", in_force=False, pinged=True).holds
    assert fault._qdisc("a", "[]", in_force=False, pinged=True).holds


def lab_of(*nodes: str) -> Lab:
    manifest = SimpleNamespace(node_names=nodes)
    return cast("Lab", SimpleNamespace(manifest=manifest, leader=lambda: nodes[0], running=lambda: list(nodes)))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("latency", {"ms": -1}),
        ("latency", {"ms": 10, "jitter_ms": 20}),
        ("latency", {"jitter_ms": -5}),
        ("loss", {"percent": 0}),
        ("loss", {"percent": 101}),
        ("rate", {"kbit": "fast"}),
        ("clock-jump", {"seconds": 0.2}),
        ("clock-drift", {"ppm": 10}),
        ("clock-drift", {"ppm": 200000}),
        ("clock-strobe", {"seconds": 0}),
        ("clock-strobe", {"period_ms": 1}),
    ],
)
def test_what_cannot_be_or_cannot_be_proved_is_refused_before_anything_is_touched(
    name: str, given: dict[str, float | str]
) -> None:
    with pytest.raises(UsageError) as refused:
        kind(name).declare(lab_of("a", "b", "c"), ("a",), given)
    assert refused.value.exit_code == 2


def test_bad_lines_are_the_senders_and_two_may_not_be_on_one_node() -> None:
    lab = lab_of("a", "b", "c")
    first = Latency.declare(lab, ("a",))
    assert first.groups == (("a",), ("b", "c"))
    assert first.nodes == ("a",)
    Loss.declare(lab, ("b",), others=[first])
    with pytest.raises(UsageError, match="latency is in force on a"):
        Loss.declare(lab, ("a", "c"), others=[first])


ANSWER = """\
status 0 100.5 100.75
Server:\t\t192.168.93.1
Address:\t192.168.93.1:53

Name:\tetcd2
Address: 192.168.93.12
"""


def test_a_lookup_tells_the_address_of_the_name_and_not_of_the_server() -> None:
    seen = read_lookup(ANSWER)
    assert (seen.answered, seen.address, seen.seconds) == (True, "192.168.93.12", 0.25)


def test_a_name_that_does_not_exist_is_an_answer_and_silence_is_none() -> None:
    nothing = "status 1 5.0 5.1\nServer: x\nAddress: 1.2.3.4:53\n\n** server can't find etcd2: NXDOMAIN\n"
    assert read_lookup(nothing).answered
    assert read_lookup(nothing).address is None
    assert not read_lookup("status 143 5.0 7.0\n").answered
    assert not read_lookup("status 1 5.0 9.0\n;; connection timed out; no servers could be reached\n").answered
    assert not read_lookup("").answered


@pytest.mark.parametrize(
    ("said", "slow", "quick"),
    [
        ("status 0 100.0 101.6\nName:\ta\nAddress: 10.0.0.1\n", True, False),
        ("status 0 100.0 100.1\nName:\ta\nAddress: 10.0.0.1\n", False, True),
        ("status 124 100.0 110.0\n", False, False),
        ("status 1 100.0 105.0\n;; connection timed out; no servers could be reached\n", False, False),
    ],
)
def test_a_name_service_is_slow_when_it_answers_late_and_not_when_it_is_silent(
    said: str, slow: bool, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "linked", lambda _: ["a"])
    asked: list[str] = []

    def each(_lab: object, nodes: list[str], script: str, **_: object) -> dict[str, Completed]:
        asked.append(script)
        return {node: Completed((), 0, said if "nslookup" in script else "[]", "") for node in nodes}

    monkeypatch.setattr(dns, "each", each)
    lab = cast("Lab", SimpleNamespace(manifest=SimpleNamespace(node_names=("a",), gateway="10.0.0.254")))
    fault = dns.DnsSlow((("a",),))
    assert fault.look(lab, in_force=True)[0].holds is slow
    assert fault.look(lab, in_force=False)[0].holds is quick
    assert "-timeout=10 " in asked[0], "the program waits as long as we do"


@pytest.mark.parametrize("name", ["dns-gone", "dns-slow", "dns-wrong"])
def test_faults_of_names_are_refused_where_members_use_none(name: str) -> None:
    manifest = SimpleNamespace(node_names=("a", "b", "c"), peers="address")
    lab = cast("Lab", SimpleNamespace(manifest=manifest, leader=lambda: "a", running=lambda: ["a", "b", "c"]))
    with pytest.raises(UsageError, match="address") as refused:
        kind(name).declare(lab, ("a",))
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("cut", "pinged", "sent", "proved"),
    [
        ((), ["10.0.0.2", "10.0.0.3"], 0, False),
        ((), ["10.0.0.2", "10.0.0.3"], 7, True),
        (both_ways("a", "b"), ["10.0.0.3"], 7, True),
        (service("a", "b", 2380), ["10.0.0.2", "10.0.0.3"], 7, True),  # pings pass
        ((*both_ways("a", "b"), Flow("c", "a")), [], 0, True),  # nobody to ping: what netem says is all there is
    ],
)
def test_peers_that_a_cut_takes_away_are_not_pinged(
    monkeypatch: pytest.MonkeyPatch, cut: tuple[Flow, ...], pinged: list[str], sent: int, proved: bool
) -> None:
    node = {name: SimpleNamespace(address=f"10.0.0.{at}") for at, name in enumerate("abc", 1)}
    lab = cast("Lab", SimpleNamespace(manifest=SimpleNamespace(node=node.__getitem__)))
    scripts: list[str] = []

    def answered(_lab: Lab, nodes: dict[str, object], read: Callable[[str], str], **_: object) -> dict[str, Completed]:
        (name,) = nodes
        scripts.append(read(name))
        lines = "".join(
            f"{one} 64 bytes from {one}: seq={seq} ttl=64 time=130.0 ms\n" for one in pinged for seq in range(10)
        ) + "".join(f"{one} 10 packets transmitted, 10 packets received\n" for one in pinged)
        qdiscs = f'[{{"kind": "netem", "packets": {sent}, "drops": 0}}]'
        return {name: Completed((), 0, f"{lines}\n{qdiscs}\n", "")}

    monkeypatch.setattr(netem, "linked", lambda _: ["a", "b", "c"])
    monkeypatch.setattr(netem, "dropped", lambda *_: list(cut))
    monkeypatch.setattr(netem, "each", answered)
    proof = Latency(GROUPS).look(lab, in_force=True)
    assert re.findall(r"ping -c \S+ -i \S+ -W \S+ -s \S+ (\S+)", scripts[0]) == pinged
    assert all(one.holds for one in proof) is proved
    assert len(proof) == len(pinged) + 1
