"""The lab that a command is about: its paths, its manifest, its hypervisor brought back to life."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from machine.log import say
from machine.paths import StackPaths, stack_paths

if TYPE_CHECKING:
    from infra.cluster import Cluster
    from infra.manifest import Manifest
    from machine.engine_state import Deployment
    from machine.hypervisor import Embedded
    from machine.ssh import Shell


@dataclass(frozen=True, slots=True)
class OpenLab:
    """A lab that was built: where its files are, and what it is."""

    paths: StackPaths
    manifest: Manifest

    def cluster(self) -> Cluster:
        """The cluster as seen from this host."""
        from infra.cluster import Cluster

        return Cluster(self.manifest, self.paths)

    def shell(self, node: str) -> Shell:
        """A shell on `node`; NotBuiltError for an unknown name."""
        from infra.access import shell_for

        return shell_for(self.manifest, self.paths, node)


def open_lab(stack: str, *, awake: bool = False) -> OpenLab:
    """The lab `stack` from its files, never from the engine; NotBuiltError when there is none.

    With `awake`, an embedded hypervisor that is recorded but dead (reboot, crash) is started first.
    """
    from infra.manifest import load

    paths = stack_paths(stack)
    manifest = load(paths)
    if awake:
        wake_hypervisor(paths)
    return OpenLab(paths, manifest)


def embedded(paths: StackPaths) -> Embedded:
    """The embedded hypervisor that this stack has, or would have."""
    from machine.hypervisor import Embedded

    return Embedded(paths.hypervisor_id, paths.hypervisor, paths.run_dir)


def wake_hypervisor(paths: StackPaths, deployment: Deployment | None = None) -> None:
    """Start the stack's embedded hypervisor when it does not run, and there is a record of one, or the state has it."""
    hypervisor = embedded(paths)
    state = hypervisor.state()
    in_state = deployment is not None and bool(deployment.ids("EmbeddedHypervisor"))
    if state == "stopped" or (state == "absent" and in_state):
        say("The embedded hypervisor is not running (a reboot?); starting it.")
        hypervisor.start()
