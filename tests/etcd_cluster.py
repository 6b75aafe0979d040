"""Real clusters of etcd on loopback: one process per member, mutual TLS and addresses of its own, as in a lab.

Each cluster has a random 127.x.y.0/24 to itself, so that members have etcd's usual ports as on machines, and the
product's own classes (infra.cluster.Cluster) work on it as on a lab. Made and ended by `cluster`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from deploy.certificates import KeyPair, issue, make_authority
from deploy.plan import etcd_settings
from infra.cluster import Cluster
from infra.manifest import Manifest
from machine import etcd_binaries
from machine.paths import StackPaths, cache_dir
from machine.process import Completed, run
from machine.versions import ETCD_DEFAULT
from machine.waiting import Pending, wait_until
from tests.manifests import manifest

READY_SECONDS: Final = 40.0
_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None)


def kept_versions() -> list[str]:
    """The default version, and the newest of each other line that this machine has already."""
    newest: dict[str, str] = {}
    there = [path.name for path in (cache_dir() / "etcd").glob("3.*") if (path / "record.json").exists()]
    for version in sorted(there, key=lambda text: tuple(map(int, text.split(".")))):
        newest[version.rpartition(".")[0]] = version
    newest[ETCD_DEFAULT.rpartition(".")[0]] = ETCD_DEFAULT
    return sorted(newest.values())


class Members:
    """The members of one cluster, by name; `cluster` is how the product sees it."""

    def __init__(self, directory: Path, version: str, *names: str, **fields: object) -> None:
        self.programs = etcd_binaries.ensure(version, lambda _line: None)
        self.dir = directory
        self.net = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}"  # noqa: S311 - no secret
        described = manifest(*names, heartbeat_ms=100, etcd_version=self.programs.version, **fields)
        nodes = [
            node.model_copy(update={"address": IPv4Address(f"{self.net}.{10 + number}")})
            for number, node in enumerate(described.nodes, 1)
        ]
        self.manifest: Manifest = described.model_copy(update={"nodes": tuple(nodes)})
        self.paths = StackPaths(directory, "lab")
        self.cluster = Cluster(self.manifest, self.paths)
        self.authority = make_authority("etcd-lab test")
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.paths.dir.mkdir(parents=True, exist_ok=True)
        self.paths.ca_cert.write_text(self.authority.certificate)
        self._write(issue(self.authority, "root"), self.paths.client_cert, self.paths.client_key)

    @staticmethod
    def _write(pair: KeyPair, certificate: Path, key: Path) -> None:
        certificate.write_text(pair.certificate)
        key.write_text(pair.key)

    # -- members --------------------------------------------------------------------------------------------

    def data(self, name: str) -> Path:
        """The member's data directory."""
        return self.dir / name / "data"

    def log(self, name: str) -> str:
        """All that the member has said."""
        return (self.dir / name / "etcd.log").read_text(errors="replace")

    def start(self, *names: str) -> None:
        """Start members; all of the manifest when none is named."""
        for name in names or self.manifest.node_names:
            self.start_with(name, self.settings(name))

    def settings(self, name: str) -> dict[str, object]:
        """The configuration that the lab would write for this node, with files that are here."""
        node = self.manifest.node(name)
        files: dict[str, object] = {
            "cert-file": str(self.dir / name / "member.crt"),
            "key-file": str(self.dir / name / "member.key"),
            "trusted-ca-file": str(self.paths.ca_cert),
            "client-cert-auth": True,
        }
        found = etcd_settings(self.manifest, node) | {
            "data-dir": str(self.data(name)),
            "listen-client-urls": f"https://{node.address}:2379",
            "listen-metrics-urls": f"http://{node.address}:2381",
            "client-transport-security": files,
            "peer-transport-security": files,
        }
        return found | {"unsafe-no-fsync": True} if not self.manifest.etcd_version.startswith("3.4.") else found

    def start_with(self, name: str, settings: dict[str, object]) -> None:
        """Start a member, of the manifest or another, with these settings."""
        home = self.dir / name
        home.mkdir(exist_ok=True)
        if not (home / "member.crt").exists():
            address = IPv4Address(str(settings["listen-peer-urls"]).partition("//")[2].rpartition(":")[0])
            pair = issue(self.authority, name, names=[name], addresses=[address])
            self._write(pair, home / "member.crt", home / "member.key")
        (home / "etcd.yaml").write_text(json.dumps(settings))
        with (home / "etcd.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [self.programs.etcd, f"--config-file={home / 'etcd.yaml'}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=home,
                # nobody else ends it when the tests are killed
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
            )

    def join(self, name: str, address: str = "", *, learner: bool = False) -> int:
        """Add a member that is none of the manifest's and start it; gives its id."""
        address = address or f"{self.net}.{99 + len(self.running)}"
        url = f"https://{address}:2380"
        words = ["member", "add", name, f"--peer-urls={url}", *(["--learner"] if learner else [])]
        wait_until(lambda: self._asked(*words), "adding a member", seconds=30)
        entries = self.cluster.members(8.0, without="nobody")
        own = next(one for one in entries if url in one.peer_urls)
        known = ",".join(f"{one.name or name}={one.peer_urls[0]}" for one in entries)
        first = self.settings(self.manifest.node_names[0])
        files = {
            "cert-file": str(self.dir / name / "member.crt"),
            "key-file": str(self.dir / name / "member.key"),
            "trusted-ca-file": str(self.paths.ca_cert),
            "client-cert-auth": True,
        }
        self.start_with(
            name,
            first
            | {
                "name": name,
                "data-dir": str(self.data(name)),
                "listen-peer-urls": url,
                "initial-advertise-peer-urls": url,
                "listen-client-urls": f"https://{address}:2379",
                "advertise-client-urls": f"https://{address}:2379",
                "listen-metrics-urls": f"http://{address}:2381",
                "initial-cluster": known,
                "initial-cluster-state": "existing",
                "client-transport-security": files,
                "peer-transport-security": files,
            },
        )
        return own.id

    def _asked(self, *words: str) -> None:
        done = self.etcdctl(*words)
        if not done.ok:
            raise Pending(done.stderr)

    def kill(self, *names: str, number: int = signal.SIGKILL) -> None:
        """End members; they can be started again."""
        for name in names:
            process = self.running.pop(name)
            process.send_signal(number)
            process.wait()

    def ended(self, name: str, seconds: float = 20) -> int:
        """Wait until the member has ended by itself; its status."""
        return self.running.pop(name).wait(seconds)

    def wipe(self, name: str) -> None:
        """Remove the member's data."""
        shutil.rmtree(self.data(name), ignore_errors=True)

    def ready(self) -> None:
        """Wait until the manifest's members are healthy."""
        self.cluster.wait_healthy(READY_SECONDS)

    def etcdctl(self, *words: str, node: str = "") -> Completed:
        """Run etcdctl with the lab's client certificate, as `./lab ctl` does; never raises for its status."""
        address = self.manifest.node(node or self.manifest.node_names[0]).address
        flags = [f"--endpoints=https://{address}:2379", f"--cacert={self.paths.ca_cert}"]
        flags += [f"--cert={self.paths.client_cert}", f"--key={self.paths.client_key}"]
        return run([str(self.programs.etcdctl), *flags, *words], seconds=30, check=False)

    def ok(self, *words: str, node: str = "") -> str:
        """The same, which must succeed; what it said."""
        done = self.etcdctl(*words, node=node)
        assert done.ok, f"etcdctl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def enable_auth(self) -> None:
        """As etcd's guide does (W op-guide/authentication): a user root with the role root, then enable."""
        self.ok("user", "add", "root:secret")
        self.ok("user", "grant-role", "root", "root")
        self.ok("auth", "enable")

    def close(self) -> None:
        """End all members."""
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait()


@contextlib.contextmanager
def cluster(directory: Path, version: str = ETCD_DEFAULT, *names: str, **fields: object) -> Iterator[Members]:
    """A cluster with all members started and healthy."""
    made = Members(directory, version, *names, **fields)
    try:
        made.start()
        made.ready()
        yield made
    finally:
        made.close()


def main() -> None:
    """`python -m tests.etcd_cluster VERSION`: a cluster to try things on, until standard input ends."""
    directory = Path(f"/tmp/etcd-cluster-{os.getpid()}")  # noqa: S108 - for people
    try:
        with cluster(directory, *sys.argv[1:2]) as made:
            print(made.net, made.paths.dir, flush=True)  # noqa: T201
            sys.stdin.read()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
