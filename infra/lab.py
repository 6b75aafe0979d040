"""The lab: hypervisor, network, volumes, machines, and the manifest that describes them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from ipaddress import IPv4Address
from typing import Final

import pulumi

from infra import first_boot, manifest
from infra.hypervisor import EmbeddedHypervisor
from infra.identity import LabId
from infra.keys import SshKeys, known_hosts
from infra.libvirt import Hypervisor
from infra.local_files import LocalFiles
from infra.program import Parts
from infra.raft_timing import timeouts_for
from infra.readiness import Readiness, deadline_seconds
from infra.seed_image import SeedImage
from infra.settings import DATA_MIB, LabSettings
from machine.image import Image
from machine.paths import StackPaths

SYSTEM_POOL_DIR: Final = "/var/lib/libvirt/images"
"""Where the host's own libvirt may read volumes; it cannot look into a home directory."""


def mac_of(address: IPv4Address) -> str:
    """A MAC address in QEMU's range (52:54:00) that carries the low 24 bits of `address`."""
    low = int(address).to_bytes(4, "big")[1:]
    return "52:54:00:" + low.hex(":")


class Lab(pulumi.ComponentResource):
    """All that exists before etcd does.

    `client_files` are further files that belong beside the manifest: name -> (content, is it private).
    """

    manifest: pulumi.Output[str]
    """The manifest as JSON."""
    ready: Readiness

    def __init__(
        self,
        name: str,
        *,
        settings: LabSettings,
        paths: StackPaths,
        parts: Parts,
        client_files: Mapping[str, tuple[pulumi.Input[str], bool]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("etcd-lab:infra:Lab", name, None, opts)
        self._settings = settings
        self._paths = paths
        self._accelerator = parts.accelerator
        own = pulumi.ResourceOptions(parent=self)

        self._lab_id = LabId("identity", own).lab_id
        embedded = EmbeddedHypervisor("hypervisor", paths=paths, opts=own) if settings.kind == "embedded" else None
        self._uri = embedded.uri if embedded else pulumi.Output.from_input(settings.system_uri)
        keys = SshKeys("ssh-keys", nodes=settings.node_names, opts=own)
        self.manifest = pulumi.Output.all(self._lab_id, self._uri).apply(
            lambda known: self._manifest(known[0], known[1], parts.etcd.version)
        )
        files = self._files(keys, client_files)
        domains = self._machines(Hypervisor(self._uri, parent=self, alive=embedded), parts.image, keys)
        self.ready = self._ready(domains, files)
        self.register_outputs({"manifest": self.manifest})

    def _domain_name(self, node: str) -> pulumi.Output[str]:
        return pulumi.Output.concat("etcdlab-", self._lab_id, "-", node)

    def _guests(self) -> list[first_boot.Guest]:
        settings = self._settings
        return [
            first_boot.Guest(name, address, mac_of(address), settings.subnet, settings.gateway)
            for name, address in zip(settings.node_names, settings.addresses, strict=True)
        ]

    def _manifest(self, lab_id: str, uri: str, etcd_version: str) -> str:
        settings, paths = self._settings, self._paths
        nodes = tuple(
            manifest.Node(
                name=guest.name,
                address=guest.address,
                mac=guest.mac,
                domain=f"etcdlab-{lab_id}-{guest.name}",
                memory_mib=settings.memory,
                vcpus=settings.vcpus,
            )
            for guest in self._guests()
        )
        hypervisor = manifest.Hypervisor(
            kind=settings.kind,
            uri=uri,
            netns=paths.hypervisor_id if settings.kind == "embedded" else None,
            bridge=f"el{lab_id}",
            accelerator=self._accelerator,
        )
        return manifest.Manifest(
            lab_id=lab_id,
            stack=paths.stack,
            nodes=nodes,
            subnet=settings.subnet,
            gateway=settings.gateway,
            hypervisor=hypervisor,
            etcd_version=etcd_version,
            timeouts=timeouts_for(settings, self._accelerator, paths),
            peers=settings.peers,
            etcd_extra=settings.etcd_extra,
        ).model_dump_json(indent=2)

    def _files(self, keys: SshKeys, client_files: Mapping[str, tuple[pulumi.Input[str], bool]]) -> LocalFiles:
        addresses = {guest.name: str(guest.address) for guest in self._guests()}
        paths = self._paths
        public: dict[str, pulumi.Input[str]] = {
            paths.manifest.name: self.manifest.apply(lambda text: text + "\n"),
            paths.known_hosts.name: keys.host_public.apply(lambda public: known_hosts(public, addresses)),
        }
        private: dict[str, pulumi.Input[str]] = {paths.ssh_key.name: keys.login_private}
        for name, (content, is_private) in client_files.items():
            (private if is_private else public)[name] = content
        return LocalFiles(
            "files", dir=paths.dir, public=public, private=private, opts=pulumi.ResourceOptions(parent=self)
        )

    def _machines(self, hypervisor: Hypervisor, image: Image, keys: SshKeys) -> dict[str, pulumi.Output[str]]:
        """Everything in libvirt; node -> id of its domain."""
        settings, paths = self._settings, self._paths
        guests = self._guests()
        label = pulumi.Output.concat("etcdlab-", self._lab_id)
        network = hypervisor.network(
            name=label,
            bridge=pulumi.Output.concat("el", self._lab_id),
            subnet=settings.subnet,
            hosts={guest.name: str(guest.address) for guest in guests} if settings.peers == "dns" else {},
        )
        system_pool = pulumi.Output.concat(SYSTEM_POOL_DIR, "/", label)
        pool_path = str(paths.pool) if settings.kind == "embedded" else system_pool
        pool = hypervisor.pool(name=label, path=pool_path)
        consoles = LocalFiles(
            "consoles",
            dir=paths.consoles,
            public={},
            private={},
            whole=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        base = hypervisor.base_volume(pool=pool, image=image.path)
        ids: dict[str, pulumi.Output[str]] = {}
        for guest in guests:
            name = self._domain_name(guest.name)
            seed = SeedImage(
                f"{guest.name}-seed",
                dir=paths.seeds,
                node=guest.name,
                files={
                    "user-data": _user_data(guest, keys),
                    "meta-data": name.apply(partial(first_boot.meta_data, guest)),
                    "network-config": first_boot.network_config(guest),
                },
                opts=pulumi.ResourceOptions(parent=self),
            )
            domain = hypervisor.domain(
                guest.name,
                name=name,
                accelerator=self._accelerator,
                memory_mib=settings.memory,
                vcpus=settings.vcpus,
                disks=[
                    hypervisor.system_volume(guest.name, pool=pool, base=base),
                    hypervisor.data_volume(guest.name, pool=pool, mib=DATA_MIB),
                ],
                seed=hypervisor.seed(guest.name, pool=pool, image=seed.path),
                network=network,
                mac=guest.mac,
                console=paths.consoles / f"{guest.name}.log",
                depends_on=consoles,
                kernel=image.kernel,
                initrd=image.initrd,
                cmdline=image.cmdline,
            )
            ids[guest.name] = domain.id
        return ids

    def _ready(self, domains: dict[str, pulumi.Output[str]], files: LocalFiles) -> Readiness:
        settings, paths = self._settings, self._paths
        return Readiness(
            "ready",
            props={
                "instances": domains,
                "domains": {name: self._domain_name(name) for name in domains},
                "addresses": {guest.name: str(guest.address) for guest in self._guests()},
                "uri": self._uri,
                "netns": paths.hypervisor_id if settings.kind == "embedded" else "",
                "dir": str(paths.dir),
                "key": paths.ssh_key.name,
                "known_hosts": paths.known_hosts.name,
                "control_dir": str(paths.run_dir / "ssh"),
                "consoles": str(paths.consoles),
                "seconds": str(deadline_seconds(settings.nodes, self._accelerator)),
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[files]),
        )


def _user_data(guest: first_boot.Guest, keys: SshKeys) -> pulumi.Output[str]:
    everything = pulumi.Output.all(
        keys.host_private.apply(lambda hosts: hosts[guest.name]),
        keys.host_public.apply(lambda hosts: hosts[guest.name]),
        keys.login_public,
    )
    return pulumi.Output.secret(
        everything.apply(
            lambda known: first_boot.user_data(
                guest, host_private=known[0], host_public=known[1], login_public=known[2]
            )
        )
    )
