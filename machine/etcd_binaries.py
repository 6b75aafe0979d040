"""etcd, etcdctl and etcdutl in a given version.

From the official release, verified by its SHA256SUMS; else built from Go modules (3.5 and newer)
or taken from Debian's packages (3.4, which is no Go module of its own); or from a directory that
the user names. Kept in the shared cache, one directory a version.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from machine import golang
from machine.download import Unreachable, fetch_verified, unpack
from machine.errors import SettingsError, ToolError
from machine.log import Say
from machine.paths import cache_dir
from machine.process import exclusive, run
from machine.versions import ETCD_DEFAULT, ETCD_SUPPORTED

KEY: Final = "etcd-lab:etcd-version"
"""The configuration key that errors name."""

PROGRAMS: Final = ("etcd", "etcdctl", "etcdutl")

BUILD_SECONDS: Final = 90
"""About how long a build from Go modules takes on 2 cores with nothing cached."""

_MODULES: Final = {
    "etcd": "go.etcd.io/etcd/server/v3",  # the program is the root of the server module
    "etcdctl": "go.etcd.io/etcd/etcdctl/v3",
    "etcdutl": "go.etcd.io/etcd/etcdutl/v3",
}
_ARCH: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class EtcdBinaries:
    """The programs of one version of etcd."""

    etcd: Path
    etcdctl: Path
    etcdutl: Path | None
    """None in 3.4, where etcdctl does its work."""
    version: str
    sha256: Mapping[str, str]
    """Program name to SHA-256, lower-case hex."""

    def programs(self) -> dict[str, Path]:
        """Those there are, by name."""
        pairs = (("etcd", self.etcd), ("etcdctl", self.etcdctl), ("etcdutl", self.etcdutl))
        return {name: path for name, path in pairs if path is not None}


def is_path(version_or_path: str) -> bool:
    """Whether the setting names a directory rather than a version."""
    return "/" in version_or_path or version_or_path.startswith((".", "~"))


def check_version(version: str) -> str:
    """`version` without a leading v; raises SettingsError when it is none, or of a minor version
    whose rules the lab does not know. Whether the release exists is seen by `ensure`.
    """
    found = re.fullmatch(r"v?((\d+\.\d+)\.\d+)", version)
    if found is None:
        raise SettingsError(
            f"{KEY} = {version!r} is no version",
            next=f"Write three numbers, such as {ETCD_DEFAULT}, or a directory that holds etcd and etcdctl.",
        )
    if found.group(2) not in ETCD_SUPPORTED:
        raise SettingsError(
            f"{KEY} = {version!r}: the lab does not know etcd {found.group(2)}",
            next=f"It knows {', '.join(ETCD_SUPPORTED)}; {ETCD_DEFAULT} is the default.",
        )
    return found.group(1)


def locate(version: str = ETCD_DEFAULT) -> EtcdBinaries | None:
    """What the cache has of `version`; nothing is fetched."""
    home = _home(version)
    try:
        sha256: dict[str, str] = json.loads((home / "record.json").read_text())["sha256"]
    except (OSError, ValueError, KeyError):
        return None
    if not all((home / name).exists() for name in sha256):
        return None
    return _binaries(home, version, sha256)


def ensure(version_or_path: str, say: Say) -> EtcdBinaries:
    """The programs of that version, or those in that directory.

    Raises SettingsError when the version does not exist (naming those there are) or the directory
    lacks a program; ToolError when a build fails; ChecksumError for a tampered download.
    """
    if is_path(version_or_path):
        return _from_directory(Path(version_or_path).expanduser())
    version = check_version(version_or_path)
    home = _home(version)
    with exclusive(home.with_name(f"{version}.lock")):
        found = locate(version)
        if found is not None:
            return found
        for stale in (home, *home.parent.glob(f".{version}-*")):
            shutil.rmtree(stale, ignore_errors=True)
        fresh = home.with_name(f".{version}-{time.time_ns()}")
        fresh.mkdir(parents=True)
        try:
            say(f"Getting etcd {version}")
            source = _fill(fresh, version, say)
            sha256 = {name: _sha256(fresh / name) for name in PROGRAMS if (fresh / name).exists()}
            (fresh / "record.json").write_text(json.dumps({"source": source, "sha256": sha256}))
            fresh.rename(home)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return _binaries(home, version, sha256)


def listed_versions(go: golang.Go) -> list[str]:
    """Releases from 3.5 on that the module proxy lists, oldest first; raises ToolError.

    A proxy lists what it has been asked for before; others can be had all the same (see `exists`).
    """
    words = ["list", "-m", "-versions", _MODULES["etcd"]]
    listed = go.run(words, cwd=golang.MODULES / "etcd", seconds=60).split()[1:]
    return [version.removeprefix("v") for version in listed if re.fullmatch(r"v\d+\.\d+\.\d+", version)]


def exists(go: golang.Go, version: str) -> bool:
    """Whether the module proxy has that release; raises ToolError when it answers nothing at all."""
    words = ["list", "-m", f"{_MODULES['etcd']}@v{version}"]
    try:
        # by itself, since our own module file names one version already
        with tempfile.TemporaryDirectory() as empty:
            go.run(words, cwd=Path(empty), seconds=60)
    except ToolError:
        listed_versions(go)  # module proxies refuse in many words; one that gives its list is no bad line
        return False
    return True


def _home(version: str) -> Path:
    return cache_dir() / "etcd" / version


def _binaries(home: Path, version: str, sha256: Mapping[str, str]) -> EtcdBinaries:
    etcdutl = home / "etcdutl"
    return EtcdBinaries(home / "etcd", home / "etcdctl", etcdutl if "etcdutl" in sha256 else None, version, sha256)


def _fill(home: Path, version: str, say: Say) -> str:
    """Put the programs into `home`; gives the source's name."""
    try:
        _download(home, version, say)
    except Unreachable as reason:
        # "Not found" is no proof that there is no such release: some proxies say it of any page.
        say(f"  no release to be had: {reason}")
    else:
        return "release"
    if version.startswith("3.4."):
        _from_debian(home, version, say)
        return "debian"
    say(f"  building it from Go modules, once for all checkouts: about {BUILD_SECONDS} s on 2 cores")
    _build(home, version, say)
    return "go"


def _download(home: Path, version: str, say: Say) -> None:
    arch = _ARCH.get(platform.machine())
    if arch is None:
        raise Unreachable(f"there is none for {platform.machine()}")
    base = f"https://github.com/etcd-io/etcd/releases/download/v{version}"
    archive = home / "archive"
    fetch_verified(f"{base}/etcd-v{version}-linux-{arch}.tar.gz", f"{base}/SHA256SUMS", archive, say)
    found = unpack(archive, {name: home / name for name in PROGRAMS})
    archive.unlink()
    if not {"etcd", "etcdctl"} <= set(found):
        raise Unreachable("the release lacks etcd or etcdctl")


def _build(home: Path, version: str, say: Say) -> None:
    go = golang.ensure(say)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=f".{version}-module-") as scratch:
        module = Path(scratch)
        if version == ETCD_DEFAULT:
            for name in ("go.mod", "go.sum"):
                shutil.copyfile(golang.MODULES / "etcd" / name, module / name)
        else:
            _require(go, module, version)
        for name, package in _MODULES.items():
            go.build([package], out=home / name, cwd=module, say=say)


def _require(go: golang.Go, module: Path, version: str) -> None:
    """Write module files for another version; the checksum database vouches for what they name."""
    (module / "go.mod").write_text(f"module etcdlab/tools/etcd\n\ngo {'.'.join(map(str, golang.OLDEST))}\n")
    try:
        go.run(["get", "-tool", *(f"{name}@v{version}" for name in _MODULES.values())], cwd=module)
    except ToolError as error:
        if not exists(go, version):
            raise _no_such(version, listed_versions(go)) from error
        raise


def _from_debian(home: Path, version: str, say: Say) -> None:
    """Unpack Debian's etcd-server and etcd-client, when they are of that version; apt verifies them."""
    offered = run(["apt-cache", "madison", "etcd-server"], check=False).stdout
    if not re.search(rf"\|\s*{re.escape(version)}[-+]", offered):
        have = sorted(set(re.findall(r"\|\s*(\d+\.\d+\.\d+)", offered)))
        raise SettingsError(
            f"{KEY} = {version!r} cannot be had here",
            where="its release cannot be reached, and 3.4 is no Go module",
            next=f"Debian offers {', '.join(have) or 'none'}; or name a directory that holds etcd and etcdctl.",
        )
    say("  taking it from Debian's packages")
    with tempfile.TemporaryDirectory() as scratch:
        run(["apt-get", "download", "etcd-server", "etcd-client"], cwd=Path(scratch), seconds=300)
        for package in Path(scratch).glob("*.deb"):
            run(["dpkg-deb", "-x", str(package), scratch])
        for name in ("etcd", "etcdctl"):
            shutil.copy2(Path(scratch) / "usr" / "bin" / name, home / name)


def _no_such(version: str, have: list[str]) -> SettingsError:
    minor = version.rsplit(".", 1)[0]
    near = [other for other in have if other.startswith(f"{minor}.")] or have
    return SettingsError(
        f"{KEY} = {version!r}: there is no such release of etcd",
        next=f"Of {minor} there are, among others, {', '.join(near)}." if near else "",
    )


def _from_directory(directory: Path) -> EtcdBinaries:
    programs = {name: directory / name for name in PROGRAMS if (directory / name).is_file()}
    lacking = [name for name in ("etcd", "etcdctl") if name not in programs]
    if lacking:
        raise SettingsError(
            f"{KEY} = {str(directory)!r}: there is no {' and no '.join(lacking)} in it",
            next="Name a directory that holds the programs etcd and etcdctl.",
        )
    try:
        said = run([str(programs["etcd"].resolve()), "--version"], seconds=20, check=False)
    except (OSError, ToolError) as error:
        raise SettingsError(f"{KEY}: {programs['etcd']} does not run: {error}") from error
    found = re.search(r"etcd Version: (\d+\.\d+\.\d+)", said.stdout)
    if found is None:
        raise SettingsError(
            f"{KEY}: {programs['etcd']} does not tell its version", next="It must be etcd, built for this machine."
        )
    sha256 = {name: _sha256(path) for name, path in programs.items()}
    return _binaries(directory.resolve(), check_version(found.group(1)), sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
