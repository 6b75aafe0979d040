"""What etcd's unit says in its journal when it does not run: a sign that its data is damaged, or why it cannot start.

Pure, over the text that `SCRIPT` prints on a node. A member is wiped on a sign from its own disk alone,
so what peers and clients do to it is left out: lines of rafthttp, which says `unexpected EOF` of every peer that is
killed, and of the pages for health checks, which name `data_corruption` in an answer that finds none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

LINES: Final = (
    "journalctl --no-pager -o cat -u etcd.service -n 600 | "
    r"grep -aE '^(\{|panic: |fatal error: |unexpected fault|20[0-9][0-9][-/]|etcd\.service: |"
    r"(Starting|Started|Stopp|Failed|Dependency|Assertion)[a-z]* )' | tail -n 150"
)
"""Shell: the last lines of the journal that say something; behind a panic come more lines of stack than are read."""

SCRIPT: Final = (
    "systemctl show -p ActiveState -p SubState -p Result -p NRestarts -p Job etcd.service; echo; "
    f"s=$(systemctl show -P ActiveState etcd.service); [ $s = active ] || {LINES}"
)
"""Shell: how the unit is, an empty line, and its journal unless it is active."""

_AFAR: Final = ("rafthttp/", "etcdhttp/", "v3rpc/", "grpclog/")
"""Packages whose lines (`caller`) tell of peers and clients."""

_OWN: Final = re.compile(
    r"crc mismatch|checksum (error|mismatch)|failed to (read|open) WAL|failed to recover v3 backend|"
    r"tocommit\(\d+\) is out of range|no available snapshot|invalid database|"
    r"unexpected fault address|freepages|page \d+ already freed|invalid page type|assertion failed|"
    r"snapshot .{0,80}doesn't exist|has already been bootstrapped|proto: .{0,40}(illegal|wrong)|"
    r"permanently removed from the cluster",
    re.IGNORECASE,
)
"""What a member says that cannot run on what it has, or that the cluster has removed."""

_LAST_WORDS: Final = re.compile(r"corrupt|unexpected EOF", re.IGNORECASE)
"""The same, where it is the reason of the process's end and nothing else."""

_INCONSISTENT: Final = re.compile(r"data inconsistency with peers", re.IGNORECASE)
"""The check at the start (initial-corrupt-check): somebody's data differs, and it need not be this member's."""

_EXECUTABLE: Final = re.compile(r"etcd\.service: Failed .*?(/\S+): (.+)$")
_FLAGS: Final = re.compile(r"error verifying flags, (.*?)(?: See 'etcd --help'\.)?$")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of etcd's log, or of systemd about the unit."""

    level: str
    caller: str
    text: str
    """Message and error."""


@dataclass(frozen=True, slots=True)
class Unit:
    """How the unit is, and what it said."""

    active: str
    sub: str
    result: str
    restarts: int
    queued: bool
    journal: str

    @property
    def running(self) -> bool:
        """Whether there is a process of it, ready or not yet."""
        return self.active in {"active", "reloading"} or (self.active == "activating" and self.sub == "start")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the unit does not start, in systemd's or etcd's words, and what to do."""

    reason: str
    remedy: str


def read(text: str) -> Unit:
    """From what `SCRIPT` printed; raises ValueError when it is cut short."""
    head, parted, journal = text.partition("\n\n")
    values = dict(line.partition("=")[::2] for line in head.splitlines())
    if "ActiveState" not in values or not parted:
        raise ValueError(f"systemctl said {head[-200:]!r}")
    return Unit(
        values["ActiveState"],
        values.get("SubState", ""),
        values.get("Result", ""),
        int(values.get("NRestarts") or 0),
        (values.get("Job") or "0") != "0",
        journal,
    )


def damage(journal: str) -> str:
    """The sign, in the last two starts of etcd, that its own data is of no use to it; "" when there is none."""
    for line in _telling(_last_runs(journal)):
        ends = line.level in {"fatal", "panic"}
        if _OWN.search(line.text) or (ends and _LAST_WORDS.search(line.text) and not _INCONSISTENT.search(line.text)):
            return line.text
    return ""


def inconsistent(journal: str) -> bool:
    """Whether the member ended because its data and a peer's differ, be it the peer's that is wrong."""
    return any(_INCONSISTENT.search(line.text) for line in _telling(_last_runs(journal)))


def trouble(unit: Unit, node: str) -> Trouble | None:
    """Why the unit does not run; None while it runs, is about to, or does not say."""
    if unit.running or (unit.queued and not unit.restarts):
        return None
    lines = _last_runs(unit.journal)
    for line in reversed(lines):
        if found := _EXECUTABLE.match(line):
            program, reason = found.groups()
            return Trouble(f"{program}: {reason}", _of_program(program, reason, node))
    words = ""
    for told in map(parse, lines):
        flags = told.text.startswith("failed to verify flags") or _FLAGS.search(told.text)
        if flags or told.level in {"fatal", "panic"}:
            words = told.text
    if not words and unit.active in {"failed", "inactive"}:
        words = next(
            (line for line in reversed(lines) if line.startswith(("Dependency failed", "Assertion failed"))), ""
        )
        words = words or f"systemd leaves it {unit.active}"
    if not words and unit.result not in {"", "success"}:
        words = f"systemd says {unit.result}"
    if not words:
        return None
    found = _FLAGS.search(words)
    words = f"failed to verify flags: {found.group(1).rstrip('.')}" if found else words
    return Trouble(words, _of_words(words, node))


def parse(text: str) -> Line:
    """A line as etcd wrote it: zap's JSON, or plain text."""
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        level = "panic" if text.startswith(("panic: ", "fatal error: ", "unexpected fault")) else ""
        return Line(level, "", text.strip()[:300])
    parts = [str(entry[name]).strip() for name in ("msg", "error") if entry.get(name)]
    return Line(str(entry.get("level", "")), str(entry.get("caller", "")), ": ".join(parts)[:300])


def _telling(lines: Sequence[str]) -> Iterator[Line]:
    """Lines about the member itself that are no mere remarks."""
    for line in map(parse, lines):
        told = line.level in {"error", "fatal", "panic"} or line.text.startswith("server error")
        if told and not line.caller.startswith(_AFAR):
            yield line


def _last_runs(journal: str) -> list[str]:
    """The lines of the last two starts: what an earlier member on this node said does not count."""
    lines = journal.splitlines()
    starts = [at for at, line in enumerate(lines) if line.startswith("Starting etcd.service")]
    return lines[starts[-2] if len(starts) > 1 else 0 :]


def _of_program(program: str, reason: str, node: str) -> str:
    if "Permission denied" in reason:
        return f"./lab ssh {node} chmod 755 {program}, then ./lab heal"
    return "./lab up installs it again"


def _of_words(words: str, node: str) -> str:
    if words.startswith("failed to verify flags"):
        return f"./lab ssh {node} cat /etc/etcd/etcd.yaml shows the configuration; ./lab up writes it"
    if "address already in use" in words:
        return f"./lab ssh {node} ss -ltnp shows who has the port; end it, then ./lab heal"
    if re.search(r"permission denied|operation not permitted|read-only file system", words, re.IGNORECASE):
        return f"./lab ssh {node} 'ls -la /var/lib/etcd; lsattr -d /var/lib/etcd/member/*' shows what is in the way"
    return f"./lab logs {node} shows all of it"
