"""Where things are kept: the checkout, its `.lab`, the shared cache, the short run directory.

CHECKOUT/.lab/passphrase             of the stacks' secrets, 0600
CHECKOUT/.lab/pulumi/                PULUMI_HOME when the user has no login of their own
CHECKOUT/.lab/state/                 Pulumi's file backend, likewise
CHECKOUT/.lab/stacks/NAME/           one lab: manifest, key files, hypervisor, pool, consoles
CHECKOUT/.lab/faults/NAME/           undo records of the faults in force on it
CHECKOUT/.lab/reports/RUN/           one run of verification
$XDG_CACHE_HOME/etcd-lab/            tools, images, etcd binaries; shared by checkouts
/run/etcd-lab/ID/                    sockets, whose paths may not exceed 107 characters
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from machine.errors import UsageError

CHECKOUT: Final = Path(__file__).resolve().parent.parent
"""The checkout that this code runs from (the project is installed editable)."""

DEFAULT_STACK: Final = "lab"

_STACK_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


def cache_dir() -> Path:
    """Cache shared by all checkouts of this user: `$XDG_CACHE_HOME/etcd-lab`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "etcd-lab"


def run_root() -> Path:
    """Directory for sockets: `/run/etcd-lab` for root, else below `$XDG_RUNTIME_DIR`."""
    if os.geteuid() == 0:
        return Path("/run/etcd-lab")
    return Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")) / "etcd-lab"


@dataclass(frozen=True, slots=True)
class StackPaths:
    """The files of one lab (one Pulumi stack of one checkout)."""

    checkout: Path
    stack: str

    @property
    def hypervisor_id(self) -> str:
        """Name of this lab's embedded hypervisor and namespace: the same at every start of this
        stack in this checkout, and another one in any other checkout. `etcdlab-` and 8 hex digits.
        """
        digest = hashlib.sha256(f"{self.checkout.resolve()}\0{self.stack}".encode()).hexdigest()
        return f"etcdlab-{digest[:8]}"

    @property
    def dir(self) -> Path:
        """All that belongs to the lab."""
        return self.checkout / ".lab" / "stacks" / self.stack

    @property
    def run_dir(self) -> Path:
        """Sockets of the lab: libvirt's and ssh's."""
        return run_root() / self.hypervisor_id.removeprefix("etcdlab-")

    @property
    def manifest(self) -> Path:
        """The manifest as JSON (infra.manifest.Manifest)."""
        return self.dir / "manifest.json"

    @property
    def deployment(self) -> Path:
        """Which deployment of etcd was the last to begin (deploy.journal)."""
        return self.dir / "deployment.json"

    @property
    def ssh_key(self) -> Path:
        """Private key that logs in to every node as root, 0600."""
        return self.dir / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The nodes' host keys, which the stack made."""
        return self.dir / "known_hosts"

    @property
    def ca_cert(self) -> Path:
        """Certificate of the lab's CA."""
        return self.dir / "ca.crt"

    @property
    def client_cert(self) -> Path:
        """Certificate with which this host speaks to etcd."""
        return self.dir / "client.crt"

    @property
    def client_key(self) -> Path:
        """Private key of `client_cert`, 0600."""
        return self.dir / "client.key"

    @property
    def hypervisor(self) -> Path:
        """Private directories and record of the embedded hypervisor."""
        return self.dir / "hypervisor"

    @property
    def pool(self) -> Path:
        """Volumes of the lab (storage pool of type dir)."""
        return self.dir / "pool"

    @property
    def seeds(self) -> Path:
        """Images of the first-boot seeds, 0600: they hold host keys."""
        return self.dir / "seeds"

    @property
    def consoles(self) -> Path:
        """One serial console log per node: `NODE.log`."""
        return self.dir / "consoles"

    @property
    def faults(self) -> Path:
        """Undo records of the faults in force."""
        return self.checkout / ".lab" / "faults" / self.stack


def stack_paths(stack: str = DEFAULT_STACK, checkout: Path = CHECKOUT) -> StackPaths:
    """Paths of the lab `stack`; raises UsageError for an illegal name."""
    if not _STACK_NAME.fullmatch(stack):
        raise UsageError(
            f"{stack!r} is no stack name",
            where="--stack",
            next="Use 1 to 31 lower-case letters, digits and hyphens, beginning with a letter or digit.",
        )
    return StackPaths(checkout, stack)


def reports_dir(checkout: Path = CHECKOUT) -> Path:
    """Directory of all runs of verification; `latest` in it links to the newest."""
    return checkout / ".lab" / "reports"
