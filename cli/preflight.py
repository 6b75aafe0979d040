"""What is checked before anything is made: the configuration, then the machine against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings import LabSettings
    from machine.checks import Plan
    from machine.paths import StackPaths


def settings_of(paths: StackPaths) -> LabSettings:
    """The stack's settings from its configuration file; SettingsError (exit 2) when one is wrong."""
    from infra.settings import from_stack_file

    return from_stack_file(paths.checkout / f"Pulumi.{paths.stack}.yaml")


def check(paths: StackPaths) -> LabSettings:
    """Check configuration, then machine; SettingsError or RequirementError (exit 2) about what is wrong first."""
    from infra import membership
    from machine import checks

    settings = settings_of(paths)
    membership.refuse_change(settings, paths)
    checks.preflight(plan_of(settings, paths))
    return settings


def plan_of(settings: LabSettings, paths: StackPaths) -> Plan:
    """What the machine is to carry, from the stack's settings and its lab as built."""
    from infra.manifest import load
    from machine.checks import Plan
    from machine.errors import NotBuiltError

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
