"""What counts as left over on a hypervisor, and in which order it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest

from cli import leftovers
from machine.engine_state import Deployment, Resource
from machine.paths import StackPaths, stack_paths

if TYPE_CHECKING:
    from machine.libvirt_api import Connection

log: list[str] = []


@dataclass
class Volume:
    called: str

    def name(self) -> str:
        return self.called

    def key(self) -> str:
        return f"/pool/{self.called}"

    def delete(self, _flags: int = 0) -> int:
        log.append(f"delete {self.called}")
        return 0


@dataclass
class Thing:
    """A domain, network or pool of a libvirt that is not there."""

    called: str
    xml: str = "<x/>"
    active: bool = True
    volumes: list[Volume] = field(default_factory=list)

    def name(self) -> str:
        return self.called

    def UUIDString(self) -> str:  # noqa: N802
        return f"uuid-{self.called}"

    def XMLDesc(self, _flags: int = 0) -> str:  # noqa: N802
        return self.xml

    def isActive(self) -> int:  # noqa: N802
        return int(self.active)

    def destroy(self) -> int:
        log.append(f"destroy {self.called}")
        return 0

    def undefine(self) -> int:
        log.append(f"undefine {self.called}")
        return 0

    def undefineFlags(self, _flags: int) -> int:  # noqa: N802
        return self.undefine()

    def refresh(self, _flags: int = 0) -> int:
        return 0

    def listAllVolumes(self, _flags: int = 0) -> list[Volume]:  # noqa: N802
        return self.volumes


@dataclass
class Libvirt:
    domains: list[Thing] = field(default_factory=list)
    networks: list[Thing] = field(default_factory=list)
    pools: list[Thing] = field(default_factory=list)

    def listAllDomains(self, _flags: int = 0) -> list[Thing]:  # noqa: N802
        return self.domains

    def listAllNetworks(self, _flags: int = 0) -> list[Thing]:  # noqa: N802
        return self.networks

    def listAllStoragePools(self, _flags: int = 0) -> list[Thing]:  # noqa: N802
        return self.pools


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


def find(libvirt: Libvirt, *ids: str, private: bool, paths: StackPaths | None = None) -> list[leftovers.Leftover]:
    known = [Deployment(tuple(Resource("libvirt:index/x:X", "x", one) for one in ids))]
    return leftovers.find(cast("Connection", libvirt), known, paths or stack_paths("lab"), private=private)


def test_what_the_state_knows_is_never_left_over() -> None:
    pool = Thing("etcdlab-aa", volumes=[Volume("base"), Volume("etcd1-data")])
    libvirt = Libvirt([Thing("etcdlab-aa-etcd1")], [Thing("etcdlab-aa")], [pool])
    ids = ["uuid-etcdlab-aa-etcd1", "uuid-etcdlab-aa", "/pool/base", "/pool/etcd1-data"]
    assert find(libvirt, *ids, private=True) == []


def test_a_seed_is_known_by_the_key_in_its_id() -> None:
    """Id as the provider wrote it in a real state."""
    libvirt = Libvirt(pools=[Thing("etcdlab-aa", volumes=[Volume("etcd1-seed")])])
    ids = ["uuid-etcdlab-aa", "/pool/etcd1-seed;7a4b8c7e-0000-4000-8000-00000000000a"]
    assert find(libvirt, *ids, private=True) == []


def test_in_a_hypervisor_of_its_own_all_the_rest_is_the_labs_and_machines_go_first() -> None:
    pool = Thing("etcdlab-aa", volumes=[Volume("base"), Volume("etcd1-data")])
    libvirt = Libvirt([Thing("etcdlab-aa-etcd1"), Thing("odd", active=False)], [Thing("etcdlab-aa")], [pool])
    for one in find(libvirt, "/pool/base", private=True):
        assert one.ours
        one.remove()
    assert log == [
        "destroy etcdlab-aa-etcd1",
        "undefine etcdlab-aa-etcd1",
        "undefine odd",
        "destroy etcdlab-aa",
        "undefine etcdlab-aa",
        "delete etcd1-data",
        "destroy etcdlab-aa",
        "undefine etcdlab-aa",
    ]


def test_in_a_shared_libvirt_only_labs_that_this_checkout_knows_are_ours() -> None:
    libvirt = Libvirt(
        [Thing("etcdlab-aa-etcd1"), Thing("etcdlab-bb-etcd1"), Thing("my-own-machine")],
        [Thing("etcdlab-aa"), Thing("default")],
        [Thing("default", volumes=[Volume("precious")]), Thing("etcdlab-aa", volumes=[Volume("base")])],
    )
    states = [Deployment((Resource("pulumi-python:dynamic/lab:Identity", "identity", "aa"),))]
    found = leftovers.find(cast("Connection", libvirt), states, stack_paths("lab"), private=False)
    assert [(one.label, one.ours) for one in found] == [
        ("domain etcdlab-aa-etcd1", True),
        ("domain etcdlab-bb-etcd1", False),
        ("network etcdlab-aa", True),
        ("volume base", True),
        ("pool etcdlab-aa", True),
    ]


def test_a_machine_whose_console_lies_in_the_stacks_directory_is_ours_without_any_state() -> None:
    paths = stack_paths("lab")
    machine = Thing("etcdlab-cc-etcd1", xml=f"<log file='{paths.consoles}/etcd1.log'/>")
    libvirt = Libvirt([machine], [Thing("etcdlab-cc")])
    assert [one.ours for one in find(libvirt, private=False, paths=paths)] == [True, True]
