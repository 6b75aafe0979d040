"""The manifest: plain data that survives its file."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.manifest import Hypervisor, Manifest, Node, Timeouts, load
from machine.errors import NotBuiltError
from machine.paths import StackPaths
from tests.manifests import manifest

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
SCALARS = st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    names = draw(st.lists(NAMES, min_size=1, max_size=9, unique=True))
    nodes = tuple(
        Node(
            name=name,
            address=IPv4Address(0x0A000002 + index),
            mac=f"52:54:00:00:00:{index:02x}",
            domain=f"etcdlab-0123abcd-{name}",
            memory_mib=draw(st.integers(256, 65536)),
            vcpus=draw(st.integers(1, 16)),
        )
        for index, name in enumerate(names)
    )
    embedded = draw(st.booleans())
    return Manifest(
        lab_id="0123abcd",
        stack="lab",
        nodes=nodes,
        subnet=IPv4Network("10.0.0.0/24"),
        gateway=IPv4Address("10.0.0.1"),
        hypervisor=Hypervisor(
            kind="embedded" if embedded else "system",
            uri="qemu:///system",
            netns="etcdlab-01234567" if embedded else None,
            bridge="el0123abcd",
            accelerator=draw(st.sampled_from(["kvm", "tcg"])),
        ),
        etcd_version="3.6.16",
        timeouts=Timeouts(heartbeat_ms=100, election_ms=1000),
        peers=draw(st.sampled_from(["address", "hosts", "dns"])),
        etcd_extra=draw(st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=2), max_size=3)),
    )


@given(manifests())
def test_it_is_the_same_after_json(manifest: Manifest) -> None:
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


@given(manifests())
def test_two_quorums_always_share_a_member(manifest: Manifest) -> None:
    assert 2 * manifest.quorum > len(manifest.nodes) >= manifest.quorum


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    paths = StackPaths(tmp_path, "lab")
    made = manifest("a")
    made.save(paths)
    assert load(paths) == made
    with pytest.raises(NotBuiltError, match="The nodes are a"):
        made.node("b")


@pytest.mark.parametrize("content", [None, "", "{}", '{"version": 2}'])
def test_no_manifest_or_a_broken_one_says_what_to_do(tmp_path: Path, content: str | None) -> None:
    paths = StackPaths(tmp_path, "lab")
    if content is not None:
        paths.manifest.parent.mkdir(parents=True)
        paths.manifest.write_text(content)
    with pytest.raises(NotBuiltError, match=r"\./lab up"):
        load(paths)
