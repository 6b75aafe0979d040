"""Reaching a node of a built lab: the shell that its manifest and key files describe."""

from __future__ import annotations

from infra.manifest import Manifest
from machine.paths import StackPaths
from machine.ssh import Shell


def shell_for(manifest: Manifest, paths: StackPaths, node: str) -> Shell:
    """A shell on `node` as root; nothing is connected yet. Raises NotBuiltError for an unknown node."""
    return Shell(
        name=node,
        address=str(manifest.node(node).address),
        key=paths.ssh_key,
        known_hosts=paths.known_hosts,
        control_dir=paths.run_dir / "ssh",
        netns=manifest.hypervisor.netns,
    )
