"""A lab's etcd settings, tried before anything is touched: with the very program, on this host's loopback.

The file that a node would get is given to the program that it would get, with the node's own addresses, directory and
certificates replaced (deploy.loopback), and every key of `etcd-extra` is held against those that the program reads
(deploy.config_keys). What passed is kept in the cache by the digests of file and program, so that a lab in which
nothing changed costs nothing, and another value of a known key a single start.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.config_keys import Keys, Path_, paths_in
from deploy.plan import etcd_settings
from infra.manifest import Hypervisor, Manifest, Node, Timeouts
from machine.errors import SettingsError
from machine.etcd_binaries import EtcdBinaries
from machine.log import Say
from machine.paths import cache_dir
from machine.process import write_private

if TYPE_CHECKING:
    from deploy.loopback import Bench, Outcome

EXTRA: Final = "etcd-lab:etcd-extra"
VERSION: Final = "etcd-lab:etcd-version"

_RULES: Final = 1
"""Of this module: another number asks again about all that passed."""
_KEPT: Final = 200
"""Notes in the cache; each is a few bytes."""
_SHORT_NS: Final = 1_000_000
"""etcd's file takes durations as nanoseconds. One under a millisecond was meant in other units."""

_UNCHECKED: Final[Mapping[str, tuple[str, ...]]] = {
    "metrics": ("basic", "extensive"),  # E server/embed/etcd.go: anything else is basic
    "backend-bbolt-freelist-type": ("array", "map"),  # E server/embed/etcd.go, parseBackendFreelistType
    "experimental-backend-bbolt-freelist-type": ("array", "map"),
}
"""Choices that etcd does not check: it takes another value for its default, without a word."""


@dataclass(frozen=True, slots=True)
class Passed:
    """Settings that etcd takes."""

    warnings: tuple[str, ...] = ()
    """What it takes and may not be meant."""
    tried: bool = False
    """Whether etcd was started for it; else it was known."""


@dataclass(slots=True)
class _Findings:
    refused: list[tuple[str, str]] = field(default_factory=list)
    """What is wrong, and what to do."""
    warnings: list[str] = field(default_factory=list)

    def error(self, version: str, where: str) -> SettingsError:
        """All of it in one paragraph."""
        if len(self.refused) == 1:
            ((wrong, remedy),) = self.refused
            return SettingsError(f"{EXTRA}: etcd {version} {wrong}", where=where, next=remedy)
        words = "; ".join(f"{wrong} ({remedy.rstrip('.')})" for wrong, remedy in self.refused)
        return SettingsError(f"{EXTRA}: etcd {version} {words}", where=where)


def check(binaries: EtcdBinaries, extra: Mapping[str, object], say: Say, *, where: str = "") -> Passed:
    """Whether the etcd of `binaries` takes the lab's settings together with `extra`, and reads all of those.

    Raises SettingsError about `etcd-extra` with each key that is refused or ignored, its value, and etcd's own words;
    about `etcd-version` when that etcd does not even take the lab's own settings. When it cannot be tried on this host
    (a full disk, a program that does not end) that is said, and the nodes will tell.
    """
    settings = _settings(binaries.version, extra)
    note = _note(binaries, settings)
    with contextlib.suppress(OSError, ValueError):
        return Passed(tuple(json.loads(note.read_text())))
    from deploy.loopback import bench  # noqa: PLC0415 - not where nothing is to be tried

    started = time.monotonic()
    try:
        with bench() as place:
            findings, unclear = _Trial(place, binaries, extra).run()
    except OSError as error:
        findings, unclear = _Findings(), f"{error.strerror or error}"
    if findings.refused:
        raise findings.error(binaries.version, where)
    if unclear:
        say(f"The settings of etcd {binaries.version} could not be tried on this host: {unclear}. The nodes will tell.")
        return Passed(tuple(findings.warnings), tried=True)
    say(f"etcd {binaries.version} takes the settings: tried in {time.monotonic() - started:.1f} s")
    with contextlib.suppress(OSError):
        write_private(note, json.dumps(findings.warnings))
        _prune(note.parent)
    return Passed(tuple(findings.warnings), tried=True)


class _Trial:
    """The trial of one `etcd-extra` with one program."""

    def __init__(self, place: Bench, binaries: EtcdBinaries, extra: Mapping[str, object]) -> None:
        self._bench = place
        self._program = binaries.etcd
        self._version = binaries.version
        self._extra = dict(extra)
        self._base = _settings(binaries.version, {})
        note = cache_dir() / "trials" / "keys" / f"{binaries.sha256['etcd'][:32]}.json"
        self._keys = Keys(place, binaries.etcd, self._base, note)
        self._findings = _Findings()

    def run(self) -> tuple[_Findings, str]:
        """What was found, and why nothing could be ("" as a rule)."""
        paths = paths_in(self._extra)
        with ThreadPoolExecutor(1) as pool:
            whole = pool.submit(self._start, self._extra)
            types = self._keys.types_of(paths)
            outcome = whole.result()
        unread = [path for path in paths if types[path] is None]
        # within a mapping that is not read, nothing is
        for path in [one for one in unread if one[:-1] not in unread]:
            self._ignored(path)
        self._odd(types)
        return self._findings, self._refused(outcome)

    def _start(self, extra: Mapping[str, object]) -> Outcome:
        return self._bench.start(self._program, _settings(self._version, extra))

    def _refused(self, outcome: Outcome) -> str:
        """Find who is to blame, one after the other, until etcd starts; gives the reason when that cannot be said."""
        left = dict(self._extra)
        while outcome.verdict == "refused":
            without = {
                key: self._start({k: v for k, v in left.items() if k != key}) for key in self._suspects(left, outcome)
            }
            blamed = [key for key, other in without.items() if _last(other) != _last(outcome)]
            if not blamed:
                if not left:
                    raise SettingsError(
                        f"{VERSION}: etcd {self._version} refuses the lab's own settings: {_quoted(outcome)}",
                        where=str(self._program),
                        next="Give a release of etcd, or a directory whose programs are built from one.",
                    )
                blamed = list(left)
            together = " with ".join(_shown(key, left[key]) for key in blamed)
            remedy = _remedy(left[blamed[0]], outcome.words)
            self._findings.refused.append((f"refuses {together}: {_quoted(outcome)}", remedy))
            left = {key: value for key, value in left.items() if key not in blamed}
            outcome = without[blamed[0]] if len(blamed) == 1 else self._start(left)
        return outcome.words if outcome.verdict == "unclear" else ""

    @staticmethod
    def _suspects(left: Mapping[str, object], outcome: Outcome) -> list[str]:
        """Keys that may be to blame: the one that etcd names, as a field; else each."""
        named = re.search(r"Go struct field \S*?\.([a-z][a-z0-9-]*)(?:\.\S+)? of type", outcome.words)
        return [named[1]] if named and named[1] in left else list(left)

    def _ignored(self, path: Path_) -> None:
        name = ".".join(path)
        value: object = self._extra
        for part in path:
            value = value[part] if isinstance(value, Mapping) else None
        meant = self._keys.meant(path)
        flag = len(path) == 1 and self._keys.is_flag(path[0])
        why = "is a flag only, and etcd reads no flags beside a file" if flag else "is no key of its configuration file"
        remedy = f"Did you mean {meant}?" if meant else "Leave it out."
        self._findings.refused.append((f"ignores {_shown(name, value)}, which {why}", remedy))

    def _odd(self, types: Mapping[Path_, str | None]) -> None:
        """What etcd takes without a word and does not do, or not as it was meant."""
        for key, choices in _UNCHECKED.items():
            value = self._extra.get(key)
            if types.get((key,)) == "string" and isinstance(value, str) and value and value not in choices:
                wrong = f"ignores {_shown(key, value)}, which is none of its choices"
                self._findings.refused.append((wrong, f"Give {' or '.join(choices)}."))
        for (key, *deeper), kind in types.items():
            value = self._extra[key]
            if not deeper and kind == "time.Duration" and isinstance(value, int | float) and 0 < value < _SHORT_NS:
                self._findings.warnings.append(
                    f"{EXTRA} has {_shown(key, value)}, and etcd's file takes nanoseconds: 1 s is 1000000000."
                )


def _settings(version: str, extra: Mapping[str, object]) -> dict[str, object]:
    """What a node's file holds, for a lab of one node that exists on paper."""
    loopback = IPv4Address("127.0.0.1")
    node = Node(name="trial", address=loopback, mac="52:54:00:00:00:01", domain="trial", memory_mib=0, vcpus=1)
    lab = Manifest(
        lab_id="00000000",
        stack="trial",
        nodes=(node,),
        subnet=IPv4Network("127.0.0.0/8"),
        gateway=loopback,
        hypervisor=Hypervisor(kind="embedded", uri="", netns=None, bridge="", accelerator="tcg"),
        etcd_version=version,
        timeouts=Timeouts(heartbeat_ms=100, election_ms=1000),
        peers="address",
    )
    return etcd_settings(lab, node) | dict(extra)


def _note(binaries: EtcdBinaries, settings: Mapping[str, object]) -> Path:
    text = f"{_RULES}\n{binaries.sha256['etcd']}\n{json.dumps(settings, sort_keys=True)}"
    return cache_dir() / "trials" / "passed" / hashlib.sha256(text.encode()).hexdigest()[:32]


def _prune(directory: Path) -> None:
    notes = sorted(directory.iterdir(), key=lambda note: note.stat().st_mtime)
    for note in notes[:-_KEPT]:
        note.unlink(missing_ok=True)


def _shown(key: str, value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"{key} = {text if len(text) <= 80 else text[:77] + '...'}"


def _last(outcome: Outcome) -> str:
    """What it ended of, without what led there."""
    return outcome.words.rpartition("; ")[2]


def _quoted(outcome: Outcome) -> str:
    return f"“{outcome.words}”"


def _remedy(value: object, words: str) -> str:
    """What to do about a value that etcd refuses, by its own words."""
    if "into Go struct field" not in words:
        return "Give a value that etcd takes, or leave the setting out."
    kind = words.rpartition(" of type ")[2]
    remedy = "Give a value of the type that etcd names."
    if kind == "time.Duration":
        remedy = f"etcd's file takes durations as nanoseconds, without a unit{_nanoseconds(str(value))}."
    elif kind == "string" and isinstance(value, bool | int | float):
        text = json.dumps(str(value).lower())
        remedy = f"Write it as a text: {text} in the stack's file, or pulumi config set --type string."
    elif isinstance(value, str) and re.fullmatch(r"u?int\d*", kind):
        remedy = "Give a whole number, without quotes and units."
    elif kind == "bool":
        remedy = "Give true or false, without quotes."
    elif kind == "[]string":
        remedy = (
            f"Give a list of texts: {json.dumps([value] if isinstance(value, str) else ['…'], ensure_ascii=False)}."
        )
    return remedy


def _nanoseconds(text: str) -> str:
    """` (5s is 5000000000)` for a duration as Go writes it (time.ParseDuration), else nothing."""
    units = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", text)
    if not parts or "".join(map("".join, parts)) != text:
        return ""
    return f" ({text} is {sum(round(float(number) * units[unit]) for number, unit in parts)})"
