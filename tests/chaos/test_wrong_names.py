"""Names in the network's name service: which lead elsewhere, and how they are put right or wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from chaos.faults.network.dns import DnsWrong, wrong_names
from machine import libvirt_api
from machine.errors import HypervisorError

ADDRESSES = {"a": IPv4Address("10.0.0.1"), "b": IPv4Address("10.0.0.2")}
GATEWAY = IPv4Address("10.0.0.254")


class Paper:
    """A lab, its libvirt and its one network, as XML; changing what is not there is refused, as libvirt does."""

    def __init__(self, hosts: str, peers: str = "dns", broken: bool = False) -> None:
        self.xml = f"<network><name>n</name><dns>{hosts}</dns></network>"
        self.broken = broken
        nodes = [SimpleNamespace(name=name, domain=name, address=address) for name, address in ADDRESSES.items()]
        self.manifest = SimpleNamespace(
            peers=peers,
            gateway=GATEWAY,
            nodes=nodes,
            node=lambda name: next(node for node in nodes if node.name == name),
        )

    @contextlib.contextmanager
    def libvirt(self) -> Iterator[Paper]:
        yield self

    def networkLookupByName(self, _name: str) -> Any:  # noqa: N802 - libvirt's own
        return SimpleNamespace(XMLDesc=lambda: self.xml)

    def set_name(self, _connection: object, _network: str, name: str, address: str, *, present: bool) -> None:
        entry = host(name, address)
        if self.broken or present is (entry in self.xml):
            raise HypervisorError(f"libvirt refused to change the name {name}")
        self.xml = self.xml.replace("</dns>", f"{entry}</dns>") if present else self.xml.replace(entry, "")
        ElementTree.fromstring(self.xml)  # noqa: S314 - ours


def host(name: str, address: object) -> str:
    return f"<host ip='{address}'><hostname>{name}</hostname></host>"


RIGHT = "".join(host(name, address) for name, address in ADDRESSES.items())


def lab_with(monkeypatch: pytest.MonkeyPatch, hosts: str, **more: Any) -> Any:
    lab = Paper(hosts, **more)
    monkeypatch.setattr(libvirt_api, "network_of", lambda *_: "n")
    monkeypatch.setattr(libvirt_api, "set_name", lab.set_name)
    return lab


@pytest.mark.parametrize(
    ("hosts", "wrong"),
    [
        (RIGHT, {}),
        (host("a", ADDRESSES["a"]) + host("b", GATEWAY), {"b": "10.0.0.254"}),
        (RIGHT + host("a", GATEWAY), {"a": "10.0.0.1, 10.0.0.254"}),
        (host("a", ADDRESSES["a"]), {"b": "nowhere"}),
    ],
)
def test_names_that_lead_elsewhere_are_found_without_a_record(
    hosts: str, wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wrong_names(lab_with(monkeypatch, hosts)) == wrong
    assert wrong_names(lab_with(monkeypatch, hosts, peers="address")) == {}


def test_a_name_is_made_wrong_and_right_as_often_as_one_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = lab_with(monkeypatch, RIGHT)
    fault = DnsWrong((("b",),))
    for change, wrong in ((fault.apply, {"b": str(GATEWAY)}), (fault.lift, {})):
        for _ in range(2):
            change(lab)
            assert wrong_names(lab) == wrong


def test_what_libvirt_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HypervisorError):
        DnsWrong((("b",),)).lift(lab_with(monkeypatch, host("b", GATEWAY), broken=True))
