"""The verdict on a foreign history, and its history in our own format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson

from chaos.checker.errors import HistoryError
from chaos.checker.files import WATCH
from chaos.checker.formats.appends import check_appends
from chaos.checker.formats.foreign import Foreign
from chaos.checker.verdict import Report, Verdict, check


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict, and how the file was understood."""

    report: Report
    foreign: Foreign

    def text(self) -> str:
        """For a person."""
        notes = "".join(f"\n{note}" for note in self.foreign.notes)
        return f"read as {self.foreign.format}, model {self.foreign.model}{notes}\n{self.report.text()}"

    def data(self) -> dict[str, object]:
        """The report's object, with format and model."""
        return self.report.data() | {
            "format": self.foreign.format,
            "model": self.foreign.model,
            "notes": self.foreign.notes,
        }


def judge(foreign: Foreign, path: Path, *, seconds: float) -> Judged:
    """Decide a history that was read from `path`.

    Raises HistoryError for what only the whole shows to be broken.
    """
    if foreign.undecided:
        return Judged(Report(Verdict.UNKNOWN, 0, 0, 0.0, None, foreign.undecided), foreign)
    if foreign.appends:
        return Judged(check_appends(foreign, seconds=seconds), foreign)
    report = check(foreign.history(str(path)), foreign.events(str(path)), seconds=seconds)
    if report.violation is not None and report.violation.rule == "wrong value" and not foreign.meta:
        foreign.notes.append("a value was read that nothing wrote: if keys held it at first, say so with --initial")
    return Judged(report, foreign)


def convert(foreign: Foreign, path: Path, out: Path) -> list[Path]:
    """Write a history read from `path` as ours: history.jsonl in the folder `out`, with watch.jsonl; or the file `out`.

    Raises HistoryError for what our format cannot say, what is broken, and where a file would be replaced.
    """
    if foreign.undecided:
        raise HistoryError(f"This history cannot be converted: {foreign.undecided}", where=str(out))
    if foreign.appends:
        raise HistoryError(
            "This history cannot be converted: our format has no append",
            where=str(out),
            next="Check the file as it is, without --convert.",
        )
    foreign.history(str(path))
    foreign.events(str(path))
    history = out if out.suffix == ".jsonl" else out / "history.jsonl"
    files = {history: [{"meta": foreign.meta}, *foreign.operations] if foreign.meta else foreign.operations}
    if foreign.watch:
        files[history.with_name(WATCH)] = foreign.watch
    for there in (history, history.with_name(WATCH)):  # a watch.jsonl of another history would count for this one
        if there.exists():
            raise HistoryError("This file exists already", where=str(there), next="Name a new file or folder.")
    halves = {name: name.with_name(f".{name.name}.part") for name in files}
    try:
        history.parent.mkdir(parents=True, exist_ok=True)
        for name, half in halves.items():
            half.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in files[name]))
        for name, half in halves.items():
            half.replace(name)
    except OSError as error:
        for half in halves.values():
            half.unlink(missing_ok=True)
        raise HistoryError(
            f"Cannot write the history: {error.strerror}", where=str(error.filename or out), next="Name another folder."
        ) from None
    return list(files)
