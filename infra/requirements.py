"""What a lab asks of the machine: from its settings to the plan that machine.checks looks at."""

from __future__ import annotations

from infra.manifest import Manifest, load
from infra.settings import LabSettings
from machine.checks import Plan
from machine.errors import NotBuiltError
from machine.paths import StackPaths


def plan_of(settings: LabSettings, paths: StackPaths) -> Plan:
    """What the machine is to carry, from the stack's settings and its lab as built."""
    try:
        built: Manifest | None = load(paths)
    except NotBuiltError:
        built = None
    return Plan(
        paths=paths,
        nodes=settings.nodes,
        memory_mib=settings.memory,
        subnet=settings.subnet,
        kind=settings.kind,
        uri=settings.system_uri,
        etcd_version=settings.etcd_version,
        image=settings.image,
        image_sha256=settings.image_sha256,
        lab_id=built.lab_id if built else None,
        built_memory_mib=built.nodes[0].memory_mib if built else None,
    )
