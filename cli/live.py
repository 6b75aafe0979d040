"""While scenarios run, on a terminal only: a line for each member and the step that is being taken.

A plugin of pytest (`-p cli.live`, as ./lab verify starts it), since pytest has the terminal then. What pytest itself
prints goes above these lines. Members are read from the samples that the run writes; where none are fresh, the members
are asked, seldom. Nothing here may disturb a run: what cannot be read is shown as not known.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import pytest

from machine.errors import LabError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from chaos.report import Report

REFRESH_SECONDS: Final = 0.5
ASK_SECONDS: Final = 4.0
"""How often members are asked where no samples are written: each time costs them a TLS handshake."""
FRESH_NS: Final = 5_000_000_000
TAIL_BYTES: Final = 16_384

MARGIN: Final = 4
"""Columns left free, so that the ^C that a terminal shows does not begin a line of its own."""

NAME: Final = "etcd-lab-live"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one member was last seen as."""

    node: str
    role: str
    term: int
    trouble: str
    """ "" when it is well."""


def role_of(*, ok: bool, leader: bool, leader_id: int) -> str:
    """A member's role in a word."""
    if not ok:
        return "silent"
    if leader:
        return "leader"
    return "follower" if leader_id else "no leader"


def from_samples(path: Path, nodes: Sequence[str], now_ns: int) -> list[Seen] | None:
    """Each node's newest sample in the end of a file; None when the newest of all is old, or there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return None
    newest: dict[str, dict[str, Any]] = {}
    for line in lines:
        try:
            sample = json.loads(line)
            newest[str(sample["node"])] = sample
        except (ValueError, KeyError, TypeError):
            continue  # cut off by where we began, or still being written
    if not newest or now_ns - max(int(one.get("at_ns", 0)) for one in newest.values()) > FRESH_NS:
        return None
    return [_from_sample(node, newest.get(node)) for node in nodes]


def _from_sample(node: str, sample: dict[str, Any] | None) -> Seen:
    if sample is None:
        return Seen(node, "?", 0, "not sampled")
    ok = bool(sample.get("ok"))
    role = role_of(ok=ok, leader=bool(sample.get("leader")), leader_id=int(sample.get("leader_id") or 0))
    troubles = [str(one) for key in ("alarms", "errors") for one in sample.get(key) or ()]
    return Seen(node, role, int(sample.get("term") or 0), "; ".join(troubles) if ok else str(sample.get("error", "")))


def step_line(report: Report | None, total: int, now_ns: int) -> str:
    """Where the run is, in a line."""
    if report is None or not report.scenarios:
        return "waiting for the first scenario"
    done = [one for one in report.scenarios if one.ended_ns]
    bad = sum(one.verdict not in ("pass", "skipped") for one in done)
    count = f"{len(done)} done" + (f" of {total}" if total else "") + (f", {bad} not passed" if bad else "")
    current = next((one for one in reversed(report.scenarios) if not one.ended_ns), None)
    if current is None or not current.steps:
        return f"{count} · between scenarios"
    step = current.steps[-1]
    spent = f" {max(0, now_ns - step.started_ns) / 1e9:.0f} s" if not step.ended_ns else ""
    return f"{count} · {current.id} step {len(current.steps)}{spent}: {step.title}"


def drawn(members: Sequence[Seen], step: str) -> list[Text]:
    """The lines; role and trouble are words, so colour is not needed to read them."""
    from rich.text import Text

    wide = max((len(one.node) for one in members), default=0)
    lines = []
    for one in members:
        line = Text(
            f"{one.node:{wide}}  {one.role:9}  term {one.term:<4} "
            if one.term
            else f"{one.node:{wide}}  {one.role:9}  "
        )
        line.append(one.trouble or "healthy", style="yellow" if one.trouble else "green")
        lines.append(line)
    lines.append(Text(step, style="bold"))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines


class Above:
    """In place of the terminal for what pytest prints: whole lines go above the drawn ones."""

    def __init__(self, console: Console, under: TextIO) -> None:
        self._console = console
        self._under = under
        self._rest = ""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a file has
        return getattr(self._under, name)

    def write(self, text: str) -> int:
        """Print the lines that are complete now; pytest's row of dots becomes one when a module is done."""
        from rich.text import Text

        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._console.print(Text.from_ansi(line), soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """A line that is not complete yet waits: it would part the drawn ones."""

    def close_line(self) -> None:
        """Print what is still waiting."""
        if self._rest:
            self.write("\n")


class Watch:
    """Draws until it is closed, from a thread of its own."""

    def __init__(self, directory: Path, stack: str) -> None:
        self.total = 0
        self._dir = directory
        self._stack = stack
        self._closed = threading.Event()
        self._report: Report | None = None
        self._stamp = 0
        self._asked: list[Seen] = []
        self._asked_at = -ASK_SECONDS
        self._live: Live | None = None
        self._stream: TextIO | None = None
        self._thread = threading.Thread(target=self._loop, name=NAME, daemon=True)

    def start(self, config: pytest.Config) -> None:
        """Take the terminal's lower lines, and put what pytest prints above them."""
        from rich.console import Console
        from rich.live import Live

        # while a test runs, pytest redirects descriptor 1: the terminal is kept under another number
        self._stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        console = Console(file=self._stream, force_terminal=True)
        self._fit(console)
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._writer: Any = config.get_terminal_writer()
        self._own = self._writer._file  # noqa: SLF001 - pytest offers no other way to move what it prints
        self._above = Above(console, self._stream)
        self._writer._file = self._above  # noqa: SLF001
        self._live.start()
        self._thread.start()

    def expect(self, scenarios: int) -> None:
        """Say how many scenarios will be played, beside those that the report has already."""
        from chaos.report import load

        try:
            self.total = scenarios + len(load(self._dir).scenarios)
        except LabError:  # no report yet: this run begins it
            self.total = scenarios

    def close(self) -> None:
        """Give the terminal back; calling it again does nothing."""
        if self._closed.is_set() or self._live is None:
            return
        self._closed.set()
        self._thread.join(timeout=2)
        self._above.close_line()
        self._writer._file = self._own  # noqa: SLF001
        self._live.stop()

    def _fit(self, console: Console) -> None:
        """Tell the console the terminal's size: it would look at descriptors that pytest has redirected."""
        if self._stream is not None:
            columns, lines = os.get_terminal_size(self._stream.fileno())
            console.size = max(20, columns - MARGIN), lines

    def _loop(self) -> None:
        from rich.console import Group

        while not self._closed.wait(REFRESH_SECONDS):
            if self._live is None:
                return
            try:
                self._read()
                lines = drawn(self._members(), step_line(self._report, self.total, time.monotonic_ns()))
            except Exception as error:  # noqa: BLE001 - a picture that fails may not fail the run
                from rich.text import Text

                lines = [Text(f"no status: {type(error).__name__}: {error}", no_wrap=True, overflow="ellipsis")]
            if not self._closed.is_set():
                self._fit(self._live.console)
                self._live.update(Group(*lines), refresh=True)

    def _read(self) -> None:
        from chaos.report import load

        stamp = (self._dir / "report.json").stat().st_mtime_ns
        if stamp != self._stamp:
            self._report, self._stamp = load(self._dir), stamp

    def _members(self) -> list[Seen]:
        scenarios = self._report.scenarios if self._report else []
        lab = self._report.lab if self._report else None
        if lab is None:
            return []
        if scenarios:
            samples = self._dir / "scenarios" / scenarios[-1].id / "samples.jsonl"
            found = from_samples(samples, lab.node_names, time.monotonic_ns())
            if found is not None:
                return found
        if time.monotonic() - self._asked_at >= ASK_SECONDS:
            self._asked = self._ask()
            self._asked_at = time.monotonic()
        return self._asked

    def _ask(self) -> list[Seen]:
        from infra.cluster import Cluster
        from infra.manifest import load
        from machine.paths import stack_paths

        paths = stack_paths(self._stack)
        try:
            statuses = Cluster(load(paths), paths).status()
        except LabError as error:
            return [Seen("members", "?", 0, str(error))]
        return [
            Seen(
                one.node,
                role_of(ok=one.ok, leader=one.leader, leader_id=one.leader_id),
                one.raft_term,
                "; ".join(one.errors) if one.ok else one.error,
            )
            for one in statuses
        ]


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Begin, where somebody looks at a terminal."""
    from chaos.report import RUN_VARIABLE
    from cli.terminal import is_terminal
    from machine.paths import DEFAULT_STACK

    directory = os.environ.get(RUN_VARIABLE)
    if directory is None or not is_terminal() or config.getoption("collectonly"):
        return
    watch = Watch(Path(directory), os.environ.get("ETCD_LAB_STACK") or DEFAULT_STACK)
    config.pluginmanager.register(_Hooks(watch), NAME)
    watch.start(config)


class _Hooks:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._watch.expect(len(session.items))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._watch.close()

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        self._watch.close()
