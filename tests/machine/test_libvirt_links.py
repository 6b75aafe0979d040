"""Cables and networks of domains, from and into the XML that libvirt speaks."""

from __future__ import annotations

from typing import cast
from xml.etree import ElementTree

import pytest

from machine import libvirt_api
from machine.errors import NotBuiltError

XML = """<domain><name>d</name><devices>
<disk type='volume'/>
<interface type='network'><mac address='52:54:00:00:00:01'/><source network='lab-net' bridge='el0'/>{link}</interface>
</devices></domain>"""


class Paper:
    """A connection with one domain of this XML."""

    def __init__(self, link: str = "", text: str = XML) -> None:
        self.text = text.format(link=link)
        self.updates: list[str] = []

    def lookupByName(self, name: str) -> Paper:  # noqa: N802 - libvirt's names
        assert name == "d"
        return self

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: ARG002, N802
        return self.text

    def updateDeviceFlags(self, xml: str, flags: int = 0) -> int:  # noqa: N802
        assert flags == 1  # the live domain
        self.updates.append(xml)
        return 0


def as_connection(paper: Paper) -> libvirt_api.Connection:
    return cast("libvirt_api.Connection", paper)


@pytest.mark.parametrize(("link", "up"), [("", True), ("<link state='up'/>", True), ("<link state='down'/>", False)])
def test_a_link_is_up_unless_libvirt_says_it_is_down(link: str, up: bool) -> None:
    assert libvirt_api.link_is_up(as_connection(Paper(link)), "d") is up


@pytest.mark.parametrize("link", ["", "<link state='up'/>"])
def test_pulling_the_cable_is_the_same_card_with_another_link_state(link: str) -> None:
    paper = Paper(link)
    libvirt_api.set_link(as_connection(paper), "d", up=False)
    [sent] = [ElementTree.fromstring(text) for text in paper.updates]  # noqa: S314 - our own text
    assert sent.find("mac").get("address") == "52:54:00:00:00:01"  # type: ignore[union-attr]
    assert [one.get("state") for one in sent.findall("link")] == ["down"]


def test_the_network_of_a_domain_is_that_of_its_card() -> None:
    assert libvirt_api.network_of(as_connection(Paper()), "d") == "lab-net"
    with pytest.raises(NotBuiltError, match="no virtual network"):
        libvirt_api.network_of(as_connection(Paper(text="<domain><devices/></domain>")), "d")
