"""`./lab report [RUN]`: where a run's report is, and what it says in short; all runs; two beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def report(
        run: Annotated[str | None, typer.Argument(metavar="RUN", help="A run's name; without it, the newest.")] = None,
        listing: Annotated[bool, typer.Option("--list", help="All runs, oldest first.")] = False,
        compare: Annotated[
            tuple[str, str] | None, typer.Option("--compare", metavar="A B", help="Two runs side by side.")
        ] = None,
    ) -> None:
        """Show a run's verdict and draw its page. Exit 0 pass, 1 fail, 3 inconclusive (--list, --compare: 0)."""
        from machine.errors import UsageError

        if sum((run is not None, listing, compare is not None)) > 1:
            raise UsageError("RUN, --list and --compare do not go together", next="Give one of them.")
        if listing:
            _list()
        elif compare is not None:
            _compare(*compare)
        else:
            raise typer.Exit(show(run))


def show(name: str | None) -> int:
    """Draw the page of a run, also of one that was killed, and tell it in short; its exit status."""
    from chaos.report import exit_code, find
    from chaos.report.page import write_page
    from chaos.report.runs import open_run
    from chaos.report.summary import lines
    from chaos.report.wording import verdict_of
    from cli.terminal import columns, line

    run = open_run(find(name))
    page: Path = write_page(run)
    for text in lines(run, columns=columns()):
        line(text)
    line(f"report: {run.dir / 'report.json'}")
    line(f"page: {page}")
    return exit_code(verdict_of(run))


def _list() -> None:
    from chaos.report.runs import every
    from chaos.report.wording import ENDED, moment, settings, verdict_of
    from cli.terminal import line, table

    rows = []
    for run in every():
        words = verdict_of(run) if run.state == "finished" else f"{verdict_of(run)} ({run.state})"
        lab = run.report.lab
        count = f"{sum(one.verdict == 'pass' for one in run.report.scenarios)} of {len(run.report.scenarios)}"
        rows.append(
            [run.name, moment(run.report.started), words, count, lab.etcd_version if lab else "?", settings(run.report)]
        )
    if not rows:
        line("There is no run yet; ./lab verify makes one.")
        return
    table(["RUN", "BEGUN", "VERDICT", "PASSED", "ETCD", "SETTINGS"], rows)
    if any("(ended)" in row[2] for row in rows):
        line(f"(ended): {ENDED.lower()}.")


def _compare(first: str, second: str) -> None:
    from chaos.report import find
    from chaos.report.compare import compare
    from chaos.report.runs import every, open_run
    from cli.terminal import line, table

    a, b = open_run(find(first)), open_run(find(second))
    found = compare(a, b, list(every()))
    head = ["", a.name, b.name, "DIFFERS"]
    table(head, [[row.name, row.first, row.second, row.differs] for row in found.settings], title="Settings")
    line()
    table(head, [[row.name, row.first, row.second, row.differs] for row in found.verdicts], title="Verdicts")
    line()
    if found.figures:
        table(
            ["FIGURE", a.name, b.name, "DIFFERENCE", "NOISE", "DIFFERS"],
            [[row.name, row.first, row.second, row.change, row.noise, row.differs] for row in found.figures],
            title="Figures",
        )
    line(found.told)
