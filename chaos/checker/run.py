"""A history's verdict with the members' logs as evidence, where writes are open that nothing else settles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.checker.errors import WalError
from chaos.checker.files import load_run
from chaos.checker.log_evidence import Evidence, find, open_writes
from chaos.checker.model import History
from chaos.checker.raftlog.copies import NAME, Copies, load
from chaos.checker.verdict import Report, Verdict, check
from chaos.checker.watches import Event, told


@dataclass(frozen=True, slots=True)
class Settled:
    """The verdict, and what the logs had to do with it."""

    report: Report
    looked: bool = False
    """Whether logs were looked at."""
    found: Evidence = field(default_factory=Evidence)
    missed: Mapping[str, str] = field(default_factory=dict)
    """Member, or `all` -> why its log was not used."""

    def said(self) -> str:
        """In words, empty when they were not looked at."""
        if not self.looked:
            return ""
        found = self.found
        not_read = "".join(f"; log of {member} not used: {why}" for member, why in self.missed.items())
        return (
            f"by the log {len(found.happened)} as done and {len(found.never)} as never done, "
            f"{len(found.committed)} committed at an unknown revision{not_read}"
        )

    def text(self) -> str:
        """For a person."""
        return self.report.text() + (f"\nwrites of unknown outcome: {self.said()}" if self.looked else "")

    def data(self) -> dict[str, object]:
        """The report's object, with `logs` when they were looked at."""
        if not self.looked:
            return self.report.data()
        found = self.found
        rows = {"done": found.happened, "never": found.never, "committed": found.committed}
        logs = {name: len(those) for name, those in rows.items()} | {"missed": dict(self.missed)}
        return self.report.data() | {"logs": logs}


def check_with_logs(
    history: History, events: Sequence[Event], logs: Callable[[], Copies | None], *, seconds: float
) -> Settled:
    """Check a history, and once more with what the logs say, if that settles anything; each may take `seconds`.

    `logs` is called only where a write of unknown outcome is left open; None: there are none to be trusted.
    """
    report = check(history, events, seconds=seconds)
    left = open_writes(history, report.settled)
    # without an answer there is nothing to judge, whatever the logs say of the writes
    copies = logs() if left and history.acknowledged and report.verdict != Verdict.VIOLATION else None
    if copies is None:
        return Settled(report)
    missed, found = dict(copies.missed), Evidence()
    try:
        found = find(
            history, told(history, events), left, copies.logs, members=copies.members, base_index=copies.base_index
        )
    except WalError as error:
        missed["all"] = str(error)
    if found.settled:
        report = check(found.applied(history), events, known=found.told, seconds=seconds)
    return Settled(report, looked=True, found=found, missed=missed)


def check_run(path: Path, *, seconds: float) -> Settled:
    """Check a history file, with the watch.jsonl and the copies of members' logs that lie beside it.

    Raises HistoryError for what cannot be read.
    """
    history, events = load_run(path)
    copies = path.with_name(NAME)
    return check_with_logs(history, events, lambda: load(copies) if copies.is_dir() else None, seconds=seconds)
