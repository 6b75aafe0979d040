"""A worker's own file: each operation twice, when it is invoked and when it is over, flushed both times.

The first line has no `outcome`; if no second follows, since the worker or this machine died in between, `completed`
makes it an operation of unknown outcome. So nothing that may have reached the cluster is ever missing from a history.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from chaos.workload.outcome import READS, REFUSED, classify

Line = dict[str, Any]

STRIDE = 1000
"""Process numbers of one worker are this far apart: its own number below it says which worker it was."""


class Log:
    """Writes a worker's file. Raises OSError when the disk does."""

    def __init__(self, path: Path, worker: int, member: str) -> None:
        self._file = path.open("a", buffering=1 << 16)
        self._process = worker
        self._member = member
        self._begun: Line = {}

    def begin(self, request: Line, invoke_ns: int) -> None:
        """An operation is about to be sent."""
        self._begun = {"process": self._process, **request, "invoke_ns": invoke_ns, "member": self._member}
        self._write(self._begun)

    def end(self, answer: Line) -> Line:
        """It is over: its line of the history. After an unknown outcome the worker goes on under another number."""
        line = self._begun | answer
        code, error = line.pop("code"), line.pop("error", "")
        line["outcome"] = classify(code, error, read=line["op"] in READS)
        if line["outcome"] != "ok":
            line["error"] = f"{code}: {error}"
        if line["outcome"] == "unknown":
            line["return_ns"] = None
            line["gave_up_ns"] = answer["return_ns"]
        self._write(line)
        if code != "OK" and code not in REFUSED:
            # also where the connection may be another one: a member that began anew may show less than it had before
            self._process += STRIDE
        return line

    def event(self, line: Line) -> None:
        """One line of a watch."""
        self._write(line)

    def _write(self, line: Line) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lines(path: Path) -> Iterator[Line]:
    """Every whole line of a file that may have been cut off in the last one."""
    with path.open("rb") as file:
        for text in file:
            if text.endswith(b"\n"):
                yield json.loads(text)


def completed(found: Iterable[Line]) -> Iterator[Line]:
    """The operations of one worker's file, those that were never over as of unknown outcome (reads are left out)."""
    begun: Line | None = None
    for line in found:
        if "outcome" in line:
            begun = None
            yield line
            continue
        yield from _given_up(begun)
        begun = line
    yield from _given_up(begun)


def _given_up(begun: Line | None) -> Iterator[Line]:
    if begun is not None and begun["op"] not in READS:
        yield begun | {"return_ns": None, "outcome": "unknown", "error": "the client died"}


def merge(histories: list[Path], into: Path, meta: Line) -> int:
    """Join workers' files into one history, by time of invocation; gives the number of operations."""
    count = 0
    with into.open("w") as file:
        file.write(json.dumps({"meta": meta}) + "\n")
        each = (sorted(completed(lines(path)), key=_invoked) for path in histories if path.exists())
        for line in heapq.merge(*each, key=_invoked):
            file.write(json.dumps(line) + "\n")
            count += 1
    return count


def _invoked(line: Line) -> int:
    return int(line["invoke_ns"])


def join(watches: list[Path], into: Path) -> int:
    """Join watch files, one whole watch after the other; gives the number of lines. Without any, no file is made."""
    count = 0
    for path in watches:
        if path.exists() and path.stat().st_size:
            with into.open("a") as file:
                for line in lines(path):
                    file.write(json.dumps(line) + "\n")
                    count += 1
    return count
