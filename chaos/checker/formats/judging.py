"""The verdict on a foreign history, and its history in our own format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson

from chaos.checker.files import WATCH
from chaos.checker.formats.appends import check_appends
from chaos.checker.formats.foreign import Foreign
from chaos.checker.verdict import Report, Verdict, check
from machine.errors import UsageError


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

    Raises UsageError for what only the whole shows to be broken.
    """
    if foreign.undecided:
        return Judged(Report(Verdict.UNKNOWN, 0, 0, 0.0, None, foreign.undecided), foreign)
    if foreign.appends:
        return Judged(check_appends(foreign, seconds=seconds), foreign)
    report = check(foreign.history(str(path)), foreign.events(str(path)), seconds=seconds)
    return Judged(report, foreign)


def convert(foreign: Foreign, out: Path) -> list[Path]:
    """Write a history as ours: history.jsonl in the folder `out`, with watch.jsonl; or the file that `out` names.

    Raises UsageError for what our format cannot say, and where a file would be replaced.
    """
    if foreign.undecided:
        raise UsageError(f"This history cannot be converted: {foreign.undecided}", where=str(out))
    if foreign.appends:
        raise UsageError(
            "This history cannot be converted: our format has no append",
            where=str(out),
            next="Check the file as it is, without --convert.",
        )
    history = out if out.suffix == ".jsonl" else out / "history.jsonl"
    files = {history: [{"meta": foreign.meta}, *foreign.operations] if foreign.meta else foreign.operations}
    if foreign.watch:
        files[history.with_name(WATCH)] = foreign.watch
    for path in files:
        if path.exists():
            raise UsageError("This file exists already", where=str(path), next="Name a new file or folder.")
    try:
        history.parent.mkdir(parents=True, exist_ok=True)
        for path, lines in files.items():
            half = path.with_name(f".{path.name}.part")
            half.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
            half.replace(path)
    except OSError as error:
        raise UsageError(f"Cannot write the history: {error.strerror}", where=str(error.filename or out)) from None
    return list(files)
