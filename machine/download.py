"""Release archives over https, each verified by the checksum file of the same release.

No checksum is kept here: the file that the release publishes is fetched beside the archive. A
host that cannot be reached is no error, since everything can also be built from Go modules.
"""

from __future__ import annotations

import hashlib
import http.client
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Final

from machine.errors import LabError
from machine.log import Say

CONNECT_SECONDS: Final = 5.0
"""Limit for a connection, and for silence on it: a mirror-only machine must not wait for long."""

_BLOCK: Final = 1 << 20


class Unreachable(Exception):  # noqa: N818 - not an error: the next source is tried
    """The release cannot be had from there; the text says why."""


class ChecksumError(LabError):
    """What was downloaded is not what the release says it is."""

    exit_code = 2


def open_url(url: str) -> IO[bytes]:
    """Open `url` for reading; raises Unreachable."""
    try:
        return urllib.request.urlopen(url, timeout=CONNECT_SECONDS)  # type: ignore[no-any-return]  # noqa: S310
    except urllib.error.HTTPError as error:
        raise Unreachable(f"{url}: {error.code} {error.reason}") from error
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{url}: {getattr(error, 'reason', error)}") from error


def checksums(text: str) -> dict[str, str]:
    """File name to SHA-256 from the text of a checksum file (as sha256sum prints it).

    >>> checksums("00ff  a.tar.gz\\n11ee *b.tar.gz\\n")
    {'a.tar.gz': '00ff', 'b.tar.gz': '11ee'}
    """
    lines = (line.split() for line in text.splitlines())
    return {words[1].lstrip("*"): words[0].lower() for words in lines if len(words) == 2}


def fetch_verified(url: str, sums_url: str, to: Path, say: Say) -> None:
    """Fetch `url` to the file `to` and verify it by the checksum file at `sums_url`.

    Raises Unreachable when either cannot be had, or the checksum file does not name the archive;
    ChecksumError when they do not agree.
    """
    name = url.rsplit("/", 1)[1]
    with open_url(sums_url) as stream:
        expected = checksums(_read(stream, sums_url).decode(errors="replace")).get(name)
    if expected is None:
        raise Unreachable(f"{sums_url} names no {name}")
    say(f"  downloading {name}")
    digest = hashlib.sha256()
    try:
        with open_url(url) as stream, to.open("wb") as out:
            while block := stream.read(_BLOCK):
                digest.update(block)
                out.write(block)
    except (TimeoutError, http.client.HTTPException) as error:
        raise Unreachable(f"{url}: {error}") from error
    if digest.hexdigest() != expected:
        to.unlink()
        raise ChecksumError(
            f"{name} has SHA-256 {digest.hexdigest()}, the release says {expected}",
            where=url,
            next="Try again; if it stays so, something between here and there changes files: do not use it.",
        )


def unpack(archive: Path, names: dict[str, Path]) -> list[str]:
    """Take members of a tar archive out, by their last path component, as executables.

    Returns the names that were found. A member is read as data, so no path in it can lead astray.
    """
    found: list[str] = []
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.rsplit("/", 1)[-1]
            if member.isfile() and name in names and name not in found:
                source = tar.extractfile(member)
                if source is not None:
                    names[name].parent.mkdir(parents=True, exist_ok=True)
                    names[name].write_bytes(source.read())
                    names[name].chmod(0o755)
                    found.append(name)
    return found


def _read(stream: IO[bytes], url: str) -> bytes:
    try:
        return stream.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{url}: {error}") from error
