"""Files beside the manifest: written when the lab is built, removed with it, 0600 where they hold a key."""

from __future__ import annotations

import hashlib
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from infra.dynamic import Props, Provider, mapping, text
from machine.process import write_private

_DIGESTS: Final = ("public_digests", "private_digests")


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _found(path: Path, secret: bool) -> str:
    """What is there: a digest, or why it does not do."""
    try:
        if secret and stat.S_IMODE(path.stat().st_mode) & 0o077:
            return "readable by others"
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "missing"


class _FilesProvider(Provider):
    """`public` and `private` are file name -> content; outputs hold digests and no content."""

    inputs = ("dir", "public_digests", "private_digests")
    replacing = ("dir",)

    def create(self, props: Props) -> CreateResult:
        return CreateResult(text(props, "dir"), _write(props))

    def diff(self, _id: str, _olds: Props, _news: Props) -> DiffResult:
        """As everywhere, and what is there: an update that was killed has written files that no state knows of."""
        result = super().diff(_id, _olds, _news)
        changes = result.changes or any(
            _found(Path(text(_olds, "dir")) / name, kind.startswith("private")) != digest
            for kind in _DIGESTS
            for name, digest in mapping(_olds, kind).items()
        )
        return DiffResult(changes, result.replaces, delete_before_replace=True)

    def read(self, id_: str, props: Props) -> ReadResult:
        where = Path(text(props, "dir"))
        seen = dict(props)
        for kind in _DIGESTS:
            seen[kind] = {name: _found(where / name, kind.startswith("private")) for name in mapping(props, kind)}
        return ReadResult(id_, seen)

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        outs = _write(_news)
        kept = mapping(_news, "public").keys() | mapping(_news, "private").keys()
        for name in (mapping(_olds, "public_digests").keys() | mapping(_olds, "private_digests").keys()) - kept:
            (Path(text(_news, "dir")) / name).unlink(missing_ok=True)
        return UpdateResult(outs)

    def delete(self, _id: str, _props: Props) -> None:
        where = Path(text(_props, "dir"))
        for name in mapping(_props, "public_digests").keys() | mapping(_props, "private_digests").keys():
            (where / name).unlink(missing_ok=True)
        if _props.get("whole") is True:
            shutil.rmtree(where, ignore_errors=True)


def _write(props: Props) -> dict[str, object]:
    where = Path(text(props, "dir"))
    public, private = mapping(props, "public"), mapping(props, "private")
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, content in public.items():
        write_private(where / name, content, mode=0o644)
    for name, content in private.items():
        write_private(where / name, content)
    return {
        "dir": str(where),
        "whole": props.get("whole") is True,
        "public_digests": {name: _digest(content) for name, content in public.items()},
        "private_digests": {name: _digest(content) for name, content in private.items()},
    }


class LocalFiles(Resource, module="lab", name="LocalFiles"):
    """Writes `public` (0644) and `private` (0600) files into `dir`, which it makes (0700).

    Its end removes them; `whole` removes everything in the directory, and the directory.
    """

    def __init__(
        self,
        name: str,
        *,
        dir: Path,  # noqa: A002
        public: Mapping[str, pulumi.Input[str]],
        private: Mapping[str, pulumi.Input[str]],
        whole: bool = False,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        secret: pulumi.Output[dict[str, str]] = pulumi.Output.secret(_resolved(private))
        props = {
            "dir": str(dir),
            "whole": whole,
            "public": public,
            "private": secret,
            "public_digests": _resolved(public).apply(_digests),
            # of keys with their full entropy, so a digest tells nothing
            "private_digests": pulumi.Output.unsecret(secret.apply(_digests)),
        }
        super().__init__(_FilesProvider(), name, props, opts)


def _resolved(files: Mapping[str, pulumi.Input[str]]) -> pulumi.Output[dict[str, str]]:
    """All contents together; Output.all() of no arguments would make a list."""
    empty: dict[str, str] = {}
    return pulumi.Output.all(**files) if files else pulumi.Output.from_input(empty)


def _digests(contents: Mapping[str, str]) -> dict[str, str]:
    return {name: _digest(content) for name, content in contents.items()}
