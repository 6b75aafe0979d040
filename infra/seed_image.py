"""First-boot seeds as files of this host: NoCloud images, which volumes are then made from.

The provider has a resource of its own for seeds, which cannot be used: it hangs (docs/decisions/0012).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from infra.dynamic import Props, Provider, mapping, text
from machine.process import run

LABEL: Final = "cidata"
"""What NoCloud looks for (docs.cloud-init.io, datasources, NoCloud)."""


class _SeedProvider(Provider):
    """The path names the content, so that other content is another seed."""

    inputs = ("path", "written")
    replacing = ("path",)

    def create(self, props: Props) -> CreateResult:
        path = Path(text(props, "path"))
        _write(path, mapping(props, "files"))
        return CreateResult(path.name, {"path": str(path), "written": True})

    def read(self, id_: str, props: Props) -> ReadResult:
        return ReadResult(id_, {**props, "written": Path(text(props, "path")).exists()})

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        return UpdateResult(self.create(_news).outs)

    def delete(self, _id: str, _props: Props) -> None:
        path = Path(text(_props, "path"))
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # goes with the last seed
            path.parent.rmdir()


def _write(path: Path, files: Mapping[str, str]) -> None:
    """Write the image whole or not at all; readable by the owner alone, since it holds a host's key."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix="making-", dir=path.parent) as scratch:  # made 0700
        content, image = Path(scratch, "content"), Path(scratch, "image")
        content.mkdir()
        for name, said in files.items():
            (content / name).write_text(said)
        run(["mkisofs", "-quiet", "-output", str(image), "-volid", LABEL, "-joliet", "-rock", str(content)])
        image.chmod(0o600)
        image.replace(path)


def digest(files: Mapping[str, str]) -> str:
    """What names the content of a seed; it tells nothing, as a key with its full entropy is part of that."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]


class SeedImage(Resource, module="lab", name="SeedImage"):
    """The image of one node's seed in `dir`: `files` is name -> content, such as user-data."""

    path: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        dir: Path,  # noqa: A002 - the word of LocalFiles
        node: str,
        files: Mapping[str, pulumi.Input[str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        secret: pulumi.Output[dict[str, str]] = pulumi.Output.secret(pulumi.Output.all(**files))
        named = pulumi.Output.unsecret(secret.apply(digest))
        path = named.apply(lambda known: str(dir / f"{node}-{known}.iso"))
        super().__init__(_SeedProvider(), name, {"path": path, "files": secret, "written": True}, opts)
