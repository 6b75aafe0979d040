"""The libvirt provider, wrapped: the only module that imports pulumi_libvirt.

pulumi-libvirt 0.5.4 is the last of its line, so that a swap shall touch one place. What is
particular about it (terraform-provider-libvirt 0.8.3, whose file names are given):

- Every kind of thing is made anew when it changes, under a fixed name: hence delete_before_replace.
- A volume that already has the wanted name is adopted with its content (resource_libvirt_volume.go),
  so that volumes live in a pool of the lab's own, which its end empties.
- `running` starts machines behind the back of a fault (resource_libvirt_domain.go): never used.
- Console types are pty and tcp alone, and a SPICE display comes unasked (domain.go): see xslt/domain.xsl.
- Kernel arguments come back as one mapping with the keyless ones together at the end, sorted
  (utils_domain_def.go, splitKernelCmdLine): any other form would show as a change after a refresh.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final, Literal
from xml.sax.saxutils import escape

import pulumi
import pulumi_libvirt as libvirt

MIB: Final = 1024 * 1024
_XSLT: Final = Path(__file__).parent / "xslt"

INSTANCE: Final = "etcd_lab.instance"
"""Word of the kernel's command line that tells the image's first-boot unit the seed's instance id, the domain's name:
it need not read the seed again at later boots. The kernel itself leaves a word with a point to a module."""


class Hypervisor:
    """An explicit provider for one libvirt, and what all things made through it share.

    `alive` is the resource whose end takes everything along (the embedded hypervisor): what lived
    in it is then not deleted piece by piece, so that destroying works from any half state.
    """

    def __init__(
        self, uri: pulumi.Input[str], *, parent: pulumi.Resource, alive: pulumi.Resource | None = None
    ) -> None:
        self._parent = parent
        self._alive = alive
        self._provider = libvirt.Provider(
            "libvirt", uri=uri, opts=pulumi.ResourceOptions(parent=parent, depends_on=[alive] if alive else None)
        )

    def _opts(self, *depends_on: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(
            parent=self._parent,
            provider=self._provider,
            deleted_with=self._alive,
            delete_before_replace=True,
            depends_on=list(depends_on),
        )

    def network(
        self, *, name: pulumi.Input[str], bridge: pulumi.Input[str], subnet: IPv4Network, hosts: Mapping[str, str]
    ) -> libvirt.Network:
        """An isolated network without DHCP; its name server knows `hosts` (name -> address), and nobody outside."""
        dns = libvirt.NetworkDnsArgs(
            enabled=True,
            hosts=[libvirt.NetworkDnsHostArgs(hostname=host, ip=address) for host, address in hosts.items()],
        )
        return libvirt.Network(
            "network",
            name=name,
            mode="none",
            bridge=bridge,
            addresses=[str(subnet)],
            autostart=True,  # after a restart of the hypervisor
            dhcp=libvirt.NetworkDhcpArgs(enabled=False),
            dns=dns,
            opts=self._opts(),
        )

    def pool(self, *, name: pulumi.Input[str], path: pulumi.Input[str]) -> libvirt.Pool:
        """The lab's own directory of volumes."""
        return libvirt.Pool("pool", name=name, type="dir", target=libvirt.PoolTargetArgs(path=path), opts=self._opts())

    def base_volume(self, *, pool: libvirt.Pool, image: Path) -> libvirt.Volume:
        """The guest image, copied into the pool."""
        return libvirt.Volume(
            "base", name="base", pool=pool.name, source=str(image), format="qcow2", opts=self._opts(pool)
        )

    def system_volume(self, node: str, *, pool: libvirt.Pool, base: libvirt.Volume) -> libvirt.Volume:
        """A copy-on-write system disk over `base`."""
        return libvirt.Volume(
            f"{node}-system",
            name=f"{node}-system",
            pool=pool.name,
            base_volume_id=base.id,
            format="qcow2",
            opts=self._opts(pool),
        )

    def data_volume(self, node: str, *, pool: libvirt.Pool, mib: int) -> libvirt.Volume:
        """An empty disk of its own for etcd's data, so that a new system disk keeps them."""
        return libvirt.Volume(
            f"{node}-data", name=f"{node}-data", pool=pool.name, size=mib * MIB, format="raw", opts=self._opts(pool)
        )

    def seed(self, node: str, *, pool: libvirt.Pool, image: pulumi.Output[str]) -> pulumi.Output[str]:
        """The NoCloud image at `image` as a volume; its id as `domain` takes it, which changes with the content.

        A volume is only sent. The provider's own resource for seeds reads them back, and hangs at that: decision 0012.
        """
        volume = libvirt.Volume(
            f"{node}-seed",
            name=f"{node}-cidata.iso",
            pool=pool.name,
            source=image,
            format="raw",  # what there is to make; libvirt then sees that it is an ISO, and a refresh finds "iso"
            opts=pulumi.ResourceOptions.merge(self._opts(pool), pulumi.ResourceOptions(ignore_changes=["format"])),
        )
        return pulumi.Output.concat(volume.id, ";", image)  # cloudinit_def.go: a volume's key; anything

    def domain(
        self,
        node: str,
        *,
        name: pulumi.Input[str],
        accelerator: Literal["kvm", "tcg"],
        memory_mib: int,
        vcpus: int,
        disks: Sequence[libvirt.Volume],
        seed: pulumi.Input[str],
        network: libvirt.Network,
        mac: str,
        console: Path,
        kernel: Path | None,
        initrd: Path | None,
        cmdline: str | None,
        depends_on: pulumi.Resource,
    ) -> libvirt.Domain:
        """A machine, started; booted directly into `kernel` where there is one, else from its first disk."""
        direct: dict[str, object] = {}
        if kernel is not None and initrd is not None and cmdline is not None:
            words = pulumi.Output.concat(cmdline, f" {INSTANCE}=", name)
            direct = {"kernel": str(kernel), "initrd": str(initrd), "cmdlines": words.apply(kernel_arguments)}
        return libvirt.Domain(
            node,
            name=name,
            type="kvm" if accelerator == "kvm" else "qemu",
            machine="pc",  # the seed is an IDE CD, which q35 has not (domain.go, newDiskForCloudInit)
            memory=memory_mib,
            vcpu=vcpus,
            cpu=libvirt.DomainCpuArgs(mode="host-passthrough") if accelerator == "kvm" else None,
            disks=[libvirt.DomainDiskArgs(volume_id=disk.id) for disk in disks],
            cloudinit=seed,
            network_interfaces=[libvirt.DomainNetworkInterfaceArgs(network_id=network.id, mac=mac.upper())],
            xml=libvirt.DomainXmlArgs(xslt=domain_xslt(console)),
            opts=self._opts(depends_on),
            **direct,
        )


def domain_xslt(console: Path) -> str:
    """The style sheet that domain XML passes through, for a console log at `console`."""
    sheet = (_XSLT / "domain.xsl").read_text()
    return sheet.replace("@CONSOLE@", escape(str(console), {'"': "&quot;", "{": "{{", "}": "}}"}))


def kernel_arguments(cmdline: str) -> list[dict[str, str]]:
    """A kernel command line in the form in which the provider reads it back."""
    words = cmdline.split()
    keyed = dict(word.split("=", 1) for word in words if "=" in word)
    keyless = sorted(word for word in words if "=" not in word)
    return [part for part in (keyed, {"_": " ".join(keyless)} if keyless else {}) if part]
