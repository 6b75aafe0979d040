"""From what should be and what is seen on a node to what is to be done there. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from deploy.plan import GENERATION_FILE, RUNNING, RUNNING_FILE, STAMP_DIR, UNITS, File, NodePlan
from infra.layout import BIN_DIR, UNIT_DIR

STAGE_DIR = f"{STAMP_DIR}/staged"
"""Where programs wait, fetched and checked, until it is their node's turn. Nothing runs from there."""
LOCK_FILE = "/run/etcd-lab.lock"
"""Held by the script that changes the node; holds the number of its process group."""
CLAIM_SECONDS = 30

UNSEEN = "absent"
ALTERED = "altered since it was installed"
"""Stands for the digest of a program that is not the file we checked."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a look at one node found."""

    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by path, of the files that exist; ALTERED for programs that somebody touched."""
    active: Mapping[str, str] = field(default_factory=dict)
    """systemd's ActiveState by unit."""
    enabled: Mapping[str, str] = field(default_factory=dict)
    """systemd's UnitFileState by unit."""
    loaded: frozenset[str] = frozenset()
    """Units that systemd has read; one that it has not is read when it is started."""
    reload: bool = False
    """Whether unit files changed behind systemd's back."""
    generation: str = ""
    """What the running etcd was started with (content of RUNNING_FILE)."""
    staged: bool = False
    """Whether programs still wait that a deployment fetched which went no further."""

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
    enable: tuple[str, ...] = ()
    reload: bool = False
    forget: bool = False
    """Whether the note of what etcd was started with is not to be believed, should we die before the restart."""
    start: Literal["", "start", "restart"] = ""
    """How to bring up an etcd that does not run well: at once, in parallel with the others."""
    roll: bool = False
    """Whether an etcd that runs has to be restarted: nothing is put in place before the node's turn then."""
    clear: bool = False
    """Whether programs that an earlier deployment fetched are to go."""


def steps_for(plan: NodePlan, seen: Observed, binaries: Mapping[str, str]) -> Steps:
    """What brings the node from `seen` to `plan`; `binaries` is SHA-256 by name."""
    files = tuple(file for file in plan.files if seen.digests.get(file.path) != file.digest)
    missing = tuple(name for name in plan.binaries if seen.digests.get(f"{BIN_DIR}/{name}") != binaries[name])
    # Somebody changed what etcd reads, and may have restarted it with that. Where the note of the generation
    # differs too it was us, in a run that went no further; the process is then what its own note says.
    ours = any(file.path == GENERATION_FILE for file in files)
    tampered = not ours and ("etcd" in missing or any(file.restarts for file in files))
    stale = seen.generation != plan.generation or tampered
    active = seen.active.get("etcd.service") == "active"
    start: Literal["", "start", "restart"] = ""
    if not active:
        start = "restart" if stale else "start"
    enable = tuple(unit for unit in UNITS if seen.enabled.get(unit) != "enabled")
    # systemd remembers what it has read, also whether a unit is enabled. Reloading costs seconds under emulation.
    touched = {file.path.rpartition("/")[2] for file in files if file.path.startswith(UNIT_DIR)} | set(enable)
    return Steps(
        files=files,
        binaries=missing,
        enable=enable,
        reload=seen.reload or bool(touched & seen.loaded),
        forget=tampered,
        start=start,
        roll=active and stale,
        clear=seen.staged,
    )


def look_command(files: Sequence[str], programs: Sequence[str], *, alone: bool = False) -> str:
    """One shell command that finds out all that Observed holds; nothing in it needs quoting (the words are ours).

    With `alone`, whatever an earlier deployment still does on the node is ended first.

    Programs are not hashed, which takes seconds under emulation: a program is the one that was
    checked if inode, size and time of change are still those in its stamp.
    """
    names, stamp = " ".join(programs), f"{STAMP_DIR}/$name.stamp"
    return "; ".join(
        ([break_off_command()] if alone else [])
        + [
            f"sha256sum {' '.join(files)} 2>/dev/null",
            f"read -r seen 2>/dev/null <{RUNNING_FILE} && echo generation=$seen",
            f"for name in {names}; do read -r seen 2>/dev/null <{stamp} && echo stamp=$name $seen; done",
            f"for name in {STAGE_DIR}/*; do [ ! -e $name ] || echo staged=$name; done",
            f"cd {BIN_DIR} && stat -c 'stat=%n %i %s %.9Z' {names} 2>/dev/null",
            f"systemctl show --property=Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload {' '.join(UNITS)}",
        ]
    )


def claim_command() -> str:
    """Shell command with which a script that changes the node begins: one at a time, and known by its process group."""
    return (
        f"exec 9<>{LOCK_FILE}; flock -w {CLAIM_SECONDS} 9; "
        f"read -r _ _ _ _ group _ </proc/self/stat; echo $group >{LOCK_FILE}"
    )


def break_off_command() -> str:
    """Shell command that ends the script of a deployment that was killed on its host, and waits until it is gone.

    A script goes on when the connection is lost: it would change the node behind the back of whoever looks at it.
    """
    return (
        f"exec 9<>{LOCK_FILE}; flock -n 9 || {{ read -r group <{LOCK_FILE}; kill -9 -$group; "
        f"flock -w {CLAIM_SECONDS} 9 || {{ echo an earlier deployment is still at work here >&2; exit 1; }}; }}; "
        "exec 9>&-"
    )


def stamp_command(program: str, sha256: str) -> str:
    """Shell command that notes, in BIN_DIR, that `program` was checked."""
    return f"stat -c '{sha256} %i %s %.9Z' {program} >{STAMP_DIR}/{program}.stamp"


def parse_look(lines: Sequence[str]) -> Observed:
    """Read the output of `look_command`."""
    digests: dict[str, str] = {}
    units: dict[str, dict[str, str]] = {}
    stamps: dict[str, tuple[str, str]] = {}
    block: dict[str, str] = {}
    generation = ""
    staged = False
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals:
            digest, _, path = line.partition("  ")
            if path:
                digests[path.strip()] = digest
        elif key == "generation":
            generation = value.strip()
        elif key == "staged":
            staged = True
        elif key == "stamp":
            name, digest, identity = value.strip().split(" ", 2)
            stamps[name] = (digest, identity)
        elif key == "stat":
            name, identity = value.strip().split(" ", 1)
            digest, then = stamps.get(name, (ALTERED, ""))
            digests[f"{BIN_DIR}/{name}"] = digest if identity == then else ALTERED
        else:
            if key in block:  # systemctl parts units by an empty line, and a transport may swallow that
                block = {}
            block[key] = value.strip()
            if "Id" in block:
                units[block["Id"]] = block
    return Observed(
        digests=digests,
        active={unit: values.get("ActiveState", "") for unit, values in units.items()},
        enabled={unit: values.get("UnitFileState", "") for unit, values in units.items()},
        loaded=frozenset(unit for unit, values in units.items() if values.get("LoadState") == "loaded"),
        reload=any(values.get("NeedDaemonReload") == "yes" for values in units.values()),
        generation=generation,
        staged=staged,
    )
