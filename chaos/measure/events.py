"""What etcd's own log says, on the host's time line: elections, leaders lost and won, slow applies, processes.

The messages are those of raft and etcd 3.4 to 3.7 (R raft.go, node.go; E server/etcdserver, rafthttp), matched as text,
so that JSON lines and 3.4's plain ones are read alike.
"""

from __future__ import annotations

import datetime
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from chaos.measure.clocks import ClockMap
from infra.view import go_seconds
from machine.errors import ToolError
from machine.process import tail
from machine.ssh import Shell

Kind = Literal["election", "leader-lost", "leader-elected", "slow-apply", "health", "power", "process", "other"]

MOST_OTHER: Final = 200
"""Further warnings and errors kept per node: a member without its peers complains ten times a second."""

LATE_LOG: Final = 5.0
"""Seconds by which journald may receive a line after etcd wrote it, at most; more is a clock that was set."""

TEXT: Final = 400
"""Characters of a message that are kept."""

_KINDS: Final[tuple[tuple[Kind, str], ...]] = (
    ("election", r"is starting a new election|became (pre-)?candidate at term"),
    ("leader-elected", r"became leader at term|elected leader \w+ at term|changed leader from"),
    ("leader-lost", r"lost leader|stepped down to follower|to follower since quorum is not active"),
    ("slow-apply", r"(apply )?request .*took too long|apply entries took too long"),
    ("health", r"^peer became|^prober detected|health check|/health|failed to send out heartbeat"),
    ("health", r"(lost|established) (the )?TCP streaming"),
    ("process", r"^(Started|Starting|Stopped|Stopping|Failed to start) |Main process exited|Scheduled restart"),
    (
        "process",
        r"newRaft|starting (an )?etcd server|closed etcd server|received signal|Deactivated successfully|panic|fatal",
    ),
)
_PATTERNS: Final = tuple((kind, re.compile(pattern)) for kind, pattern in _KINDS)

_COMMAND: Final = (
    "journalctl -u etcd.service --no-pager -q -o json --output-fields=MESSAGE,PRIORITY {start} "
    '| grep -v -e traceutil -e \'"level":"debug"\' | tail -n {lines}'
)
LINES: Final = 20000
"""Lines of one node's journal that are fetched at most, the newest ones."""

_CONSOLE: Final = re.compile(
    r"^(\S+)\t(debug|info|warn|error|dpanic|panic|fatal)\t(?:[\w./-]+\t)*?(?:\S+\.go:\d+\t)?([^\t]*)(?:\t(\{.*\}))?$",
    re.I,
)
"""etcd's `log-format: console` (zap's console encoder): time, level, logger, caller, message, fields as JSON."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on a node; `at_ns` of the host's CLOCK_MONOTONIC."""

    at_ns: int
    node: str
    kind: Kind
    text: str

    @property
    def term(self) -> int | None:
        """The term that the text names last."""
        found = re.findall(r"at term (\d+)", self.text)
        return int(found[-1]) if found else None

    @property
    def seconds(self) -> float:
        """Host time in seconds."""
        return self.at_ns / 1e9


def kind_of(message: str) -> Kind | None:
    """What a log message tells of; None for what is none of our kinds."""
    return next((kind for kind, pattern in _PATTERNS if pattern.search(message)), None)


def parse(node: str, text: str, clock: ClockMap) -> Iterator[Event]:
    """Events of a node from `journalctl -o json` lines; lines of boots that cannot be placed are left out."""
    others = 0
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        said = entry.get("MESSAGE")
        if not isinstance(said, str):
            continue
        message, level, wrote = unwrap(said)
        kind = kind_of(message)
        if kind is None:
            if level not in ("warn", "error", "panic", "fatal") or others >= MOST_OTHER:
                continue
            others += 1
            kind = "other"
        guest = int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6 - lag(entry, wrote)
        at_ns = clock.host_ns(str(entry["_BOOT_ID"]), guest)
        if at_ns is not None:
            yield Event(at_ns, node, kind, message[:TEXT])


def unwrap(said: str) -> tuple[str, str, float | None]:
    """Message, level and wall-clock second of a line of etcd's: JSON (zap), or text as it is.

    >>> unwrap('{"level":"warn","ts":"2026-01-01T00:00:01.5Z","msg":"lost leader","took":"1s"}')
    ('lost leader took=1s', 'warn', 1767225601.5)
    """
    fields: dict[str, Any]
    try:
        if console := _CONSOLE.match(said):
            fields = json.loads(console[4] or "{}") | {"ts": console[1], "level": console[2].lower(), "msg": console[3]}
        elif said.startswith("{"):
            fields = json.loads(said)
        else:
            return said, "", None
    except ValueError:
        return said, "", None
    words = [str(fields.pop("msg", ""))]
    level, wrote = str(fields.pop("level", "")), fields.pop("ts", None)
    words += [f"{key}={value}" for key, value in fields.items() if key not in ("caller", "logger", "stacktrace")]
    try:
        second = datetime.datetime.fromisoformat(str(wrote).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return " ".join(words), level, None
    return " ".join(words), level, second


def lag(entry: dict[str, Any], wrote: float | None) -> float:
    """Seconds from etcd's writing a line to journald's receiving it; both by the guest's wall clock at that moment.

    0 where a clock that was set between makes nonsense of it.
    """
    if wrote is None:
        return 0.0
    late = int(entry["__REALTIME_TIMESTAMP"]) / 1e6 - wrote
    return late if 0 <= late <= LATE_LOG else 0.0


def fetch(shell: Shell, since: float, known: str = "", seconds: float = 40.0) -> str:
    """Journal lines of etcd on a node since a second of the guest's wall clock. Raises LabError.

    What is `known` of it is not asked for again: each line takes an emulated guest 3 ms. Gives all, that included.
    Raises LabError too when journalctl complains, as it does of a place in the journal that was rotated away.
    """
    cursor = _last_cursor(known)
    start = f"--after-cursor={shlex.quote(cursor)}" if cursor else f"--since=@{max(1, round(since))}"
    done = shell.run(_COMMAND.format(start=start, lines=LINES), seconds=seconds, check=False)
    if not done.stdout and done.stderr.strip():
        raise ToolError(f"The journal of {shell.name} cannot be read: {tail(done.stderr, 2)}")
    return known + done.stdout if cursor else done.stdout


_WHOLE: Final = (
    "journalctl -q --no-pager -o cat -n 1 --until=@{since} | head -n 1 | wc -l; "
    "journalctl -q --no-pager -o cat -u systemd-journald.service --since=@{since} | grep -c 'Suppressed .*etcd.service'"
)


def lost(shell: Shell, since: float, seconds: float = 40.0) -> str:
    """What a node's journal has dropped since a second of the guest's wall clock, in words; "" for nothing.

    It was rotated when it holds nothing from before (journald.conf, SystemMaxUse); lines over RateLimitBurst are
    suppressed, and journald says so. Raises LabError.
    """
    said = shell.run(_WHOLE.format(since=max(1, round(since))), seconds=seconds, check=False).stdout.split()
    if len(said) != 2:
        return "whether lines were dropped is not known"
    return "; ".join(
        words
        for words, there in (
            ("it was rotated meanwhile, so that its beginning is gone", said[0] == "0"),
            ("journald suppressed lines of etcd, which came too fast", said[1] != "0"),
        )
        if there
    )


def unplaced(text: str, clock: ClockMap) -> int:
    """Lines of boots that were never read, which `parse` leaves out."""
    boots = Counter(re.findall(r'"_BOOT_ID" ?: ?"(\w+)"', text))
    return sum(count for boot, count in boots.items() if boot not in clock.boots())


def _last_cursor(text: str) -> str:
    """The place in the journal (systemd.journal-fields(7)) of the last line; "" where there is none."""
    if not text.endswith("\n"):
        return ""
    last = text.rstrip("\n").rpartition("\n")[2]
    try:
        return str(json.loads(last).get("__CURSOR", ""))
    except ValueError:
        return ""


def write_events(path: Path, events: Iterable[Event]) -> list[Event]:
    """Write events in order of time, one JSON line each; gives them so."""
    ordered = sorted(events, key=lambda event: event.at_ns)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(event)) + "\n" for event in ordered))
    return ordered


def read_events(path: Path) -> list[Event]:
    """The events of a file, [] when there is none."""
    if not path.exists():
        return []
    return [Event(**json.loads(line)) for line in path.read_text().splitlines() if line.strip()]


def late_heartbeat(events: Iterable[Event], begin_ns: int, end_ns: int) -> float:
    """Seconds by which a leader sent a heartbeat late, at worst, by its own log between two times."""
    late = (
        found[1]
        for event in events
        if begin_ns <= event.at_ns <= end_ns
        and "failed to send out heartbeat" in event.text
        and (found := re.search(r"exceeded-duration=(\S+)", event.text))
    )
    return max((go_seconds(one) for one in late), default=0.0)


def rounds(events: Iterable[Event], begin_ns: int, end_ns: int) -> int:
    """Campaigns of the member that made most between two times, at least 1: what the election rules call rounds."""
    made: dict[str, int] = {}
    for event in events:
        if event.kind == "election" and "starting a new election" in event.text and begin_ns <= event.at_ns <= end_ns:
            made[event.node] = made.get(event.node, 0) + 1
    return max(made.values(), default=1)
