"""Which keys a version of etcd reads from its configuration file, found out from its program.

etcd ignores keys that it does not know (sigs.k8s.io/yaml, Unmarshal and not UnmarshalStrict), so a misspelt one is
silent. A key that it does know has a type, though, and no key's type is a list of lists: with that value etcd refuses
what it reads ("cannot unmarshal array into Go struct field … of type uint64") and says nothing of what it ignores. So
the very program tells, of any version and of a user's own, without a table that could be wrong.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from machine.process import run, write_private

if TYPE_CHECKING:
    from deploy.loopback import Bench

Path_ = tuple[str, ...]
"""A key, or a key within the mapping of another: ("socket-options", "reuse-port")."""

WRONG: Final[list[list[object]]] = [[]]
"""A value that is of no key's type."""
AT_ONCE: Final = 4
"""Starts of etcd at the same time; each takes some 50 ms of a processor."""
UNKNOWN: Final = "unknown"
"""Type of a key of which etcd's words do not say more, or that could not be asked about on this host."""

_TAG: Final = re.compile(rb'json:"([a-z][a-z0-9]*(?:-[a-z0-9]+)*)[",]')
"""Field tags, which every Go program keeps (package reflect); etcd's are its keys, others are names of other things."""
_FLAG: Final = re.compile(r"^\s+--([a-z][a-z0-9-]*)", re.MULTILINE)
_GATE: Final = re.compile(r"^\s+([A-Z]\w+)=true\|false", re.MULTILINE)
_PREFIX: Final = "experimental-"


class Keys:
    """The keys of one program; `base` are settings that it starts with, `note` a file that remembers its answers."""

    def __init__(self, bench: Bench, program: Path, base: Mapping[str, object], note: Path | None = None) -> None:
        self._bench = bench
        self._program = program
        self._base = base
        self._note = note
        self._help: str | None = None
        self._known: dict[str, str | None] = {}
        if note is not None:
            with contextlib.suppress(OSError, ValueError):
                self._known = json.loads(note.read_text())

    def type_of(self, path: Path_) -> str | None:
        """Go's name of the type of a key (`uint64`, `time.Duration`), or None when etcd does not read it."""
        value: object = WRONG
        for name in reversed(path[1:]):
            value = {name: value}
        outcome = self._bench.start(self._program, self._base, instead={path[0]: value}, call=False)
        if outcome.verdict == "unclear":
            return UNKNOWN
        if outcome.verdict == "serves" or "unmarshal" not in outcome.words:
            return None
        found = re.search(r"of type (\S+)$", outcome.words)
        return found[1] if found else UNKNOWN

    def types_of(self, paths: list[Path_]) -> dict[Path_, str | None]:
        """The same of many, each asked about once."""
        names = {path: ".".join(path) for path in paths}
        asked = [path for path in paths if names[path] not in self._known]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = dict(zip(asked, pool.map(self.type_of, asked), strict=True))
        sure = {names[path]: kind for path, kind in found.items() if kind != UNKNOWN}
        if sure:
            self._known |= sure
            if self._note is not None:
                with contextlib.suppress(OSError):
                    write_private(self._note, json.dumps(self._known))
        return {path: found[path] if path in found else self._known[names[path]] for path in paths}

    def is_flag(self, name: str) -> bool:
        """Whether it is one for the command line."""
        return name in _FLAG.findall(self._usage())

    def meant(self, path: Path_) -> str:
        """What may have been meant by a key that etcd does not read, as the user would write it; "" for no idea."""
        bare = path[-1].removeprefix(_PREFIX)
        gate = _plain(bare)
        if len(path) == 1:
            for name in _GATE.findall(self._usage()):
                if name.lower() in (gate, gate.removesuffix("enabled"), gate.removeprefix("enable")):
                    return f"feature-gates: {name}=true"
        tags = set(self._tags())
        twins = [name for name in (bare, _PREFIX + bare) if name in tags and name != path[-1]]
        near = difflib.get_close_matches(path[-1], tags - {path[-1]}, n=4, cutoff=0.7)
        near += difflib.get_close_matches(bare, tags - {path[-1], *near}, n=2, cutoff=0.7)
        candidates = [(*path[:-1], name) for name in dict.fromkeys([*twins, *near])]
        found = self.types_of(candidates)
        return next((".".join(one) for one in candidates if found[one] is not None), "")

    def _tags(self) -> Iterator[str]:
        return (found.decode() for found in set(_TAG.findall(self._program.read_bytes())))

    def _usage(self) -> str:
        if self._help is None:
            said = run([str(self._program), "--help"], seconds=10, check=False)
            self._help = said.stdout + said.stderr
        return self._help


def paths_in(settings: Mapping[str, object], above: Path_ = ()) -> list[Path_]:
    """Every key of `settings`, also of the mappings in it.

    >>> paths_in({"a": 1, "b": {"c": [2]}})
    [('a',), ('b',), ('b', 'c')]
    """
    found: list[Path_] = []
    for name, value in settings.items():
        found.append((*above, name))
        if isinstance(value, Mapping):
            found += paths_in(value, (*above, name))
    return found


def _plain(key: str) -> str:
    """`initial-corrupt-check` -> `initialcorruptcheck`, which is a feature gate's name in lower case."""
    return key.replace("-", "")
