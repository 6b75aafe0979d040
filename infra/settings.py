"""The lab's settings, from Pulumi config: checked once, whole, before anything is made.

Every error names the full key, the value, the reason and the remedy. Where Pulumi.yaml needs a
default for a key that has none, "" (or 0, or []) means "automatic".
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from infra import extra_settings
from infra.manifest import Timeouts
from machine.errors import SettingsError
from machine.versions import ETCD_DEFAULT, ETCD_SUPPORTED

NAMESPACE: Final = "etcd-lab"
"""Config namespace: keys are `etcd-lab:nodes` and so on."""

Accelerator = Literal["kvm", "tcg"]

MAX_NODES: Final = 9
DATA_MIB: Final = 2048
"""Size of a node's data volume; sparse, and as much as etcd's default quota."""
MAX_ELECTION_MS: Final = 50_000
"""etcd refuses more (server/embed/config.go, maxElectionMs)."""
ELECTION_PER_HEARTBEAT: Final = 5
"""etcd refuses an election timeout below so many heartbeats (server/embed/config.go, Validate)."""
_USUAL_ELECTION_PER_HEARTBEAT: Final = 10
"""Ratio of etcd's own defaults, 1000 ms to 100 ms; used when only one of the two is given."""
DEFAULT_TIMEOUTS: Final[Mapping[str, Timeouts]] = {
    "kvm": Timeouts(heartbeat_ms=100, election_ms=1000),  # etcd's own
    "tcg": Timeouts(heartbeat_ms=300, election_ms=3000),  # an emulated processor needs more room
}
AUTO: Final = -1
"""`auto`: chosen by measurement (infra.raft_timing), where neither of the two is a number."""
_FIRST_NODE: Final = 11
"""Nodes start at .11 where the subnet has room, so that low addresses stay free."""

_RFC1918: Final = tuple(IPv4Network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?")
RESERVED: Final = frozenset({"all", "follower", "host", "leader", "localhost", "majority", "minority"})
"""No names of nodes: faults aim by these words, and `host` is the lab's own host in rules and proofs."""
_VERSION: Final = re.compile(r"(\d+\.\d+)\.\d+")

_REMEDY: Final[Mapping[str, str]] = {
    "nodes": "Give a whole number from 1 to 9; 3 is usual.",
    "names": "Give as many different names as there are nodes, each of 1 to 31 lower-case letters, digits or inner "
    "hyphens, and none a word by which faults aim (leader, all, host and the like).",
    "memory": "Give MiB as a whole number from 256 to 65536; 512 is usual.",
    "vcpus": "Give a whole number from 1 to 16.",
    "subnet": "Give a private IPv4 network such as 192.168.93.0/24.",
    "etcd-version": f"Give a release such as {ETCD_DEFAULT} (of {', '.join(ETCD_SUPPORTED)}), or the absolute path of "
    "a directory with etcd and etcdctl (and etcdutl from 3.5 on).",
    "heartbeat-ms": "Give milliseconds from 1 to 10000, 0 for the accelerator's default, or auto to have it measured.",
    "election-ms": "Give milliseconds, at least five heartbeats and at most 50000, 0 for the accelerator's default, or "
    "auto to have it measured.",
    "peers": "Give address, hosts or dns.",
    "etcd-extra": "Give settings as etcd's config file spells them, each a text, number or truth value, or a "
    "list or mapping of those.",
    "image": "Give build, the path of a qcow2 file, or an https:// address together with etcd-lab:image-sha256.",
    "image-sha256": "Give the 64 hexadecimal digits of the image's SHA-256.",
    "hypervisor": "Give auto, embedded, or a libvirt URI of this machine such as qemu:///system.",
}


def _bad(reason: str, key: str = "") -> PydanticCustomError:
    """An error about `key`, or about the field being checked."""
    return PydanticCustomError("lab", "{reason}", {"reason": reason, "key": key})


def _whole(value: object) -> object:
    typed = isinstance(value, int | str) and not isinstance(value, bool)
    if not typed or not re.fullmatch(r"-?\d{1,9}", str(value).strip()):
        raise _bad("is no whole number")
    return int(str(value))


def _milliseconds(value: object) -> object:
    if isinstance(value, str) and value.strip() == "auto":
        return AUTO
    number = _whole(value)
    if isinstance(number, int) and number < 0:
        raise _bad("is below 0")
    return number


def _structure(value: object) -> object:
    if isinstance(value, str):
        try:
            return json.loads(value) if value.strip() else None
        except ValueError:
            raise _bad("is not JSON") from None
    return value


def _names(value: object) -> object:
    names = _structure(value) or []
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise _bad("is no list of names")
    for name in names:
        if not _NAME.fullmatch(name):
            raise _bad(f"holds {name!r}, which is no host name (RFC 1123 label)")
        if name in RESERVED or name.isdigit():
            raise _bad(f"holds {name!r}, which would be taken for something else")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _bad(f"holds {twice!r} more than once")
    return tuple(names)


def _subnet(value: object) -> object:
    try:
        network = IPv4Network(str(value))
    except ValueError as error:
        raise _bad(f"is no IPv4 network ({error})") from None
    if not any(network.subnet_of(private) for private in _RFC1918):
        raise _bad("is not a private network (RFC 1918)")
    return network


def _etcd_version(value: object) -> object:
    text = str(value).strip()
    if text.startswith("/"):
        missing = [name for name in ("etcd", "etcdctl") if not os.access(Path(text) / name, os.X_OK)]
        if missing:
            raise _bad(f"is a directory without the program {missing[0]}")
        return text
    text = text.removeprefix("v")
    found = _VERSION.fullmatch(text)
    if not found:
        raise _bad("is no release number")
    if found[1] not in ETCD_SUPPORTED:
        raise _bad(f"is a release whose rules the lab does not know (it knows {', '.join(ETCD_SUPPORTED)})")
    return text


def _extra(value: object) -> object:
    extra = _structure(value) or {}
    if not isinstance(extra, Mapping):
        raise _bad("is no mapping of settings")
    if reason := extra_settings.against(extra):
        raise _bad(reason)
    return dict(extra)


def _image(value: object) -> object:
    text = str(value).strip() or "build"
    if text == "build" or text.startswith(("https://", "http://")):
        return text
    if not Path(text).expanduser().is_file():
        raise _bad("is neither build, nor an address, nor a file that exists")
    return str(Path(text).expanduser().resolve())


def _sha256(value: object) -> object:
    if value in ("", None):
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", str(value)):
        raise _bad("is no SHA-256 checksum")
    return str(value).lower()


def _hypervisor(value: object) -> object:
    text = str(value).strip() or "auto"
    if text in ("auto", "embedded"):
        return text
    uri = urlsplit(text)
    if uri.hostname or ("+" in uri.scheme and not uri.scheme.endswith("+unix")):
        raise _bad("is a remote hypervisor, and those are not supported yet")
    if uri.scheme not in ("qemu", "qemu+unix"):
        raise _bad("is no libvirt URI of a QEMU hypervisor")
    if uri.path != "/system":
        raise _bad("is not the system instance, and only that one can make networks")
    return text


class LabSettings(BaseModel):
    """What a lab shall be. Frozen; made by `from_config`, `from_stack_file` or `from_mapping`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-"), validate_default=True
    )

    nodes: Annotated[int, BeforeValidator(_whole), Field(ge=1, le=MAX_NODES)] = 3
    names: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    memory: Annotated[int, BeforeValidator(_whole), Field(ge=256, le=65536)] = 512
    """MiB per node."""
    vcpus: Annotated[int, BeforeValidator(_whole), Field(ge=1, le=16)] = 1
    subnet: Annotated[IPv4Network, BeforeValidator(_subnet)] = IPv4Network("192.168.93.0/24")
    etcd_version: Annotated[str, BeforeValidator(_etcd_version)] = ETCD_DEFAULT
    """A release, or the directory of the programs."""
    heartbeat_ms: Annotated[
        int, BeforeValidator(_milliseconds), Field(le=MAX_ELECTION_MS // ELECTION_PER_HEARTBEAT)
    ] = 0
    """0: by accelerator; AUTO: measured."""
    election_ms: Annotated[int, BeforeValidator(_milliseconds), Field(le=MAX_ELECTION_MS)] = 0
    """0: by accelerator; AUTO: measured."""
    peers: Literal["address", "hosts", "dns"] = "address"
    etcd_extra: Annotated[dict[str, JsonValue], BeforeValidator(_extra)] = Field(default_factory=dict)
    image: Annotated[str, BeforeValidator(_image)] = "build"
    image_sha256: Annotated[str | None, BeforeValidator(_sha256)] = None
    hypervisor: Annotated[str, BeforeValidator(_hypervisor)] = "auto"

    @model_validator(mode="after")
    def _together(self) -> LabSettings:
        if self.names and len(self.names) != self.nodes:
            raise _bad(f"has {len(self.names)} names for {self.nodes} nodes", "names")
        if self.subnet.num_addresses - 3 < self.nodes:  # network, broadcast, and the host's own
            raise _bad(f"is too small for {self.nodes} nodes and the host", "subnet")
        if self.image.startswith(("http://", "https://")) and self.image_sha256 is None:
            raise _bad("is missing, and an image is not downloaded unchecked", "image-sha256")
        accelerators: tuple[Accelerator, ...] = ("kvm", "tcg")
        for chosen in map(self.timeouts, accelerators):
            if chosen.election_ms < ELECTION_PER_HEARTBEAT * chosen.heartbeat_ms:
                raise _bad(
                    f"is below five heartbeats of {chosen.heartbeat_ms} ms, and etcd does not start so", "election-ms"
                )
            if chosen.election_ms > MAX_ELECTION_MS:
                raise _bad(
                    f"makes an election timeout of {chosen.election_ms} ms, and etcd allows 50000", "heartbeat-ms"
                )
        return self

    @property
    def node_names(self) -> tuple[str, ...]:
        """Names of the nodes in order; etcd1, etcd2, … unless configured."""
        return self.names or tuple(f"etcd{number}" for number in range(1, self.nodes + 1))

    @property
    def gateway(self) -> IPv4Address:
        """The host's own address on the lab's network: the first (libvirt provider, getNetworkIPConfig)."""
        return self.subnet[1]

    @property
    def addresses(self) -> tuple[IPv4Address, ...]:
        """Static addresses of the nodes, in order."""
        roomy = self.subnet.num_addresses >= 32
        first = _FIRST_NODE if roomy else 2
        return tuple(self.subnet[first + index] for index in range(self.nodes))

    @property
    def kind(self) -> Literal["embedded", "system"]:
        """Which hypervisor: the configured one; else, for root, the embedded one; else the user's system."""
        if self.hypervisor == "auto":
            return "embedded" if os.geteuid() == 0 else "system"
        return "embedded" if self.hypervisor == "embedded" else "system"

    @property
    def system_uri(self) -> str:
        """URI of the system's libvirt, where that is used."""
        return "qemu:///system" if self.hypervisor in ("auto", "embedded") else self.hypervisor

    @property
    def measures_timeouts(self) -> bool:
        """Whether raft timing is to be measured: `auto` for one of the two, and a number for neither."""
        return AUTO in (self.heartbeat_ms, self.election_ms) and max(self.heartbeat_ms, self.election_ms) <= 0

    def timeouts(self, accelerator: Accelerator) -> Timeouts:
        """Raft timing as configured, else by accelerator; one alone brings the other in etcd's usual ratio of 10."""
        heartbeat, election = max(0, self.heartbeat_ms), max(0, self.election_ms)
        if not heartbeat and not election:
            return DEFAULT_TIMEOUTS[accelerator]
        return Timeouts(
            heartbeat_ms=heartbeat or max(1, election // _USUAL_ELECTION_PER_HEARTBEAT),
            election_ms=election or heartbeat * _USUAL_ELECTION_PER_HEARTBEAT,
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed, and yet worth a word."""
        found = []
        if self.nodes % 2 == 0:
            fewer = self.nodes - 1
            text = f"an even number of members survives no more failures than {fewer} would ({fewer // 2})"
            found.append(f"{NAMESPACE}:nodes is {self.nodes}: {text}, and needs one more for its quorum.")
        quota = self.etcd_extra.get("quota-backend-bytes")
        if isinstance(quota, int) and (quota < 0 or quota > DATA_MIB << 20):
            size = "is unlimited" if quota < 0 else f"is {quota >> 20} MiB"
            found.append(
                f"{NAMESPACE}:etcd-extra: quota-backend-bytes {size}, and a node's data volume has {DATA_MIB} MiB: "
                "it is full before etcd raises the alarm NOSPACE."
            )
        return tuple(found)


def key_name(field: str) -> str:
    """Full config key of a field: `heartbeat_ms` -> `etcd-lab:heartbeat-ms`."""
    return f"{NAMESPACE}:{field.replace('_', '-')}"


def from_mapping(values: Mapping[str, object], *, where: str = "") -> LabSettings:
    """Settings from keys without namespace (`nodes`, `etcd-version`) to values, native or as Pulumi's text.

    Raises SettingsError about the first thing that is wrong; `where` names the file in it.
    """
    for key in values:
        if key not in _REMEDY:
            near = difflib.get_close_matches(key, _REMEDY, n=1)
            meant = f"Did you mean {key_name(near[0])}?" if near else f"The keys are {', '.join(_REMEDY)}."
            raise SettingsError(f"{key_name(key)} is no setting of the lab", where=where, next=meant)
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return LabSettings.model_validate(given)
    except ValidationError as error:
        raise _settings_error(error, given, where) from None


def _settings_error(error: ValidationError, given: Mapping[str, object], where: str) -> SettingsError:
    first = error.errors()[0]
    context = first.get("ctx", {})
    key = str(context.get("key") or first["loc"][0])
    reasons = {
        "greater_than_equal": f"is below {context.get('ge')}",
        "less_than_equal": f"is above {context.get('le')}",
        "literal_error": "is none of the choices",
    }
    reason = str(context.get("reason") or reasons.get(first["type"]) or first["msg"])
    value = f" = {given[key]!r}" if key in given else ""
    return SettingsError(f"{key_name(key)}{value} {reason}", where=where, next=_REMEDY[key])


def from_config() -> LabSettings:
    """Settings from the config of the Pulumi program that runs; raises SettingsError."""
    import pulumi  # noqa: PLC0415 - preflight by the CLI reads settings without the engine's SDK
    from pulumi.runtime.config import CONFIG, get_config_env  # noqa: PLC0415

    prefix = f"{NAMESPACE}:"
    everything = {**get_config_env(), **CONFIG.get()}
    own = {key.removeprefix(prefix): value for key, value in everything.items() if key.startswith(prefix)}
    return from_mapping(own, where=f"stack {pulumi.get_stack()}")


def from_stack_file(path: Path) -> LabSettings:
    """Settings from `Pulumi.<stack>.yaml`, without the engine; a file that does not exist has no values.

    Raises SettingsError, also when the file is no YAML. Encrypted values are refused: no setting is secret.
    """
    import yaml  # noqa: PLC0415 - only needed here

    try:
        document = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        document = {}
    except yaml.YAMLError as error:
        raise SettingsError(f"The config is no YAML: {error}", where=str(path), next="Mend the file.") from error
    config = document.get("config") or {} if isinstance(document, dict) else {}
    prefix = f"{NAMESPACE}:"
    own = {key.removeprefix(prefix): value for key, value in config.items() if str(key).startswith(prefix)}
    for key, value in own.items():
        if isinstance(value, dict) and set(value) == {"secure"}:
            problem = f"{key_name(key)} is encrypted, and no setting is a secret"
            raise SettingsError(problem, where=str(path), next="Set it without --secret.")
    return from_mapping(own, where=path.name)
