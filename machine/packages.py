"""The Debian packages under the lab: which are missing, and putting them in.

Standard library only, since the launcher asks before there is an environment. On a system
without dpkg the programs themselves are looked for instead.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from machine.errors import RequirementError, ToolError
from machine.log import Say
from machine.paths import cache_dir
from machine.process import tail

DPKG_STATUS: Final = Path("/var/lib/dpkg/status")

SECONDS: Final = 120
"""About how long putting in all of them takes, as told to the user (2 cores, near mirror)."""


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package, why the lab wants it, and one file or program that shows it is there."""

    name: str
    why: str
    shows: str
    """Program looked up on PATH, or an absolute path, where there is no dpkg."""
    build: bool = False
    """Wanted already for making the Python environment."""


PACKAGES: Final = (
    Package("qemu-system-x86", "runs the virtual machines", "qemu-system-x86_64"),
    Package("qemu-utils", "makes disk images", "qemu-img"),
    Package("libvirt-daemon-system", "manages the virtual machines", "libvirtd"),
    Package("libvirt-clients", "virsh, to look at them by hand", "virsh"),
    Package("dnsmasq-base", "libvirt's networks want it", "dnsmasq"),
    Package("xsltproc", "the libvirt plugin rewrites machine definitions with it", "xsltproc"),
    Package("genisoimage", "mkisofs, writes the first-boot seed", "mkisofs"),
    Package("mmdebstrap", "builds the guest image", "mmdebstrap"),
    Package("e2fsprogs", "makes the image's file system", "mke2fs"),
    Package("openssh-client", "commands on the nodes", "ssh"),
    Package("iproute2", "network namespaces", "ip"),
    Package("nftables", "cuts the network between nodes", "nft"),
    Package("python3-venv", "makes the Python environment", "", build=True),
    Package("python3-dev", "libvirt-python is compiled at install", "", build=True),
    Package("libvirt-dev", "libvirt-python is compiled at install", "/usr/include/libvirt/libvirt.h", build=True),
    Package("pkg-config", "libvirt-python is compiled at install", "pkg-config", build=True),
    Package("gcc", "libvirt-python is compiled at install", "gcc", build=True),
)


TEST_PACKAGES: Final = (
    Package("chromium", "the report's tests look at it in a real browser", "chromium"),
    Package("chromium-driver", "drives that browser", "chromedriver"),
)
"""Wanted by ./lab test browser only."""


def installed(status: str) -> Iterator[str]:
    """Names of the installed packages in the text of dpkg's status file.

    >>> list(installed("Package: a\\nStatus: install ok installed\\n\\nPackage: b\\nStatus: deinstall ok config-files"))
    ['a']
    """
    name = ""
    for line in status.splitlines():
        if line.startswith("Package: "):
            name = line[9:]
        elif line == "Status: install ok installed":
            yield name


def missing(packages: Collection[Package] = PACKAGES, *, status: Path = DPKG_STATUS) -> list[Package]:
    """Those of `packages` that are not installed. That none is missing is kept in the cache for
    as long as dpkg's status file does not change, so that a later start need not read it.
    """
    try:
        stat = status.stat()
    except FileNotFoundError:
        return [package for package in packages if not _shown(package.shows)]
    names = " ".join(package.name for package in packages)
    key = hashlib.sha256(f"{status} {stat.st_mtime_ns} {stat.st_size} {names}".encode()).hexdigest()
    stamp = cache_dir() / "packages" / hashlib.sha256(names.encode()).hexdigest()[:12]
    try:
        if stamp.read_text() == key:
            return []
    except OSError:
        pass
    present = set(installed(status.read_text(errors="replace")))
    absent = [package for package in packages if package.name not in present]
    if not absent:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(key)
    return absent


def build_packages() -> list[Package]:
    """What is wanted to make the Python environment."""
    return [package for package in PACKAGES if package.build]


def command(packages: Collection[Package]) -> list[str]:
    """The command that puts `packages` in."""
    # Another apt may be at work: one that we were killed over, or the system's own upgrades.
    options = ["-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    return ["apt-get", "install", *options, *(package.name for package in packages)]


def refusal(packages: Collection[Package]) -> RequirementError | None:
    """Why `packages` cannot be put in by us, or None when they can."""
    names = " ".join(package.name for package in packages)
    if shutil.which("apt-get") is None:
        return RequirementError(
            f"These programs are missing: {', '.join(p.shows or p.name for p in packages)}",
            where="no apt-get here: this is not Debian or a system made from it",
            next=f"Install what your system has in place of the Debian packages {names}.",
        )
    if os.geteuid() != 0:
        return RequirementError(
            f"Debian packages are missing: {names}",
            where="only root may install them",
            next=f"Run: sudo {' '.join(command(packages))}",
        )
    return None


def install(packages: Collection[Package], say: Say) -> None:
    """Put `packages` in with apt-get; raises RequirementError without the right or apt-get,
    ToolError with the end of apt's words when it fails.
    """
    if not packages:
        return
    if problem := refusal(packages):
        raise problem
    say(f"Installing {len(packages)} Debian packages: {' '.join(package.name for package in packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    # A stale package list is the usual reason why an install fails, an unreachable mirror among
    # many is not one: so the update may fail, the install may not.
    for argv, must in ((["apt-get", "update"], False), (command(packages), True)):
        done = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if must and done.returncode != 0:
            raise ToolError(
                "apt-get could not install the packages",
                where=" ".join(argv),
                next="Mend what it says and run the command again.",
                tail=tail(done.stdout + done.stderr),
            )


def _shown(shows: str) -> bool:
    if not shows:
        return True
    if shows.startswith("/"):
        return Path(shows).exists()
    return shutil.which(shows, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None
