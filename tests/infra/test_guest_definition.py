"""What a machine is made of: the style sheet for its XML, its kernel's arguments, its first boot."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
import yaml

from infra import first_boot
from infra.lab import mac_of
from infra.libvirt import INSTANCE, domain_xslt, kernel_arguments
from machine.image import CMDLINE

# As terraform-provider-libvirt 0.8.3 writes it (libvirt/domain_def.go), shortened.
PROVIDER_XML = """<domain type="qemu"><name>etcdlab-0-etcd1</name><memory unit="MiB">512</memory><devices>
<disk device="disk"><source pool="p" volume="v"></source><target dev="vda" bus="virtio"></target></disk>
<graphics type="spice" autoport="yes"></graphics><channel type="unix"><target type="virtio"/></channel>
<rng model="virtio"><backend model="random">/dev/urandom</backend></rng></devices></domain>"""

GUEST = first_boot.Guest(
    "etcd1", IPv4Address("10.1.2.11"), "52:54:00:01:02:0b", IPv4Network("10.1.2.0/24"), IPv4Address("10.1.2.1")
)


@pytest.mark.skipif(shutil.which("xsltproc") is None, reason="xsltproc is not installed")
def test_the_style_sheet_adds_a_console_file_and_takes_the_display(tmp_path: Path) -> None:
    console = Path('/tmp/a "b" & {c}/etcd1.log')  # noqa: S108 - only a name
    sheet, source = tmp_path / "d.xsl", tmp_path / "d.xml"
    sheet.write_text(domain_xslt(console))
    source.write_text(PROVIDER_XML)
    done = subprocess.run(["xsltproc", str(sheet), str(source)], capture_output=True, text=True, check=True)
    devices = ET.fromstring(done.stdout).find("devices")  # noqa: S314 - our own output
    assert devices is not None
    found = devices.find("serial[@type='file']/source")
    assert found is not None
    assert found.attrib == {"path": str(console), "append": "on"}
    tags = [child.tag for child in devices]
    assert {"graphics", "channel"}.isdisjoint(tags)
    assert {"disk", "rng", "serial", "memballoon"} <= set(tags)


def read_back(cmdline: str) -> list[dict[str, str]]:
    """What the provider makes of the line it wrote: splitKernelCmdLine in libvirt/utils_domain_def.go, retold."""
    parts: list[dict[str, str]] = []
    current: dict[str, str] = {}
    keyless = []
    for word in cmdline.split(" "):
        key, equals, value = word.partition("=")
        if not equals:
            keyless.append(word)
        elif key in current:
            parts.append(current)
            current = {key: value}
        else:
            current[key] = value
    return [part for part in [*parts, current, {"_": " ".join(keyless)} if keyless else {}] if part]


@pytest.mark.parametrize("cmdline", [f"{CMDLINE} {INSTANCE}=lab-etcd1", "root=/dev/vda1", "quiet ro"])
def test_kernel_arguments_come_back_as_they_were_given(cmdline: str) -> None:
    given = kernel_arguments(cmdline)
    words = [item if key == "_" else f"{key}={item}" for part in given for key, item in part.items()]
    written = " ".join(sorted(words))  # setCmdlineArgs in libvirt/domain.go
    assert read_back(written) == given
    assert sorted(written.split()) == sorted(cmdline.split())


def script(**keys: str) -> str:
    made = {"host_private": "PRIVATE\n", "host_public": "ssh-ed25519 HOST", "login_public": "ssh-ed25519 LOGIN"}
    return first_boot.user_data(GUEST, **{**made, **keys})


def test_the_first_boot_script_is_posix_shell_and_ends_with_the_mark() -> None:
    text = script()
    assert text.startswith("#!/bin/sh\n")
    checked = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert text.rstrip().endswith(first_boot.BOOTED)


def test_the_first_boot_script_gives_keys_name_and_address(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for directory in ("etc/ssh", "etc/systemd/network", "root", "var/lib"):
        (root / directory).mkdir(parents=True)
    (root / "etc/ssh/ssh_host_rsa_key").write_text("old")
    text = script()
    text = re.sub(r"/(etc|root|var)/", lambda found: f"{root}{found[0]}", text)
    quiet = "hostname() { :; }\ncommand() { return 1; }\n"
    subprocess.run(["sh"], input=text.replace("set -eu\n", f"set -eu\n{quiet}", 1), text=True, check=True)
    assert (root / "etc/hostname").read_text() == "etcd1\n"
    assert (root / "etc/ssh/ssh_host_ed25519_key").read_text() == "PRIVATE\n"
    assert (root / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert not (root / "etc/ssh/ssh_host_rsa_key").exists()
    assert (root / "root/.ssh/authorized_keys").read_text() == "ssh-ed25519 LOGIN\n"
    assert "Address=10.1.2.11/24" in (root / "etc/systemd/network/10-etcd-lab.network").read_text()
    assert (root / first_boot.BOOTED.lstrip("/")).exists()


def test_the_seed_names_the_instance_and_its_network() -> None:
    assert yaml.safe_load(first_boot.meta_data(GUEST, "etcdlab-0-etcd1"))["instance-id"] == "etcdlab-0-etcd1"
    lab = yaml.safe_load(first_boot.network_config(GUEST))["ethernets"]["lab"]
    assert lab["addresses"] == ["10.1.2.11/24"]
    assert lab["match"]["macaddress"] == GUEST.mac


def test_mac_addresses_differ_within_a_subnet() -> None:
    assert len({mac_of(address) for address in IPv4Network("10.0.0.0/22")}) == 1024
    assert mac_of(IPv4Address("10.1.2.11")) == "52:54:00:01:02:0b"
