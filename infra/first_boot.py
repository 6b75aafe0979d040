"""First boot: a NoCloud seed that gives a guest its name, its keys and its address.

`user-data` is a shell script, which both cloud-init and the first-boot unit of the image that we
build run once per instance id. It sets everything itself, so the two end up alike; what needs
cloud-init alone (its own network stage) is in `network-config`.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

BOOTED: Final = "/var/lib/etcd-lab/booted"
"""The script makes this file when all is done."""


@dataclass(frozen=True, slots=True)
class Guest:
    """What a guest is told at first boot."""

    name: str
    address: IPv4Address
    mac: str
    subnet: IPv4Network
    gateway: IPv4Address
    """The host's address, where the lab's name server listens; not a way out."""


_SCRIPT: Final = """\
#!/bin/sh
# Written by etcd-lab. Runs once, at the first boot.
set -eu
umask 077
name={name}
printf '%s\\n' "$name" >/etc/hostname
hostname "$name"
rm -f /etc/ssh/ssh_host_*
cat >/etc/ssh/ssh_host_ed25519_key <<'END'
{host_private}
END
printf '%s\\n' {host_public} >/etc/ssh/ssh_host_ed25519_key.pub
mkdir -p /root/.ssh
printf '%s\\n' {login_public} >/root/.ssh/authorized_keys
umask 022
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' "$name" >/etc/hosts
if command -v cloud-init >/dev/null; then
    systemctl try-restart ssh.service
else
    cat >/etc/systemd/network/10-etcd-lab.network <<'END'
[Match]
MACAddress={mac}
[Network]
Address={address}/{prefix}
LinkLocalAddressing=no
IPv6AcceptRA=no
END
    rm -f /etc/resolv.conf
    printf 'nameserver %s\\noptions timeout:2 attempts:2\\n' {gateway} >/etc/resolv.conf
fi
mkdir -p {directory}
: >{booted}
"""

_NETWORK: Final = """\
version: 2
ethernets:
  lab:
    match: {{macaddress: "{mac}"}}
    dhcp4: false
    addresses: ["{address}/{prefix}"]
    nameservers: {{addresses: ["{gateway}"]}}
"""


def user_data(guest: Guest, *, host_private: str, host_public: str, login_public: str) -> str:
    """The script. `host_private` is a secret, and so is the script."""
    return _SCRIPT.format(
        name=shlex.quote(guest.name),
        host_private=host_private.strip(),
        host_public=shlex.quote(host_public),
        login_public=shlex.quote(login_public),
        mac=guest.mac,
        address=guest.address,
        prefix=guest.subnet.prefixlen,
        gateway=guest.gateway,
        directory=BOOTED.rpartition("/")[0],
        booted=BOOTED,
    )


def meta_data(guest: Guest, domain: str) -> str:
    """Instance id (the domain's name, which carries the lab id) and host name."""
    return f"instance-id: {domain}\nlocal-hostname: {guest.name}\n"


def network_config(guest: Guest) -> str:
    """The static address in cloud-init's network format, version 2."""
    return _NETWORK.format(mac=guest.mac, address=guest.address, prefix=guest.subnet.prefixlen, gateway=guest.gateway)
