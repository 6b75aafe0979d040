"""The five Pulumi parts: CLI, Python language host with its two helpers, libvirt plugin.

Taken from PATH when new enough; else the official release, verified by its checksum file; else
built from the Go modules in machine/gomodules. The CLI with its helpers and the plugin are two
directories of the shared cache, each named by the digest of its module files and version, so that
every checkout with the same files uses it and a change of them makes a new one.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from machine import golang, versions
from machine.download import Unreachable, fetch_verified, unpack
from machine.errors import DeadlineError, ToolError
from machine.log import Say
from machine.paths import cache_dir
from machine.process import exclusive, run

CLI_PARTS: Final = (
    "pulumi",
    "pulumi-language-python",
    "pulumi-language-python-exec",
    "pulumi-resource-pulumi-python",
)
PLUGIN: Final = "pulumi-resource-libvirt"

_ARCH: Final = {"x86_64": ("x64", "amd64"), "aarch64": ("arm64", "arm64")}
"""Machine name to what Pulumi's archives call it: CLI's, plugins'."""

Source = Literal["path", "release", "go"]


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the parts are, and where they came from."""

    bin: Path
    """Directory of the CLI and its helpers; goes first on PATH."""
    plugin: Path
    """The libvirt plugin's program."""
    cli_source: Source
    plugin_source: Source

    @property
    def pulumi(self) -> Path:
        """The CLI."""
        return self.bin / "pulumi"

    def parts(self) -> dict[str, Path]:
        """All five by name."""
        return {name: self.bin / name for name in CLI_PARTS} | {PLUGIN: self.plugin}


@dataclass(frozen=True, slots=True)
class _Bundle:
    """What is fetched or built together, into one directory of the cache."""

    name: str
    version: str
    modules: tuple[str, ...]
    programs: tuple[str, ...]
    download: Callable[[Path, Say], None]
    build: Callable[[Path, Say], None]
    build_seconds: int

    def home(self) -> Path:
        """Its directory: named by what it is made from."""
        made_from = hashlib.sha256(self.version.encode())
        for module in self.modules:
            for file in sorted((golang.MODULES / module).iterdir()):
                made_from.update(f"\0{module}/{file.name}\0".encode() + file.read_bytes())
        return cache_dir() / "tools" / f"{self.name}-{made_from.hexdigest()[:16]}"

    def found(self) -> tuple[Path, Source] | None:
        """The directory and its source when all is there."""
        home = self.home()
        try:
            source: Source = json.loads((home / "source.json").read_text())["source"]
        except (OSError, ValueError, KeyError):
            return None
        return (home, source) if all((home / program).exists() for program in self.programs) else None

    def ensure(self, say: Say) -> None:
        """Fetch or build it when missing: aside, then renamed; two at once take turns."""
        home = self.home()
        if self.found() is not None:
            return
        with exclusive(home.with_suffix(".lock")):
            if self.found() is not None:  # somebody else has made it while we waited
                return
            for stale in (home, *home.parent.glob(f".{home.name}.*")):
                shutil.rmtree(stale, ignore_errors=True)
            fresh = home.with_name(f".{home.name}.{time.time_ns()}")
            fresh.mkdir(parents=True)
            try:
                source = self._fill(fresh, say)
                (fresh / "source.json").write_text(json.dumps({"source": source, "version": self.version}))
                fresh.rename(home)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)

    def _fill(self, home: Path, say: Say) -> Source:
        say(f"Getting {self.name} {self.version}")
        try:
            self.download(home, say)
        except Unreachable as reason:
            say(f"  no release to be had: {reason}")
            minutes = self.build_seconds // 60
            say(f"  building it from Go modules, once for all checkouts: up to {minutes} min on 2 cores")
            self.build(home, say)
            return "go"
        return "release"


def locate() -> Tools | None:
    """The tools as they are now, nothing built: from PATH, else from the cache; None when missing."""
    cli = _cli_on_path() or _CLI.found()
    plugin = _plugin_of_user() or _LIBVIRT.found()
    if cli is None or plugin is None:
        return None
    return Tools(cli[0], plugin[0] / PLUGIN, cli[1], plugin[1])


def ensure(say: Say) -> Tools:
    """The tools, fetched or built when missing; two at once take turns.

    Raises ToolError with the end of the build's log, ChecksumError for a download that is not
    what its release says.
    """
    if _plugin_of_user() is None:
        _LIBVIRT.ensure(say)
    if _cli_on_path() is None:
        _CLI.ensure(say)
    tools = locate()
    if tools is None:
        raise ToolError("The tool chain was made and cannot be found", where=str(cache_dir() / "tools"))
    return tools


@functools.cache
def version(program: Path) -> str | None:
    """Version that the CLI or the plugin tells, such as "3.250.0"; None when it does not work."""
    words = ["-version"] if program.name == PLUGIN else ["version"]
    try:
        said = run([str(program), *words], seconds=30, check=False, env={"PULUMI_SKIP_UPDATE_CHECK": "1"})
    except (ToolError, DeadlineError):
        return None
    found = re.search(r"\d+\.\d+\.\d+", said.stdout)
    return found.group() if said.ok and found else None


def newer_or_same(one: str, other: str) -> bool:
    """Whether version `one` is at least `other`.

    >>> newer_or_same("3.250.0", "3.68.0"), newer_or_same("3.9.9", "3.10.0")
    (True, False)
    """
    return [int(part) for part in one.split(".")] >= [int(part) for part in other.split(".")]


def user_pulumi_home() -> Path:
    """The user's own PULUMI_HOME."""
    return Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")


def _cli_on_path() -> tuple[Path, Source] | None:
    """A CLI on PATH that is new enough and has its helpers beside it."""
    program = shutil.which("pulumi")
    if program is None:
        return None
    directory = Path(program).resolve().parent
    ours = directory.is_relative_to((cache_dir() / "tools").resolve())  # put there by `./lab env` of some checkout
    if ours or not all((directory / name).exists() for name in CLI_PARTS):
        return None
    found = version(Path(program))
    return (directory, "path") if found is not None and newer_or_same(found, versions.PULUMI) else None


def _plugin_of_user() -> tuple[Path, Source] | None:
    """The plugin in the very version, as the user's own Pulumi has installed it."""
    place = user_pulumi_home() / "plugins" / f"resource-libvirt-v{versions.LIBVIRT_PLUGIN}"
    program = place / PLUGIN
    return (place, "path") if program.exists() and not program.is_symlink() else None


def _arch() -> tuple[str, str]:
    if platform.machine() not in _ARCH:
        raise Unreachable(f"there is none for {platform.machine()}")
    return _ARCH[platform.machine()]


def _take(url: str, sums: str, home: Path, programs: tuple[str, ...], say: Say) -> None:
    archive = home / "archive"
    fetch_verified(url, sums, archive, say)
    found = unpack(archive, {name: home / name for name in programs})
    archive.unlink()
    if set(found) != set(programs):
        raise Unreachable(f"it lacks {', '.join(sorted(set(programs) - set(found)))}")


def _download_cli(home: Path, say: Say) -> None:
    base = f"https://github.com/pulumi/pulumi/releases/download/v{versions.PULUMI}"
    archive = f"{base}/pulumi-v{versions.PULUMI}-linux-{_arch()[0]}.tar.gz"
    _take(archive, f"{base}/pulumi-{versions.PULUMI}-checksums.txt", home, CLI_PARTS, say)


def _download_plugin(home: Path, say: Say) -> None:
    release = versions.LIBVIRT_PLUGIN
    base = f"https://github.com/pulumi/pulumi-libvirt/releases/download/v{release}"
    archive = f"{base}/{PLUGIN}-v{release}-linux-{_arch()[1]}.tar.gz"
    _take(archive, f"{base}/pulumi-libvirt_{release}_checksums.txt", home, (PLUGIN,), say)


def _build_cli(home: Path, say: Say) -> None:
    go = golang.ensure(say)
    told = {"github.com/pulumi/pulumi/sdk/v3/go/common/version.Version": versions.PULUMI}
    # The short build first: an error in the set-up shows early.
    go.build(
        ["github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python"],
        out=home / "pulumi-language-python",
        cwd=golang.MODULES / "language",
        say=say,
        variables=told,
    )
    module = golang.MODULES / "pulumi"
    go.build(["github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"], out=home / "pulumi", cwd=module, say=say, variables=told)
    # Two helpers are plain files of the same SDK release, checked by go.sum like all modules.
    sdk = Path(go.run(["list", "-m", "-f", "{{.Dir}}", "github.com/pulumi/pulumi/sdk/v3"], cwd=module).strip())
    for source in (sdk / "python/cmd/pulumi-language-python-exec", sdk / "python/dist/pulumi-resource-pulumi-python"):
        shutil.copyfile(source, home / source.name)
        (home / source.name).chmod(0o755)


def _build_plugin(home: Path, say: Say) -> None:
    golang.ensure(say).build(
        ["."],
        out=home / PLUGIN,
        cwd=golang.MODULES / "libvirt",
        say=say,
        variables={"main.version": versions.LIBVIRT_PLUGIN},
    )


_CLI: Final = _Bundle(
    "pulumi", versions.PULUMI, ("language", "pulumi"), CLI_PARTS, _download_cli, _build_cli, build_seconds=420
)
_LIBVIRT: Final = _Bundle(
    "pulumi-libvirt",
    versions.LIBVIRT_PLUGIN,
    ("libvirt",),
    (PLUGIN,),
    _download_plugin,
    _build_plugin,
    build_seconds=180,
)
