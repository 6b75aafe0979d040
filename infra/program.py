"""What the Pulumi program needs before it can declare anything: its stack, the image, the accelerator, errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pulumi

from infra import manifest, membership, requirements
from infra.settings import Accelerator, LabSettings
from machine import checks, etcd_binaries, image, kvm
from machine.errors import LabError, NotBuiltError
from machine.log import say
from machine.paths import StackPaths, stack_paths


@dataclass(frozen=True, slots=True)
class Parts:
    """What a lab is put together from."""

    image: image.Image
    accelerator: Accelerator
    etcd: etcd_binaries.EtcdBinaries


@contextlib.contextmanager
def short_errors() -> Iterator[None]:
    """Show an error of ours as its paragraph: RunError is the one exception that Pulumi prints without a traceback."""
    try:
        yield
    except LabError as error:
        raise pulumi.RunError(str(error)) from None


def current() -> StackPaths:
    """Paths of the stack that the program runs for; raises UsageError for a stack name that makes no path."""
    return stack_paths(pulumi.get_stack())


def prepare(settings: LabSettings) -> Parts:
    """Check the machine, say what is worth a warning, and find or make image and etcd.

    Quick when both are in the cache. Raises SettingsError, RequirementError, ToolError.
    """
    paths = current()
    membership.refuse_change(settings, paths)
    if not _built_so(settings, paths):
        checks.preflight(requirements.plan_of(settings, paths))  # ./lab does so before, a plain pulumi up does not
    for warning in settings.warnings:
        pulumi.warn(warning)
    guest = image.ensure_image(settings.image, settings.image_sha256, say)
    return Parts(
        image=guest,
        accelerator=kvm.probe(guest.kernel, guest.path).accelerator,
        etcd=etcd_binaries.ensure(settings.etcd_version, say),
    )


def _built_so(settings: LabSettings, paths: StackPaths) -> bool:
    """Whether the lab is there already and asks no more of the machine than it does now."""
    try:
        built = manifest.load(paths)
    except NotBuiltError:
        return False
    asked = {(node.memory_mib, node.vcpus) for node in built.nodes}
    return asked == {(settings.memory, settings.vcpus)} and built.subnet == settings.subnet
