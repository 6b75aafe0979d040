"""The guest image: built from a recipe, downloaded, or a file of the user's.

    build     Debian by mmdebstrap (machine/guest), with its kernel and initramfs beside it for direct boot
    URL       downloaded and checked by SHA-256; boots by its own boot loader and cloud-init
    path      a qcow2 file as it is

Built and downloaded images are kept in `$XDG_CACHE_HOME/etcd-lab/images/DIGEST/`, shared by all
checkouts: made aside under a lock, and renamed when whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from machine import guest
from machine.errors import DeadlineError, LabError, RequirementError, SettingsError, ToolError
from machine.log import Say
from machine.paths import cache_dir
from machine.process import exclusive

BUILD: Final = "build"
"""The `image` setting that asks for our own image."""

CMDLINE: Final = (
    "root=LABEL=root rw quiet console=ttyS0 net.ifnames=0 mitigations=off apparmor=0 audit=0 selinux=0"
    " cryptomgr.notests nokaslr random.trust_cpu=on"
)
"""Kernel command line of the built image; what it leaves out was measured to cost boot time under TCG."""

_DISK_FULL: Final = ("No space left on device", "not enough free space", "Could not allocate block")


@dataclass(frozen=True, slots=True)
class Image:
    """A guest image. `kernel` and `initrd` are set when it boots by direct kernel boot."""

    path: Path
    kernel: Path | None
    initrd: Path | None
    digest: str
    """Tells one image from another: of the recipe, or of the content."""

    @property
    def cmdline(self) -> str | None:
        """Kernel command line, for direct boot."""
        return CMDLINE if self.kernel else None


def ensure_image(spec: str, sha256: str | None, say: Say) -> Image:
    """The image that `spec` ("build", an http(s) URL, a path) asks for, made or fetched when missing.

    Raises SettingsError for an impossible spec or a wrong checksum, RequirementError for a full
    disk or missing programs, ToolError when the build fails. Nothing half-made stays.
    """
    if spec == BUILD:
        return _built(say)
    if spec.startswith(("http://", "https://")):
        return _downloaded(spec, sha256, say)
    return _given(Path(spec).expanduser(), sha256)


def cached(spec: str, sha256: str | None = None) -> bool:
    """Whether ensure_image would answer at once."""
    if spec == BUILD:
        return (_home(guest.digest()) / guest.DISK).exists()
    if spec.startswith(("http://", "https://")):
        return sha256 is not None and (_home(sha256.lower()) / guest.DISK).exists()
    return True


def _home(digest: str) -> Path:
    return cache_dir() / "images" / digest


def _built(say: Say) -> Image:
    digest = guest.digest()
    home = _home(digest)

    def make(into: Path) -> None:
        say("Building the guest image (Debian packages from the mirror; about 2 minutes) …")
        started = time.monotonic()
        guest.build(into, say)
        say(f"Guest image built in {time.monotonic() - started:.0f} s")

    _make_once(home, make)
    return Image(home / guest.DISK, home / guest.KERNEL, home / guest.INITRD, digest)


def _downloaded(url: str, sha256: str | None, say: Say) -> Image:
    if sha256 is None:
        raise SettingsError(
            "An image from the network needs its SHA-256",
            where="etcd-lab:image-sha256",
            next="Set it to the checksum that the image's publisher gives (64 hex digits).",
        )
    digest = _checksum_word(sha256)

    def make(into: Path) -> None:
        say(f"Downloading {url} …")
        actual = _download(url, into / guest.DISK, say)
        if actual != digest:
            raise SettingsError(
                f"The image has another checksum: {actual}",
                where=f"{url}, etcd-lab:image-sha256 = {digest}",
                next="Correct the checksum, or find out who changed the image. The download was removed.",
            )

    home = _home(digest)
    _make_once(home, make)
    return Image(home / guest.DISK, None, None, digest)


def _given(path: Path, sha256: str | None) -> Image:
    if not path.is_file():
        raise SettingsError(
            f"There is no image {str(path)!r}",
            where="etcd-lab:image",
            next='Give "build", an http(s) URL with etcd-lab:image-sha256, or the path of a qcow2 file.',
        )
    with path.open("rb") as stream:
        if stream.read(4) != b"QFI\xfb":  # qcow2's magic, QEMU docs/interop/qcow2.txt
            raise SettingsError(
                f"{str(path)!r} is no qcow2 image",
                where="etcd-lab:image",
                next="Convert it with qemu-img convert -O qcow2.",
            )
        stream.seek(0)
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 is not None and actual != _checksum_word(sha256):
        raise SettingsError(
            f"The image has another checksum: {actual}",
            where=f"{path}, etcd-lab:image-sha256",
            next="Correct the checksum, or take the right image.",
        )
    return Image(path.resolve(), None, None, actual)


def _checksum_word(sha256: str) -> str:
    word = sha256.strip().lower()
    if len(word) != 64 or set(word) - set("0123456789abcdef"):
        raise SettingsError(
            f"{sha256!r} is no SHA-256", where="etcd-lab:image-sha256", next="It has 64 hexadecimal digits."
        )
    return word


def _make_once(home: Path, make: Callable[[Path], None]) -> None:
    """Fill `home` by `make`, once for all processes; leaves nothing behind when that fails."""
    if home.exists():
        return
    with _disk_full_named(home.parent):
        home.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(home.parent / ".lock"):
            if home.exists():  # another one made it while we waited
                return
            for left in home.parent.glob(".making-*"):  # by one that was killed: the lock is ours now
                shutil.rmtree(left, ignore_errors=True)
            aside = Path(tempfile.mkdtemp(prefix=".making-", dir=home.parent))
            try:
                make(aside)
                aside.chmod(0o755)
                aside.rename(home)
            finally:
                shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _disk_full_named(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _disk_full(where) from error
    except ToolError as error:
        if not any(sign in error.tail for sign in _DISK_FULL):
            raise
        raise _disk_full(where) from error


def _disk_full(where: Path) -> RequirementError:
    free = shutil.disk_usage(where if where.exists() else where.anchor).free >> 20
    return RequirementError(
        f"The disk is full: {free} MiB are free, the guest image needs {guest.NEEDED_MIB} MiB while it is made",
        where=str(where),
        next="Free some space, or set XDG_CACHE_HOME to a larger disk. Nothing half-made was left.",
    )


def _download(url: str, path: Path, say: Say) -> str:
    """Fetch `url` into `path`; gives the SHA-256 of what came."""
    digest = hashlib.sha256()
    told = time.monotonic()
    got = 0
    try:
        with urllib.request.urlopen(url, timeout=30) as answer, path.open("wb") as out:  # noqa: S310 - only http(s) comes here
            size = int(answer.headers.get("Content-Length") or 0)
            while block := answer.read(1 << 20):
                out.write(block)
                digest.update(block)
                got += len(block)
                if time.monotonic() - told > 5:
                    told = time.monotonic()
                    say(f"  {got >> 20} MiB" + (f" of {size >> 20}" if size else ""))
            if size and got != size:
                raise LabError(f"The download ended after {got} of {size} bytes", where=url, next="Try again.")
            out.flush()
            os.fsync(out.fileno())
    except TimeoutError as error:
        raise DeadlineError("Downloading the image", seconds=30, where=url, next="Try again.") from error
    except urllib.error.URLError as error:
        raise RequirementError(
            f"The image cannot be fetched: {error.reason}",
            where=url,
            next='Check etcd-lab:image, or set it to "build" to have one made from Debian packages.',
        ) from error
    return digest.hexdigest()
