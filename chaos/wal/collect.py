"""The members' WAL files, copied beside the history while etcd goes on writing them.

They are 64 MB each, preallocated (wal.go, SegmentSizeBytes); GNU tar's --sparse sends only what was written, since
file systems tell of preallocated blocks as of holes (lseek(2), SEEK_DATA).
"""

from __future__ import annotations

import base64
import binascii
import io
import shlex
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chaos.wal.reading import Log, WalError, needed, read_log
from machine.errors import LabError

if TYPE_CHECKING:
    from chaos.lab import Lab

DIRECTORY: Final = "/var/lib/etcd/member/wal"

SECONDS: Final = 60.0
"""For one member: packing and sending some MB takes seconds under TCG."""

MOST_BYTES: Final = 16 << 20
"""Of one member: at some 3 MB/s more would take longer to read than a scenario's checks may."""

BLOCK: Final = 4096


def collect(lab: Lab, nodes: Sequence[str], index: int, into: Path) -> tuple[list[Log], Mapping[str, str]]:
    """The logs of these members from `index` on, as far as they could be read; why not of the others.

    The files stay under `into`, a directory per member, without the empty rest.
    """
    logs, missed = [], {}
    for node in nodes:
        try:
            files = fetch(lab, node, index + 1)
            keep(files, into / node)
            logs.append(read_log(node, files))
        except (LabError, OSError) as error:
            missed[node] = str(error)
    return logs, missed


def fetch(lab: Lab, node: str, index: int) -> list[tuple[str, bytes]]:
    """Name and content, without the empty rest, of the files that hold entries from `index` on. Raises LabError."""
    shell = lab.shell(node)
    listed = shell.run(f"cd {DIRECTORY} && ls", seconds=SECONDS).stdout.split()
    names = needed([name for name in listed if name.endswith(".wal")], index)
    # status 1 of tar: a file was written to meanwhile, which is expected
    script = f"tar -C {DIRECTORY} --sparse -cf - {shlex.join(names)} 2>/dev/null | gzip -1 | base64 -w0"
    return unpack(shell.run(script, seconds=SECONDS).stdout, names)


def unpack(text: str, names: Sequence[str]) -> list[tuple[str, bytes]]:
    """The named files of an archive in base64, each up to its last block that is not empty. Raises WalError."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text)), mode="r:gz") as archive:
            for member in archive:
                file = archive.extractfile(member)
                found[member.name] = _trimmed(file.read()) if file else b""
    except (tarfile.TarError, binascii.Error, EOFError, OSError) as error:
        raise WalError(f"The copy of the log did not come whole: {error}") from None
    if missing := [name for name in names if name not in found]:
        raise WalError(f"Not in the copy of the log: {', '.join(missing)}")
    if (size := sum(map(len, found.values()))) > MOST_BYTES:
        raise WalError(f"The log since the scenario began has {size >> 20} MiB, more than is read")
    return [(name, found[name]) for name in names]


def _trimmed(data: bytes) -> bytes:
    size = len(data.rstrip(b"\0"))
    return data[: size + -size % BLOCK]


def keep(files: Sequence[tuple[str, bytes]], into: Path) -> None:
    """Write them down."""
    into.mkdir(parents=True, exist_ok=True)
    for name, data in files:
        (into / name).write_bytes(data)
