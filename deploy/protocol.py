"""What the resource and its pyinfra child say to each other: one JSON document each way."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deploy.plan import NodePlan
from infra.manifest import Manifest
from machine.paths import StackPaths


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Binary(_Frozen):
    """A program on this host that belongs on every node."""

    path: Path
    sha256: str


class Request(_Frozen):
    """What the child is to do: `apply` the plans, or only `observe` how things are."""

    mode: Literal["apply", "observe"]
    manifest: Manifest
    checkout: Path
    plans: dict[str, NodePlan] = Field(repr=False)
    binaries: dict[str, Binary]
    """By name (etcd, etcdctl, etcdutl). To observe, the path need not exist."""
    seconds: float = 300.0
    """Limit for the whole run."""

    @property
    def paths(self) -> StackPaths:
        """Paths of the lab."""
        return StackPaths(self.checkout, self.manifest.stack)


class HostResult(_Frozen):
    """How it went on one node."""

    ok: bool
    changed: tuple[str, ...] = ()
    """Names of the operations that changed something."""
    failed: str | None = None
    """Name of the operation that failed."""
    stderr: str = ""
    """End of what the failed operation said."""
    seconds: float = 0.0


class Response(_Frozen):
    """What the child found and did."""

    ok: bool
    hosts: dict[str, HostResult]
    observed: dict[str, dict[str, str]] = Field(default_factory=dict)
    """What is on each node now, in the terms of NodePlan.state."""
    seconds: float
    error: str = ""
    """What went wrong as a whole, in one paragraph."""
