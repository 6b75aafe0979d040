"""What Pulumi's file backend holds of a stack: resources, half-done operations, locks.

Read straight from the files, so that it takes milliseconds and works while the engine is locked; of what a
killed write left beside them, `mend` alone removes something. Layout and fields as Pulumi 3.250 writes them
(pkg/backend/diy: store.go, lock.go; sdk/go/common/apitype: DeploymentV3).
"""

from __future__ import annotations

import glob
import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from machine.errors import LabError

PROJECT: Final = "etcd-lab"
CHAOS_PROJECT: Final = "etcd-lab-chaos"

_STACK: Final = "pulumi:pulumi:Stack"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of the state: its type token, logical name, and provider's id ("" for components)."""

    type: str
    name: str
    id: str
    outputs: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def label(self) -> str:
        """How it is named to people."""
        return f"{self.type.rsplit(':', 1)[-1]} {self.name}"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A stack's state: what was made, and what was being made when the engine died."""

    resources: tuple[Resource, ...] = ()
    pending: tuple[Resource, ...] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """The stack's own outputs; a secret one is the engine's ciphertext."""

    @property
    def built(self) -> tuple[Resource, ...]:
        """Resources apart from the stack itself and the providers, which the engine keeps for itself."""
        return tuple(r for r in self.resources if not r.type.startswith("pulumi:"))

    @property
    def interrupted(self) -> list[str]:
        """Labels of what was being made."""
        return sorted({resource.label for resource in self.pending})

    def ids(self, kind: str) -> frozenset[str]:
        """Ids of the resources whose type token ends with `kind`, such as `Domain`."""
        return frozenset(r.id for r in self.resources if r.type.endswith(f":{kind}"))


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock on a stack: who took it, and whether that process is still there."""

    file: Path
    pid: int
    host: str

    @property
    def alive(self) -> bool:
        """Whether the holder may still be running; always true for a holder on another host."""
        if self.host != socket.gethostname():
            return True
        command = _command_line(self.pid)
        return bool(command) and "pulumi" in command

    @property
    def orphaned(self) -> bool:
        """Whether the holder runs on without whoever started it (it will end by itself)."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return False
        return fields[1] == "1"


def stack_file(backend: Path, stack: str, project: str = PROJECT) -> Path:
    """State file of `stack` in the file backend at directory `backend`."""
    return backend / ".pulumi" / "stacks" / project / f"{stack}.json"


def read(backend: Path, stack: str, project: str = PROJECT) -> Deployment | None:
    """State of `stack`; None when there is no such stack; LabError when the file is damaged."""
    document = export(backend, stack, project)
    return None if document is None else _deployment(document["deployment"])


def export(backend: Path, stack: str, project: str = PROJECT) -> dict[str, Any] | None:
    """State of `stack` as `pulumi stack export` prints it, secrets as ciphertext; None and LabError as for `read`."""
    path = stack_file(backend, stack, project)
    try:
        document = json.loads(path.read_text())
        if not isinstance(document, dict):
            raise ValueError("it is no JSON object")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise LabError(
            f"The state of stack {stack!r} is damaged: {error}",
            where=str(path),
            next=f"Put the copy {path.name}.bak beside it in its place, then run ./lab destroy.",
        ) from error
    latest = (document.get("checkpoint") or {}).get("latest")
    return {"version": document.get("version"), "deployment": latest}


def parse_export(text: str) -> Deployment:
    """State of a stack from what `pulumi stack export` prints; LabError when that is no JSON."""
    try:
        return _deployment(json.loads(text).get("deployment"))
    except ValueError as error:
        raise LabError(f"pulumi stack export gave no JSON: {error}", next="Try it by hand.") from error


def locks(backend: Path, stack: str, project: str = PROJECT) -> list[Lock]:
    """Locks on `stack`, readable ones; a lock that vanishes while we look is no lock."""
    found = []
    for path in sorted(_lock_files(backend, stack, project, "*.json")):
        try:
            content = json.loads(path.read_text())
            found.append(Lock(path, int(content["pid"]), str(content["hostname"])))
        except (OSError, ValueError, KeyError, TypeError):
            if path.exists():
                found.append(Lock(path, 0, socket.gethostname()))
    return found


def mend(backend: Path, stack: str, project: str = PROJECT) -> list[Path]:
    """Remove what a killed write left beside the files of `stack`; what that was. For callers that hold it alone.

    A file is written aside and renamed, its attributes after that and in place (gocloud.dev, blob/fileblob): empty or
    half attributes make the engine refuse the whole stack ("failed to load checkpoint: EOF"), and none are no loss.
    """
    file = stack_file(backend, stack, project)
    places = [*file.parent.glob(f"{glob.escape(file.name)}*"), *_lock_files(backend, stack, project, "*")]
    rubbish = [path for path in places if path.suffix == ".tmp" or (path.suffix == ".attrs" and not _is_json(path))]
    for path in rubbish:
        path.unlink(missing_ok=True)
    return rubbish


def stacks(backend: Path, project: str) -> list[str]:
    """Names of the project's stacks."""
    return sorted(path.stem for path in (backend / ".pulumi" / "stacks" / project).glob("*.json"))


OWNER: Final = "ETCD_LAB_OWNER"
"""In the environment of a provider that serves one process for update after update: that one's process id."""


WORKERS: Final = ("pulumi", "deploy", "chaos.stack.provider_main")
"""In the command lines of engines and providers, ours among them."""


def leftover_processes(mark: str) -> list[int]:
    """Engine and provider processes that an update of ours left behind: `mark` is in their environment.

    The hypervisor and the machines carry the mark too, as descendants; they are not the engine's. A provider that
    serves this process (OWNER) is not left behind.
    """
    wanted, own = mark.encode(), f"{OWNER}={os.getpid()}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        command = _command_line(int(entry.name))
        marked = wanted in variables and own not in variables
        if marked and any(word in command for word in WORKERS) and "cli" not in command.split():
            found.append(int(entry.name))
    return found


def emptied(exported: Mapping[str, Any], outputs: Mapping[str, object]) -> dict[str, Any]:
    """What `pulumi stack export` gave, with nothing left but the stack itself, which gets `outputs`."""
    deployment = dict(exported.get("deployment") or {})
    own = [dict(r) for r in deployment.get("resources") or () if r.get("type") == _STACK]
    for resource in own:
        resource["outputs"] = dict(outputs)
    deployment["resources"] = own
    deployment.pop("pending_operations", None)
    return {**exported, "deployment": deployment}


def _deployment(document: dict[str, Any] | None) -> Deployment:
    found = document or {}
    return Deployment(
        resources=tuple(_resources(found.get("resources") or ())),
        pending=tuple(_resources(op.get("resource") or {} for op in found.get("pending_operations") or ())),
        outputs=next((r.get("outputs") or {} for r in found.get("resources") or () if r.get("type") == _STACK), {}),
    )


def _resources(documents: Iterable[dict[str, Any]]) -> Iterator[Resource]:
    for document in documents:
        urn = str(document.get("urn", ""))
        yield Resource(
            type=str(document.get("type", "")),
            name=urn.rpartition("::")[2],
            id=str(document.get("id", "")),
            outputs=document.get("outputs") or {},
        )


def _lock_files(backend: Path, stack: str, project: str, pattern: str) -> Iterator[Path]:
    return (backend / ".pulumi" / "locks" / "organization" / project / stack).glob(pattern)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True


def _command_line(pid: int) -> str:
    """Words of the process, without our own paths, so that a checkout's name cannot look like a program's."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return " ".join(word.rpartition("/")[2] for word in words)
