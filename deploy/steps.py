"""From what should be and what is seen on a node to what is to be done there. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from deploy.plan import BIN_DIR, RUNNING, RUNNING_FILE, UNIT_DIR, UNITS, File, NodePlan

UNSEEN = "absent"


@dataclass(frozen=True, slots=True)
class Observed:
    """What a look at one node found."""

    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by path, of the files that exist."""
    active: Mapping[str, str] = field(default_factory=dict)
    """systemd's ActiveState by unit."""
    enabled: Mapping[str, str] = field(default_factory=dict)
    """systemd's UnitFileState by unit."""
    reload: bool = False
    """Whether unit files changed behind systemd's back."""
    generation: str = ""
    """What the running etcd was started with (content of RUNNING_FILE)."""

    def state(self, plan: NodePlan, binaries: Mapping[str, str]) -> dict[str, str]:
        """The same in the terms of NodePlan.state; `binaries` gives the SHA-256 that the plan's version has."""
        found: dict[str, str] = {}
        for file in plan.files:
            if file.path in self.digests:
                found[file.path] = self.digests[file.path]
        for name in plan.binaries:
            digest = self.digests.get(f"{BIN_DIR}/{name}")
            if digest is not None:
                found[f"{BIN_DIR}/{name}"] = plan.version if digest == binaries.get(name) else digest
        for unit in UNITS:
            found[unit] = f"{self.active.get(unit, UNSEEN)}, {self.enabled.get(unit) or UNSEEN}"
        if self.active.get("etcd.service") == "active":
            found[RUNNING] = self.generation
        return found


@dataclass(frozen=True, slots=True)
class Steps:
    """What is to be done on one node; empty when it is as it should be."""

    files: tuple[File, ...] = ()
    binaries: tuple[str, ...] = ()
    enable: bool = False
    reload: bool = False
    start: Literal["", "start", "restart"] = ""
    """How to bring up an etcd that does not run well: at once, in parallel with the others."""
    roll: bool = False
    """Whether an etcd that runs has to be restarted, in its turn."""


def steps_for(plan: NodePlan, seen: Observed, binaries: Mapping[str, str]) -> Steps:
    """What brings the node from `seen` to `plan`; `binaries` is SHA-256 by name."""
    files = tuple(file for file in plan.files if seen.digests.get(file.path) != file.digest)
    missing = tuple(name for name in plan.binaries if seen.digests.get(f"{BIN_DIR}/{name}") != binaries[name])
    stale = seen.generation != plan.generation or "etcd" in missing or any(file.restarts for file in files)
    active = seen.active.get("etcd.service") == "active"
    start: Literal["", "start", "restart"] = ""
    if not active:
        start = "restart" if stale else "start"
    return Steps(
        files=files,
        binaries=missing,
        enable=any(seen.enabled.get(unit) != "enabled" for unit in UNITS),
        reload=seen.reload or any(file.path.startswith(UNIT_DIR) for file in files),
        start=start,
        roll=active and stale,
    )


def look_command(paths: Sequence[str]) -> str:
    """One shell command that finds out all that Observed holds; the paths need no quoting (they are ours)."""
    return (
        f"sha256sum {' '.join(paths)} 2>/dev/null; "
        f"echo generation=$(cat {RUNNING_FILE} 2>/dev/null); "
        f"systemctl show --property=Id,ActiveState,UnitFileState,NeedDaemonReload {' '.join(UNITS)}"
    )


def parse_look(lines: Sequence[str]) -> Observed:
    """Read the output of `look_command`."""
    digests: dict[str, str] = {}
    units: dict[str, dict[str, str]] = {}
    block: dict[str, str] = {}
    generation = ""
    for line in lines:
        key, equals, value = line.partition("=")
        if key == "generation" and equals:
            generation = value.strip()
        elif equals:
            if key in block:  # systemctl parts units by an empty line, which a transport may swallow
                block = {}
            block[key] = value.strip()
            if "Id" in block:
                units[block["Id"]] = block
        elif not line.strip():
            block = {}
        else:
            digest, _, path = line.partition("  ")
            digests[path.strip()] = digest
    return Observed(
        digests=digests,
        active={unit: values.get("ActiveState", "") for unit, values in units.items()},
        enabled={unit: values.get("UnitFileState", "") for unit, values in units.items()},
        reload=any(values.get("NeedDaemonReload") == "yes" for values in units.values()),
        generation=generation,
    )
