"""The runs on disk: `.lab/reports/RUN/`, the link `latest`, and whether a run still goes on."""

from __future__ import annotations

import datetime
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from chaos.report.model import Report
from machine.errors import NotBuiltError
from machine.paths import CHECKOUT, reports_dir

LOCK_NAME = ".running"

State = Literal["finished", "running", "ended"]
"""`ended`: before its end, by a kill or a crash."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run on disk."""

    dir: Path
    report: Report
    state: State

    @property
    def name(self) -> str:
        """Its name, as ./lab report takes it."""
        return self.dir.name


def load(directory: Path) -> Report:
    """The report in a run's directory; raises NotBuiltError when there is none that can be read."""
    try:
        return Report.model_validate_json((directory / "report.json").read_text())
    except (OSError, ValueError) as error:
        raise NotBuiltError(
            "There is no report that can be read", where=str(directory), next="./lab verify makes one."
        ) from error


def open_run(directory: Path) -> Run:
    """A run with its state; raises NotBuiltError like `load`."""
    report = load(directory)
    return Run(directory, report, state(directory, report))


def find(run: str | None = None, checkout: Path = CHECKOUT) -> Path:
    """Directory of a run by name, or of the newest; raises NotBuiltError naming those there are."""
    directory = reports_dir(checkout) / (run or "latest")
    plain = run is None or Path(run).name == run
    if not plain or not (directory / "report.json").exists():
        known = names(checkout)
        raise NotBuiltError(
            f"There is no run {run!r}" if run else "There is no report yet",
            where=str(reports_dir(checkout)),
            next=f"There are {', '.join(known[-5:])}; ./lab report --list shows all."
            if known
            else "./lab verify makes one.",
        )
    return directory.resolve()


def names(checkout: Path = CHECKOUT) -> list[str]:
    """Names of all runs with a report, oldest first."""
    return sorted(path.parent.name for path in reports_dir(checkout).glob("2*/report.json"))


def every(checkout: Path = CHECKOUT) -> Iterator[Run]:
    """All runs that can be read, oldest first."""
    for name in names(checkout):
        try:
            yield open_run(reports_dir(checkout) / name)
        except NotBuiltError:
            continue


def state(directory: Path, report: Report) -> State:
    """Whether a run came to its end, goes on, or was ended before."""
    if report.finished:
        return "finished"
    try:
        with (directory / LOCK_NAME).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return "ended"
    except BlockingIOError:
        return "running"
    return "ended"


def hold(directory: Path) -> IO[str]:
    """Show that the run goes on for as long as the file that is given stays open, and no longer (flock)."""
    file = (directory / LOCK_NAME).open("a")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def new_run(parent: Path) -> Path:
    """A fresh directory, named by the time."""
    parent.mkdir(parents=True, exist_ok=True)
    name = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in range(1000):
        directory = parent / (f"{name}-{number}" if number else name)
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        return directory
    raise FileExistsError(parent / name)


def link_latest(directory: Path) -> None:
    """Make `latest` name this run."""
    fresh = directory.parent / f".latest.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(directory.name)
    fresh.replace(directory.parent / "latest")
