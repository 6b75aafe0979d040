"""What should be on each node: files, binaries, units – rendered from the manifest and the PKI.

Pure: reads templates, touches nothing, asks no guest. The same inputs give the same bytes, so a
difference between two renderings is a difference that somebody made.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field

from infra.layout import BIN_DIR, CONFIG_FILE, DATA_DEVICE, DATA_DIR, DATA_TARGET, ENV_FILE, PKI_DIR, UNIT_DIR
from infra.manifest import CLIENT_PORT, METRICS_PORT, PEER_PORT, Manifest, Node

if TYPE_CHECKING:
    import jinja2

GENERATION_FILE: Final = "/etc/etcd/generation"
RUNNING_FILE: Final = "/run/etcd.generation"
DATA_SCRIPT: Final = "/usr/local/lib/etcd-lab/etcd-data"
STAMP_DIR: Final = "/usr/local/lib/etcd-lab"
"""Holds NAME.stamp for each program: the SHA-256 that was checked, and the file's identity then."""
TOOLS: Final = ("etcdctl", "etcdutl")
UNITS: Final = ("etcd-data.service", "etcd.service")
RUNNING: Final = "etcd.service, running process"
"""Key, in a desired state, of what the living process was started with."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NodePki(_Frozen):
    """Certificates of one node, PEM."""

    server_certificate: str
    server_key: str = Field(repr=False)
    peer_certificate: str
    peer_key: str = Field(repr=False)


class PkiBundle(_Frozen):
    """Certificates of a lab, PEM, with the keys that belong on nodes and host (not the authority's)."""

    ca_certificate: str
    client_certificate: str
    client_key: str = Field(repr=False)
    nodes: dict[str, NodePki]


class File(_Frozen):
    """A file on a node, owned by root."""

    path: str
    content: str = Field(repr=False)
    mode: int = 0o644
    restarts: bool = False
    """Whether etcd has to be restarted to take note of it."""

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hex."""
        return _sha256(self.content)


class NodePlan(_Frozen):
    """Everything that should be on one node."""

    node: str
    address: str
    files: tuple[File, ...]
    version: str
    """Which etcd: the label under which its binaries are known."""
    binaries: tuple[str, ...]
    """Names of the programs in BIN_DIR."""
    generation: str
    """Stands for all that a running etcd was started with: files and binary."""

    @property
    def state(self) -> dict[str, str]:
        """What a look at the node should find: path or unit to digest, version or unit state."""
        found = {file.path: file.digest for file in self.files}
        found |= {f"{BIN_DIR}/{name}": self.version for name in self.binaries}
        found |= dict.fromkeys(UNITS, "active, enabled")
        found[RUNNING] = self.generation
        return found


def render(manifest: Manifest, pki: PkiBundle, version: str | None = None) -> dict[str, NodePlan]:
    """Plans for all nodes, in the manifest's order; `version` labels the binaries where the manifest does not do."""
    label = version or f"etcd {manifest.etcd_version}"
    return {node.name: _plan(manifest, node, pki, label) for node in manifest.nodes}


def desired_state(manifest: Manifest, pki: PkiBundle, version: str | None = None) -> dict[str, dict[str, str]]:
    """What should be found on each node (see NodePlan.state)."""
    return {name: plan.state for name, plan in render(manifest, pki, version).items()}


def differences(desired: Mapping[str, Mapping[str, str]], seen: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Names of what is not as it should be, as `node: path`, with the states where they are words.

    >>> differences({"a": {"/x": "1" * 64}}, {"a": {"/x": "2" * 64}})
    ['a: /x']
    """
    found = []
    for node, wanted in desired.items():
        there = seen.get(node)
        if there is None:
            found.append(f"{node}: everything")
            continue
        for item, value in wanted.items():
            if there.get(item) != value:
                found.append(f"{node}: {item}{_words(there.get(item), value)}")
    return found


def _words(seen: str | None, wanted: str) -> str:
    if _is_digest(wanted):
        return "" if seen else " (missing)"
    if seen is None or _is_digest(seen):
        return f" (not {wanted})"
    return f" ({seen}, not {wanted})"


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _plan(manifest: Manifest, node: Node, pki: PkiBundle, version: str) -> NodePlan:
    names = {
        "node": node.name,
        "data_dir": DATA_DIR,
        "data_script": DATA_SCRIPT,
        "device": DATA_DEVICE,
        "target": DATA_TARGET,
        "label": DATA_TARGET,
        "config_file": CONFIG_FILE,
        "generation_file": GENERATION_FILE,
        "running_file": RUNNING_FILE,
        "env_file": ENV_FILE,
        "pki_dir": PKI_DIR,
    }
    own = pki.nodes[node.name]
    files = [
        File(path=CONFIG_FILE, content=etcd_file(etcd_settings(manifest, node)), restarts=True),
        File(path=f"{PKI_DIR}/ca.crt", content=pki.ca_certificate, restarts=True),
        File(path=f"{PKI_DIR}/server.crt", content=own.server_certificate, restarts=True),
        File(path=f"{PKI_DIR}/server.key", content=own.server_key, mode=0o600, restarts=True),
        File(path=f"{PKI_DIR}/peer.crt", content=own.peer_certificate, restarts=True),
        File(path=f"{PKI_DIR}/peer.key", content=own.peer_key, mode=0o600, restarts=True),
        File(path=f"{PKI_DIR}/client.crt", content=pki.client_certificate),
        File(path=f"{PKI_DIR}/client.key", content=pki.client_key, mode=0o600),
        File(path=f"{UNIT_DIR}/etcd.service", content=_template("etcd.service", **names), restarts=True),
        File(path=f"{UNIT_DIR}/etcd-data.service", content=_template("etcd-data.service", **names)),
        File(path=DATA_SCRIPT, content=_template("etcd-data.sh", **names), mode=0o755),
        File(path=ENV_FILE, content=_template("etcdctl.env", **names)),
        # For login shells, and for the commands that ssh runs (Debian's bash reads this one then).
        File(path="/etc/profile.d/etcdctl.sh", content=_template("profile.sh", **names)),
        File(path="/root/.bashrc", content=_template("profile.sh", **names)),
        File(path="/etc/hosts", content=_template("hosts", entries=_host_entries(manifest, node))),
    ]
    running = "".join(f"{file.path}={file.digest}\n" for file in files if file.restarts)
    generation = _sha256(f"{running}{version}\n")
    files.append(File(path=GENERATION_FILE, content=f"{generation}\n"))
    # etcdutl came with 3.5; in 3.4 etcdctl does its work.
    tools = TOOLS[:1] if manifest.etcd_version.startswith("3.4.") else TOOLS
    return NodePlan(
        node=node.name,
        address=str(node.address),
        files=tuple(files),
        version=version,
        binaries=("etcd", *tools),
        generation=generation,
    )


def etcd_settings(manifest: Manifest, node: Node) -> dict[str, object]:
    """etcd's configuration file for one node, as data; keys as in etcd's embed/config.go.

    `enable-grpc-gateway` is spelled out because 3.4 turns it off when it reads a configuration file,
    and `logger` because 3.4 does not write structured lines by default.
    """
    member = {peer.name: f"https://{_host(manifest, peer)}" for peer in manifest.nodes}
    own = str(node.address)
    settings: dict[str, object] = {
        "name": node.name,
        "data-dir": DATA_DIR,
        "listen-peer-urls": f"https://{own}:{PEER_PORT}",
        "listen-client-urls": f"https://{own}:{CLIENT_PORT},https://127.0.0.1:{CLIENT_PORT}",
        "listen-metrics-urls": f"http://{own}:{METRICS_PORT},http://127.0.0.1:{METRICS_PORT}",
        "initial-advertise-peer-urls": f"{member[node.name]}:{PEER_PORT}",
        "advertise-client-urls": f"{member[node.name]}:{CLIENT_PORT}",
        "initial-cluster": ",".join(f"{name}={url}:{PEER_PORT}" for name, url in member.items()),
        "initial-cluster-token": f"etcd-lab-{manifest.lab_id}",
        "initial-cluster-state": "new",
        "heartbeat-interval": manifest.timeouts.heartbeat_ms,
        "election-timeout": manifest.timeouts.election_ms,
        "client-transport-security": _security("server"),
        "peer-transport-security": _security("peer"),
        "enable-grpc-gateway": True,
        "log-outputs": ["stderr"],
        "log-level": "info",
    }
    if manifest.etcd_version.startswith("3.4."):
        settings["logger"] = "zap"
    return settings | dict(manifest.etcd_extra)


def etcd_file(settings: Mapping[str, object]) -> str:
    """etcd's configuration file with these settings, in ASCII: each value as JSON, which YAML reads as it is."""
    return _template("etcd.yaml", settings={key: _yaml(value) for key, value in settings.items()})


def _yaml(value: object) -> str:
    """JSON, but for two things: YAML takes no DEL as it is, and does not join the halves that JSON makes of what lies
    beyond Unicode's basic plane.
    """

    def whole(pair: re.Match[str]) -> str:
        return f"{pair[1]}\\U{ord(json.loads(chr(34) + pair[2] + chr(34))):08x}"

    high, low = r"\\ud[89ab][0-9a-f]{2}", r"\\ud[c-f][0-9a-f]{2}"
    text = json.dumps(value, sort_keys=True).replace("\x7f", r"\u007f")
    return re.sub(rf"(?<!\\)((?:\\\\)*)({high}{low})", whole, text)


def _security(role: str) -> dict[str, object]:
    return {
        "cert-file": f"{PKI_DIR}/{role}.crt",
        "key-file": f"{PKI_DIR}/{role}.key",
        "trusted-ca-file": f"{PKI_DIR}/ca.crt",
        "client-cert-auth": True,
    }


def _host(manifest: Manifest, peer: Node) -> str:
    return str(peer.address) if manifest.peers == "address" else peer.name


def _host_entries(manifest: Manifest, node: Node) -> list[tuple[str, str]]:
    """Lines of /etc/hosts: with DNS the node knows itself alone, so that names really come from there."""
    known = [node] if manifest.peers == "dns" else manifest.nodes
    return [(str(peer.address), peer.name) for peer in known]


def _template(name: str, **values: object) -> str:
    return _environment().get_template(f"{name}.j2").render(**values)


@cache
def _environment() -> jinja2.Environment:
    import jinja2  # noqa: PLC0415 - a command that renders nothing does not wait for it

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - these are configuration files, not HTML
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
