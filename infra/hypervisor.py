"""The embedded hypervisor as a resource: made first, removed last, and with it all that lived in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from infra.dynamic import Props, Provider, text
from machine.hypervisor import Embedded
from machine.paths import StackPaths


def _embedded(props: Props) -> Embedded:
    return Embedded(text(props, "hypervisor_id"), Path(text(props, "dir")), Path(text(props, "run_dir")))


class _EmbeddedProvider(Provider):
    """A dead one (reboot, crash) is reported as not running, never as gone: its volumes are still there."""

    inputs = ("hypervisor_id", "dir", "run_dir", "owned")
    replacing = ("hypervisor_id", "dir", "run_dir")

    def create(self, props: Props) -> CreateResult:
        return CreateResult(text(props, "hypervisor_id"), _start(props))

    def diff(self, _id: str, _olds: Props, _news: Props) -> DiffResult:
        result = super().diff(_id, _olds, _news)
        dead = not result.replaces and _embedded(_olds).state() != "running"
        return DiffResult(result.changes or dead, result.replaces, delete_before_replace=True)

    def read(self, id_: str, props: Props) -> ReadResult:
        return ReadResult(id_, {**props, "running": _embedded(props).state() == "running"})

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        return UpdateResult(_start(_news))

    def delete(self, _id: str, _props: Props) -> None:
        _embedded(_props).stop()
        owned = _props["owned"]
        assert isinstance(owned, list)  # noqa: S101 - our own class below passes a list
        for path in owned:
            shutil.rmtree(str(path), ignore_errors=True)


def _start(props: Props) -> dict[str, object]:
    embedded = _embedded(props)
    lab = Path(text(props, "dir")).parent
    lab.mkdir(parents=True, exist_ok=True)
    lab.chmod(0o700)  # seeds hold host keys, and the provider makes volumes readable
    embedded.start()
    names = ("hypervisor_id", "dir", "run_dir", "owned")
    return {**{name: props[name] for name in names}, "uri": embedded.uri, "netns": embedded.netns, "running": True}


class EmbeddedHypervisor(Resource, module="lab", name="EmbeddedHypervisor"):
    """libvirt in a namespace of its own; deleting it ends its machines and removes their volumes too."""

    uri: pulumi.Output[str]
    """libvirt connection URI, known once it runs."""
    netns: pulumi.Output[str]
    running: pulumi.Output[bool]

    def __init__(self, name: str, *, paths: StackPaths, opts: pulumi.ResourceOptions | None = None) -> None:
        props = {
            "hypervisor_id": paths.hypervisor_id,
            "dir": str(paths.hypervisor),
            "run_dir": str(paths.run_dir),
            "owned": [str(paths.pool)],
            "uri": None,
            "netns": None,
            "running": None,
        }
        super().__init__(_EmbeddedProvider(), name, props, opts)
