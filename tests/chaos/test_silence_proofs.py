"""What proves a machine without power or link: silence. A refusal comes from a machine that is there."""

from __future__ import annotations

import errno
import os
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest

from chaos.faults.host import power
from chaos.faults.host.power import Pause, PowerOff, Reset
from chaos.faults.network import link
from chaos.faults.network.flows import Flow, both_ways, service
from chaos.faults.network.link import LinkDown
from chaos.lab import probes
from chaos.lab.probes import Reach
from infra.manifest import CLIENT_PORT, PEER_PORT

NODE = (("a",),)
REFUSED, UNREACHABLE, NO_ROUTE = errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH
OPEN, LATE = 0, errno.ETIMEDOUT
LAB: Any = SimpleNamespace(
    manifest=SimpleNamespace(
        hypervisor=SimpleNamespace(netns=None), node=lambda _name: SimpleNamespace(address=IPv4Address("10.0.0.1"))
    )
)


@pytest.fixture(autouse=True)
def cut(monkeypatch: pytest.MonkeyPatch) -> list[Flow]:
    """What cuts drop: nothing, unless a test adds to it."""
    flows: list[Flow] = []
    monkeypatch.setattr(link, "dropped", lambda *_: flows)
    return flows


def meets(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Every connection attempt of this host opens (0), or ends with this errno."""

    def connect(*_: object) -> Any:
        if number:
            raise OSError(number, os.strerror(number))
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(probes, "connect", connect)


@pytest.mark.parametrize("fault", [PowerOff(NODE), Pause(NODE)])
@pytest.mark.parametrize(
    ("number", "silent"), [(OPEN, False), (REFUSED, False), (LATE, True), (UNREACHABLE, True), (NO_ROUTE, False)]
)
def test_a_machine_that_refuses_is_not_without_power(
    fault: PowerOff, number: int, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    meets(monkeypatch, number)
    monkeypatch.setattr(type(fault), "domains", lambda *_: [])
    monkeypatch.setattr(type(fault), "_peers", lambda *_: [])
    proof = fault.look(LAB, in_force=True)
    assert [(one.what, one.holds) for one in proof] == [("ssh of a", silent), ("client port of a", silent)]
    assert all((one.expected == one.observed) is silent for one in proof)


@pytest.mark.parametrize(("number", "back"), [(OPEN, True), (REFUSED, False), (LATE, False)])
def test_a_machine_is_back_when_its_ssh_opens(number: int, back: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    meets(monkeypatch, number)
    monkeypatch.setattr(PowerOff, "domains", lambda *_: [])
    assert [one.holds for one in PowerOff(NODE).look(LAB, in_force=False)] == [back]


@pytest.mark.parametrize("number", [REFUSED, LATE])
def test_a_machine_that_boots_after_a_reset_may_refuse_already(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    meets(monkeypatch, number)
    noted: dict[str, str] = {}
    monkeypatch.setattr(Reset, "each_domain", lambda *_: None)
    monkeypatch.setattr(power, "recall", lambda *_: {})
    monkeypatch.setattr(power, "remember", lambda _paths, _id, facts: noted.update(facts))
    lab: Any = SimpleNamespace(
        manifest=SimpleNamespace(hypervisor=SimpleNamespace(netns=None, accelerator="tcg"), node=LAB.manifest.node),
        paths=None,
    )
    Reset(NODE).apply(lab)
    assert list(noted) == ["absence of ssh on a"]


@pytest.mark.parametrize(("number", "silent"), [(OPEN, False), (REFUSED, False), (LATE, True), (UNREACHABLE, True)])
def test_a_node_that_refuses_has_its_cable(number: int, silent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    meets(monkeypatch, number)
    monkeypatch.setattr(link, "linked", lambda _lab: [])
    monkeypatch.setattr(link, "tcp_matrix", lambda *_: {})
    _, host = LinkDown(NODE).look(LAB, in_force=True)
    assert (host.what, host.holds) == ("tcp host > a", silent)


@pytest.mark.parametrize(("number", "back"), [(OPEN, True), (REFUSED, False), (LATE, False)])
def test_a_cable_is_back_when_ssh_opens(number: int, back: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    meets(monkeypatch, number)
    monkeypatch.setattr(link, "linked", lambda _lab: ["a"])
    monkeypatch.setattr(link, "tcp_matrix", lambda *_: {})
    _, host = LinkDown(NODE).look(LAB, in_force=False)
    assert host.holds is back


@pytest.mark.parametrize(
    ("flows", "tried"),
    [
        ((), "ba ca"),
        (both_ways("a", "b"), "ca"),
        (service("b", "a", PEER_PORT), "ca"),
        (service("b", "a", CLIENT_PORT), "ba ca"),
        ((*both_ways("a", "b"), *both_ways("c", "a")), ""),
    ],
)
@pytest.mark.parametrize("in_force", [True, False])
def test_what_a_cut_takes_away_shows_nothing_of_a_cable(
    flows: tuple[Flow, ...], tried: str, in_force: bool, cut: list[Flow], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def matrix(_lab: object, pairs: list[tuple[str, str]], *_: object) -> dict[tuple[str, str], Reach]:
        asked.extend("".join(pair) for pair in pairs)
        return dict.fromkeys(pairs, Reach.SILENT if in_force else Reach.ANSWERED)

    meets(monkeypatch, LATE if in_force else OPEN)
    cut.extend(flows)
    monkeypatch.setattr(link, "linked", lambda _lab: ["b", "c"] if in_force else ["a", "b", "c"])
    monkeypatch.setattr(link, "tcp_matrix", matrix)
    proof = LinkDown(NODE).look(LAB, in_force=in_force)
    assert " ".join(asked) == tried
    assert all(one.holds for one in proof)
    assert len(proof) == 2 + len(asked)


@pytest.mark.parametrize(("more", "holds"), [({"cc": 100.0}, True), ({"aa": 1.0}, False)])
def test_only_members_that_can_be_asked_say_who_is_gone(
    more: dict[str, float], holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`a` is gone, `b` has lost its link: only `c` is asked, and hears `c`'s peers by their ids."""
    asked: list[str] = []
    pages = iter([{"aa": 5.0, "bb": 5.0, "cc": 5.0}, {"aa": 5.0, "bb": 5.0, "cc": 5.0}])

    def heard(_lab: object, node: str) -> dict[str, float]:
        asked.append(node)
        page = next(pages)
        return {sender: count + (more.get(sender, 0.0) if len(asked) > 1 else 0.0) for sender, count in page.items()}

    def matrix(_lab: object, pairs: list[tuple[str, str]], *_: object) -> dict[tuple[str, str], Reach]:
        return dict.fromkeys(pairs, Reach.SILENT)

    status = SimpleNamespace(node="c", ok=True, member_id=0xCC)
    lab: Any = SimpleNamespace(cluster=SimpleNamespace(status=lambda: [status]))
    monkeypatch.setattr(power, "linked", lambda _lab: ["c"])
    monkeypatch.setattr(power, "_heard", heard)
    monkeypatch.setattr(power, "tcp_matrix", matrix)
    proof = PowerOff(NODE)._peers(lab)
    assert [(one.what, one.holds) for one in proof] == [("tcp c > a", True), ("what c hears", holds)]
    assert asked == ["c", "c"]
