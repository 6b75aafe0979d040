"""What a lab asks of the machine: from its settings to the plan that machine.checks looks at."""

from __future__ import annotations

from infra.manifest import load
from infra.settings import LabSettings
from machine.checks import Plan
from machine.errors import NotBuiltError
from machine.paths import StackPaths


def plan_of(settings: LabSettings, paths: StackPaths) -> Plan:
    """What the machine is to carry, from the stack's settings and its lab as built."""
    try:
        lab_id: str | None = load(paths).lab_id
    except NotBuiltError:
        lab_id = None
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
        lab_id=lab_id,
    )
