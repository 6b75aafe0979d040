"""Who is cut off from whom: groups as users write them, and the flows that are dropped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.faults import records
from chaos.faults.base import Proof
from chaos.faults.network import cut as cut_module
from chaos.faults.network import guest_nft, partitions
from chaos.faults.network.cut import Cut
from chaos.faults.network.dns import DnsGone
from chaos.faults.network.flows import HOST, Flow, both_ways, service, stopped
from chaos.faults.network.guest_nft import share
from chaos.faults.network.nft import CutState
from chaos.faults.network.partitions import BridgeCut, CutClients, CutPeers, Isolate, OneWay, Partition
from chaos.faults.targets import Groups
from chaos.lab.lab import Lab
from machine.errors import UsageError
from machine.paths import StackPaths

ABC = ("a", "b", "c")


def made(kind: type[Cut], *groups: tuple[str, ...], nodes: tuple[str, ...] = ABC) -> Cut:
    return kind(kind.normalise(groups, nodes))


def pairs(cut: Cut) -> set[str]:
    return {f"{a}{b}" for a, b in cut.pairs}


def check(kind: type[Cut], *groups: tuple[str, ...], nodes: tuple[str, ...] = ABC) -> None:
    """The check of groups alone; where rules go is none of its business here."""
    lab = cast("Lab", SimpleNamespace(manifest=SimpleNamespace(node_names=nodes)))
    cut = made(kind, *groups, nodes=nodes)
    original = Cut.check
    try:
        Cut.check = lambda *_: None  # type: ignore[method-assign]
        cut.check(lab)
    finally:
        Cut.check = original  # type: ignore[method-assign]


def test_a_partition_cuts_both_ways_between_groups_and_never_inside_one() -> None:
    assert pairs(made(Partition, ("a", "b"), ("c",))) == {"ac", "ca", "bc", "cb"}
    assert pairs(made(Partition, ("b",))) == {"ba", "ab", "bc", "cb"}
    assert pairs(made(Partition, ("a",), ("c",))) == {"ac", "ca"}


def test_isolating_two_leaves_three_islands() -> None:
    assert made(Isolate, ("a", "b"), nodes=("a", "b", "c", "d")).groups == (("a",), ("b",), ("c", "d"))
    assert pairs(made(Isolate, ("a", "b"), nodes=ABC)) == {"ab", "ba", "ac", "ca", "bc", "cb"}


def test_a_bridge_keeps_the_shared_node_in_touch_with_everybody() -> None:
    assert pairs(made(BridgeCut, ("b",))) == {"ac", "ca"}
    five = made(BridgeCut, ("c",), nodes=("a", "b", "c", "d", "e"))
    assert pairs(five) == {"ad", "da", "ae", "ea", "bd", "db", "be", "eb"}
    assert made(BridgeCut, ("a", "b"), ("b", "c")).flows == made(BridgeCut, ("b",)).flows


def test_one_way_drops_what_the_first_group_sends() -> None:
    assert pairs(made(OneWay, ("a",))) == {"ab", "ac"}
    assert pairs(made(OneWay, ("b", "c"), ("a",))) == {"ba", "ca"}


def test_clients_are_cut_off_from_one_port_and_this_host_too() -> None:
    flows = made(CutClients, ("a",)).flows
    assert all(2379 in {flow.to_port, flow.from_port} for flow in flows)
    assert stopped(flows, "host", "a", 2379)
    assert stopped(flows, "b", "a", 2379)
    assert not stopped(flows, "a", "b", 2379)
    assert not stopped(flows, "b", "a", 2380)


def test_peers_are_cut_off_from_one_port_in_both_directions_and_this_host_is_not() -> None:
    flows = made(CutPeers, ("a",)).flows
    assert stopped(flows, "b", "a", 2380)
    assert stopped(flows, "a", "c", 2380)
    assert not stopped(flows, "b", "c", 2380)
    assert not stopped(flows, "b", "a", 2379)
    assert not any("host" in flow.pair for flow in flows)


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        (Partition, (("a", "b"), ("b", "c"))),
        (Partition, (("a", "b", "c"),)),
        (OneWay, (("a",), ("a", "b"))),
        (OneWay, (("a",), ("b",), ("c",))),
        (BridgeCut, (("a", "b"), ("c",))),
        (BridgeCut, (("a", "b", "c"), ("b", "c"))),
        (BridgeCut, (("a", "b"),)),
    ],
)
def test_groups_that_overlap_where_they_may_not_are_refused(kind: type[Cut], groups: Groups) -> None:
    with pytest.raises(UsageError) as refused:
        check(kind, *groups)
    assert refused.value.exit_code == 2


def test_groups_that_make_sense_are_taken() -> None:
    check(Partition, ("a",), ("b", "c"))
    check(OneWay, ("a",))
    check(BridgeCut, ("a", "b"), ("b", "c"))
    check(Isolate, ("a", "b", "c"))


@given(st.sets(st.sampled_from("abcde"), min_size=1, max_size=4))
def test_isolated_nodes_reach_nobody_and_the_rest_reach_each_other(named: set[str]) -> None:
    flows = made(Isolate, tuple(sorted(named)), nodes=tuple("abcde")).flows
    for source in "abcde":
        for target in set("abcde") - {source}:
            assert (Flow(source, target) in flows) == bool({source, target} & named)


def test_a_rule_that_is_gone_or_drops_nothing_that_was_sent_is_no_proof() -> None:
    cut = made(Partition, ("a",))
    flow = Flow("a", "b")
    states = {
        "gone": None,
        "run out": CutState(frozenset(), {flow: 5}),
        "idle": CutState(frozenset({flow.pair}), {flow: 0}),
        "dropping": CutState(frozenset({flow.pair}), {flow: 5}),
    }
    held = {
        name: cut._rule(flow, state, "guest", sent=flow in cut.sent(ABC, ())).holds for name, state in states.items()
    }
    assert held == {"gone": False, "run out": False, "idle": False, "dropping": True}
    # a source without power sends nothing: there the rule alone is shown
    assert cut._rule(flow, states["idle"], "guest", sent=flow in cut.sent(("b", "c"), ())).holds


@pytest.mark.parametrize(
    ("kind", "named", "sent"),
    [
        (Isolate, "a", "a>b a>c b>a c>a"),
        (CutClients, "a", "host>a/2379 b>a/2379 c>a/2379"),
        (CutPeers, "a", "a>b/2380 a>c/2380 b>a/2380 c>a/2380"),
        (DnsGone, "a", "a>host/53"),
    ],
)
def test_a_cut_must_count_what_its_probes_send_and_no_other_cut_stops(kind: type[Cut], named: str, sent: str) -> None:
    cut = made(kind, (named,))

    def counted(others: tuple[Flow, ...]) -> str:
        return " ".join(sorted(str(flow) for flow in cut.sent(ABC, others)))

    assert counted(()) == " ".join(sorted(sent.split()))
    # a cut of everything between `a` and `b` takes these packets; the rest must still be counted
    assert counted((Flow("a", "b"), Flow("b", "a"))) == " ".join(
        sorted(one for one in sent.split() if not {"a", "b"} <= set(re.findall(r"\b[a-z]\b", one)))
    )
    everything = tuple(Flow(x, y) for x in (*ABC, HOST) for y in (*ABC, HOST) if x != y)
    assert counted(everything) == ""


def test_a_proof_by_the_rule_alone_says_that_it_is_one() -> None:
    cut, flow = made(Partition, ("a",)), Flow("a", "b")

    def seen(packets: int, nodes: tuple[str, ...]) -> str:
        state = CutState(frozenset({flow.pair}), {flow: packets})
        proof = cut._rule(flow, state, "bridge", sent=flow in cut.sent(nodes, ()))
        return f"{proof.observed}{'' if proof.holds else ' NOT'}"

    assert seen(5, ABC) == "in force, 5 packets dropped"
    assert seen(0, ABC) == "in force, 0 packets dropped NOT"
    # a node without power or link sends nothing, and nothing reaches it
    for nodes in (("b", "c"), ("a", "c"), ("c",)):
        assert seen(0, nodes) == "in force, 0 packets dropped; shown by the rule alone, as no probe goes along it"
        assert seen(2, nodes) == "in force, 2 packets dropped"
    gone = cut._rule(flow, None, "bridge", sent=False)
    assert (gone.observed, gone.holds) == ("not in force, 0 packets dropped", False)


class Ground:
    """A lab whose bridge is ours or not, and a note of who was told to mend a cut."""

    def __init__(self, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ours = True
        self.mended: list[str] = []
        self.running: Callable[[], list[str]] = list
        self.paths = StackPaths(checkout, "lab")
        self.manifest = SimpleNamespace(lab_id="01234567", hypervisor=SimpleNamespace(bridge="elx"))
        bridge = SimpleNamespace(ours=lambda: self.ours, mend=lambda _name: self.mended.append("bridge"))
        monkeypatch.setattr(cut_module, "Bridge", SimpleNamespace(of=lambda _manifest: bridge))
        guests = SimpleNamespace(mend=lambda *_: self.mended.append("guest"))
        monkeypatch.setattr(cut_module, "Guests", lambda *_: guests)


@pytest.mark.parametrize(("ours", "place"), [(True, "bridge elx"), (False, "guest")])
def test_a_cut_is_lifted_where_it_was_made_also_when_the_bridge_has_changed_hands(
    ours: bool, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = Ground(tmp_path, monkeypatch)
    lab, cut = cast("Lab", ground), made(Partition, ("a",))
    ground.ours = ours
    records.write(ground.paths, cut.record("01234567", cut.place(lab)))
    ground.ours = not ours
    assert cut.place(lab) == place
    cut.lift(lab)
    assert ground.mended == [place.partition(" ")[0]]
    records.remove(ground.paths, cut.id)
    assert cut.place(lab) != place, "healed, it is made anew where it can be"


def test_a_record_of_another_lab_says_nothing_of_where_a_cut_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = Ground(tmp_path, monkeypatch)
    cut = made(Partition, ("a",))
    records.write(ground.paths, cut.record("76543210", "guest"))
    assert cut.place(cast("Lab", ground)) == "bridge elx"


def test_where_the_user_says_so_no_record_and_no_bridge_is_asked() -> None:
    nobody = cast("Lab", SimpleNamespace(manifest=SimpleNamespace(hypervisor=SimpleNamespace(bridge="elx"))))
    there = [Partition((("a",), ("b",)), params={"where": where}).place(nobody) for where in ("guest", "bridge")]
    assert there == ["guest", "bridge elx"]


@pytest.mark.parametrize(
    ("others", "sent"),
    [
        ((), {"ab", "ba", "ac", "ca"}),
        ((Flow("b", "a"),), {"ab", "ac", "ca"}),
        (service("b", "a", 2380), {"ab", "ba", "ac", "ca"}),  # datagrams have another port
        ((*both_ways("a", "b"), Flow("a", "c")), {"ca"}),
    ],
)
def test_datagrams_are_sent_only_where_no_other_cut_drops_them(
    others: tuple[Flow, ...], sent: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []

    def datagrams(_lab: Lab, pairs: Mapping[tuple[str, str], bool]) -> dict[tuple[str, str], bool]:
        seen.extend(pairs)
        return {pair: pair[0] != "a" for pair in pairs}

    monkeypatch.setattr(partitions, "datagrams", datagrams)
    proof = made(OneWay, ("a",)).further(cast("Lab", None), ABC, others, in_force=True)
    assert {f"{a}{b}" for a, b in seen} == sent
    assert len(proof) == len(sent)
    assert all(one.holds for one in proof)


@pytest.mark.parametrize(
    ("where", "ours", "asked"),
    [(None, True, False), ("bridge", True, False), ("guest", True, True), (None, False, True)],
)
def test_what_cuts_drop_is_looked_for_inside_the_guests_where_some_may_lie_there(
    where: str | None, ours: bool, asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_bridge, inside = Flow("a", "b"), Flow("b", "c")
    ground = Ground(tmp_path, monkeypatch)
    there = {"one": CutState(frozenset({at_bridge.pair}), {at_bridge: 0})}
    bridge = SimpleNamespace(ours=lambda: ours, cuts=lambda: there)
    monkeypatch.setattr(guest_nft, "Bridge", SimpleNamespace(of=lambda _manifest: bridge))
    guests: list[str] = []

    def found(_lab: Lab, nodes: Iterable[str]) -> tuple[dict[str, CutState], list[str]]:
        guests.extend(nodes)
        return {"two": CutState(frozenset({inside.pair}), {inside: 0})}, []

    monkeypatch.setattr(guest_nft, "guest_cuts", found)
    if where:
        cut = Partition((("a",), ("b",)), params={"where": where})
        records.write(ground.paths, cut.record("01234567", cut.place(cast("Lab", ground))))
    assert guest_nft.dropped(cast("Lab", ground), ABC) == ([at_bridge, inside] if asked else [at_bridge])
    assert guests == (list(ABC) if asked else [])


@pytest.mark.parametrize(
    ("cut", "probe", "run"),
    [
        (Partition((("a",), ("b", "c"))), "abc", ""),
        (Partition((("a",), ("b",)), params={"where": "guest"}), "abc", "ab"),
        (OneWay((("a",), ("b",))), "abc", ""),
        (DnsGone((("a", "b"),)), "", "ab"),  # it tries no connection
        (DnsGone((("a",),), params={"where": "guest"}), "", "a"),
    ],
)
def test_the_shells_that_a_cut_begins_with_are_those_that_its_proof_uses(cut: Cut, probe: str, run: str) -> None:
    assert cut.shells(ABC) == {(node, "probe") for node in probe} | {(node, "run") for node in run}
    assert bool(cut._probes(ABC, ())) == bool(probe)


def test_a_cut_at_the_bridge_knows_of_cuts_inside_and_is_gone_whoever_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground, inside = Ground(tmp_path, monkeypatch), Flow("b", "c")
    bridge = SimpleNamespace(ours=lambda: True, cuts=dict)
    for module in (cut_module, guest_nft):
        monkeypatch.setattr(module, "Bridge", SimpleNamespace(of=lambda _manifest: bridge))
    beside = Partition((("b",), ("c",)), params={"where": "guest"})
    records.write(ground.paths, beside.record("01234567", "guest"))
    there = {"two": CutState(frozenset({inside.pair}), {inside: 0})}
    monkeypatch.setattr(cut_module, "guest_cuts", lambda _lab, _nodes: (there, ["a"]))
    monkeypatch.setattr(cut_module, "linked", lambda _lab: list(ABC))
    ground.running = lambda: list(ABC)
    probed: list[Sequence[Flow]] = []

    def reachable(_lab: Lab, _nodes: Sequence[str], others: Sequence[Flow], **_: object) -> list[Proof]:
        probed.append(others)
        return []

    cut = made(Partition, ("a",))
    monkeypatch.setattr(Partition, "_probed", lambda _self, *words, **more: reachable(*words, **more))
    (gone,) = cut.look(cast("Lab", ground), in_force=False)
    assert (gone.observed, gone.holds) == ("gone", True), "the bridge says so; no guest has rules of this cut"
    assert probed == [[inside]]


def test_inside_the_guests_each_has_the_rules_for_what_comes_in_and_for_what_goes_to_this_host() -> None:
    flows = [*made(Partition, ("a",)).flows, Flow("b", "host", to_port=53)]
    found = share(flows)
    assert set(found["a"]) == {Flow("b", "a"), Flow("c", "a")}
    assert set(found["b"]) == {Flow("a", "b"), Flow("b", "host", to_port=53)}
    assert set(found["c"]) == {Flow("a", "c")}
