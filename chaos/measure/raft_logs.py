"""The members' WAL files, copied beside the history while etcd goes on writing them.

They are 64 MB each, preallocated (wal.go, SegmentSizeBytes). Neither GNU tar nor cp takes such a file for sparse, since
all its blocks are allocated (tar 1.34 create.c, ST_IS_SPARSE; tried); but the file system knows which were never
written (FIEMAP, which filefrag of e2fsprogs shows). What etcd has synced is among the written ones, and what it writes
between looking and copying is left out, as if the copy had been made a moment earlier.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import re
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from chaos.checker.errors import WalError
from chaos.checker.raftlog.copies import Copies, keep, load, note
from chaos.checker.raftlog.wal_reader import needed
from chaos.lab.lab import Lab
from infra.layout import DATA_DIR
from machine.errors import LabError

DIRECTORY: Final = f"{DATA_DIR}/member/wal"

SECONDS: Final = 60.0
"""For one call into a member: packing and sending some MB takes seconds under TCG."""

MOST_BYTES: Final = 16 << 20
"""Of one member: at some 3 MB/s more would take longer to read than a scenario's checks may."""


def collect(lab: Lab, nodes: Sequence[str], index: int, into: Path) -> Copies:
    """The logs of these members, which are all that vote, from `index` on, as far as they could be read.

    The copies stay under `into`, a directory per member. All members are asked at once.
    """

    def one(node: str) -> str:
        try:
            keep(into, node, fetch(lab, node, index + 1))
        except (LabError, WalError, OSError) as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        missed = {node: why for node, why in zip(nodes, pool.map(one, nodes), strict=True) if why}
    note(into, nodes, index, missed)
    return load(into)


def fetch(lab: Lab, node: str, index: int) -> list[tuple[str, bytes]]:
    """Name and what is written of the files that hold entries from `index` on. Raises LabError."""
    shell = lab.shell(node)
    listed = shell.run(f"cd {DIRECTORY} && ls", seconds=SECONDS).stdout.split()
    names = needed([name for name in listed if re.fullmatch(r"[0-9a-f]+-[0-9a-f]+\.wal", name)], index)
    if not names:
        raise WalError(f"No log in {DIRECTORY} of {node}")
    # where filefrag says nothing, the whole of a file is looked at
    look = (
        f"cd {DIRECTORY}; for f in {' '.join(names)}; do stat -c %s $f && {{ filefrag -v $f 2>/dev/null; echo; }}; done"
    )
    sizes = [written(text) for text in shell.run(look, seconds=SECONDS).stdout.split("\n\n") if text.strip()]
    if len(sizes) != len(names):
        raise WalError(f"The log of {node} changed its files meanwhile")
    if (total := sum(sizes)) > MOST_BYTES:
        raise WalError(f"The files that hold the log of the scenario have {total >> 20} MiB, more than is read")
    pairs = zip(names, sizes, strict=True)
    send = "".join(f"head -c {size} {name} | gzip -1 | base64 -w0; echo\n" for name, size in pairs)
    return unpack(shell.run(f"cd {DIRECTORY}\n{send}", seconds=SECONDS).stdout, names, sizes)


def written(text: str) -> int:
    """Bytes from a file's begin to the end of its last block that was written.

    `text`: its size, and what `filefrag -v` says of its extents, if that says anything. Raises WalError.
    """
    size = re.match(r"\s*(\d+)", text)
    if size is None:
        raise WalError(f"The size of a file of the log was not told: {text[:80]!r}")
    block = re.search(r"blocks? of (\d+) bytes", text)
    if block is None:
        return int(size[1])
    extents = re.findall(r"^ *\d+: +\d+\.\. *(\d+):(.*)$", text, re.MULTILINE)
    last = max((int(end) + 1 for end, rest in extents if "unwritten" not in rest), default=0)
    return min(int(size[1]), last * int(block[1]))


def unpack(text: str, names: Sequence[str], sizes: Sequence[int]) -> list[tuple[str, bytes]]:
    """Names and contents, out of a line of base64 of gzip for each file. Raises WalError when one is not whole."""
    found = []
    lines = text.splitlines()
    if len(lines) != len(names):
        raise WalError(f"The copy of the log did not come whole: {len(lines)} of {len(names)} files")
    for name, size, line in zip(names, sizes, lines, strict=True):
        try:
            data = gzip.decompress(base64.b64decode(line))
        except (binascii.Error, EOFError, OSError, zlib.error) as error:
            raise WalError(f"The copy of the log did not come whole: {error}", where=name) from None
        if len(data) != size:
            raise WalError(f"The copy of the log did not come whole: {len(data)} of {size} bytes", where=name)
        found.append((name, data))
    return found
