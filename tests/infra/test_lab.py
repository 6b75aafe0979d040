"""The Lab component under Pulumi's mocks: what is declared, with what, for which settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import Mocks, mocks, rpc

from infra.lab import Lab
from infra.manifest import Manifest
from infra.program import Parts
from infra.settings import from_mapping
from machine.etcd_binaries import EtcdBinaries
from machine.image import CMDLINE, Image
from machine.paths import StackPaths

LAB_ID = "0123abcd"
HOSTS = {"etcd1", "etcd2", "etcd3"}


class Engine(Mocks):
    """Makes every resource at once; what dynamic providers would find is given."""

    def __init__(self) -> None:
        self.made: list[mocks.MockResourceArgs] = []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        self.made.append(args)
        outs = dict(args.inputs)
        kind = args.typ.rsplit(":", 1)[-1]
        if kind == "Identity":
            outs["lab_id"] = LAB_ID
        elif kind == "EmbeddedHypervisor":
            outs["uri"] = "qemu+unix:///system?socket=/run/x"
        elif kind == "SshKeys":
            nodes = args.inputs["nodes"]
            outs |= {"login_private": "LOGIN", "login_public": "login", "host_public": dict.fromkeys(nodes, "pub")}
            outs["host_private"] = {node: f"HOST-{node}" for node in nodes}
        return f"{args.name}-id", outs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(args.token)

    def of(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """Inputs of the resources of this kind, by name."""
        return {args.name: args.inputs for args in self.made if args.typ.endswith(f":{kind}")}


@pytest.fixture
def engine() -> Iterator[Engine]:
    found = Engine()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    mocks.set_mocks(found, project="etcd-lab", stack="lab")
    yield found
    loop.close()
    asyncio.set_event_loop(asyncio.new_event_loop())


def declare(engine: Engine, tmp_path: Path, **config: object) -> Manifest:
    """The lab for this configuration, wholly declared; its manifest."""
    settings = from_mapping({"hypervisor": "embedded", **{key.replace("_", "-"): item for key, item in config.items()}})
    parts = Parts(
        Image(Path("/i/disk.qcow2"), Path("/i/vmlinuz"), Path("/i/initrd"), "0" * 64),
        "tcg",
        EtcdBinaries(Path("/e"), Path("/e"), None, "3.6.16", {}),
    )
    seen: list[str] = []

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> pulumi.Output[None]:
        lab = Lab(
            "lab",
            settings=settings,
            paths=StackPaths(tmp_path, "lab"),
            parts=parts,
            client_files={"ca.crt": ("CA", False), "client.key": ("KEY", True)},
        )
        # `ready` comes last: everything is registered when its inputs are known
        return pulumi.Output.all(lab.manifest, lab.ready.urn).apply(lambda known: seen.append(str(known[0])))

    program()
    return Manifest.model_validate_json(seen[0])


def test_three_machines_with_disks_of_their_own_and_fixed_addresses(engine: Engine, tmp_path: Path) -> None:
    manifest = declare(engine, tmp_path)
    domains = engine.of("Domain")
    assert set(domains) == HOSTS
    assert {str(domain["name"]) for domain in domains.values()} == {f"etcdlab-{LAB_ID}-{name}" for name in HOSTS}
    disks = [disk["volumeId"] for domain in domains.values() for disk in domain["disks"]]
    assert len(disks) == len(set(disks)) == 6
    macs = {domain["networkInterfaces"][0]["mac"].lower() for domain in domains.values()}
    assert macs == {node.mac for node in manifest.nodes}
    assert manifest.node_names == ("etcd1", "etcd2", "etcd3")
    assert manifest.hypervisor.bridge == f"el{LAB_ID}"
    assert manifest.timeouts.election_ms == 3000


def test_machines_boot_the_images_kernel_under_the_accelerator_found(engine: Engine, tmp_path: Path) -> None:
    declare(engine, tmp_path)
    domain = engine.of("Domain")["etcd1"]
    assert (domain["type"], domain["kernel"], domain["initrd"]) == ("qemu", "/i/vmlinuz", "/i/initrd")
    words = {key if key != "_" else item for part in domain["cmdlines"] for key, item in part.items()}
    assert {word.split("=")[0] for word in CMDLINE.split() if "=" in word} <= words
    assert "running" not in domain


def test_nothing_leads_out_of_the_network_and_nobody_hands_out_addresses(engine: Engine, tmp_path: Path) -> None:
    declare(engine, tmp_path)
    (network,) = engine.of("Network").values()
    assert network["mode"] == "none"
    assert network["dhcp"]["enabled"] is False


@pytest.mark.parametrize(("peers", "known"), [("address", set()), ("hosts", set()), ("dns", HOSTS)])
def test_the_name_server_knows_the_nodes_only_where_peers_are_named_by_it(
    engine: Engine, tmp_path: Path, peers: str, known: set[str]
) -> None:
    declare(engine, tmp_path, peers=peers)
    (network,) = engine.of("Network").values()
    assert {host["hostname"] for host in network["dns"].get("hosts", [])} == known


def test_key_files_are_private_and_seeds_are_secret(engine: Engine, tmp_path: Path) -> None:
    declare(engine, tmp_path)
    files = engine.of("LocalFiles")["files"]
    assert rpc.is_rpc_secret(files["private"])
    assert set(rpc.unwrap_rpc_secret(files["private"])) == {"id_ed25519", "client.key"}
    assert {"manifest.json", "known_hosts", "ca.crt"} == set(files["public"])
    assert not {"LOGIN", "KEY"} & set(files["public"].values())
    seed = engine.of("SeedImage")["etcd2-seed"]
    assert rpc.is_rpc_secret(seed["files"])
    script = rpc.unwrap_rpc_secret(seed["files"])["user-data"]
    assert "HOST-etcd2" in script
    assert "HOST-etcd1" not in script
    assert engine.of("Volume")["etcd2-seed"]["source"] == seed["path"]


def test_readiness_waits_for_every_machine(engine: Engine, tmp_path: Path) -> None:
    declare(engine, tmp_path, nodes=2, names=["north", "south"])
    (ready,) = engine.of("Readiness").values()
    assert ready["instances"] == {"north": "north-id", "south": "south-id"}
    assert set(ready["addresses"]) == {"north", "south"}


def test_the_hosts_own_libvirt_is_used_where_it_is_configured(engine: Engine, tmp_path: Path) -> None:
    manifest = declare(engine, tmp_path, hypervisor="qemu:///system")
    assert engine.of("EmbeddedHypervisor") == {}
    assert (manifest.hypervisor.kind, manifest.hypervisor.netns) == ("system", None)
    (pool,) = engine.of("Pool").values()
    assert not str(pool["target"]["path"]).startswith(str(tmp_path))  # libvirt could not look there


def test_the_manifest_is_the_same_for_the_same_lab(engine: Engine, tmp_path: Path) -> None:
    assert declare(engine, tmp_path) == declare(engine, tmp_path)
