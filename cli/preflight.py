"""What is checked before anything is made: the configuration, then the machine against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings import LabSettings
    from machine.paths import StackPaths


def settings_of(paths: StackPaths) -> LabSettings:
    """The stack's settings from its configuration file; SettingsError (exit 2) when one is wrong."""
    from infra.settings import from_stack_file

    return from_stack_file(paths.checkout / f"Pulumi.{paths.stack}.yaml")


def check(paths: StackPaths) -> LabSettings:
    """Check configuration, then machine; SettingsError or RequirementError (exit 2) about what is wrong first."""
    from infra import membership
    from infra.requirements import plan_of
    from machine import checks

    settings = settings_of(paths)
    membership.refuse_change(settings, paths)
    checks.preflight(plan_of(settings, paths))
    return settings
