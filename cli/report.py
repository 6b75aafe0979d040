"""`./lab report [RUN]`: where a run's report is, and what it says in short."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def report(
        run: Annotated[str | None, typer.Argument(metavar="RUN", help="A run's name; without it, the newest.")] = None,
    ) -> None:
        """Show a run's scenarios and verdict. Exit 0 pass, 1 fail, 3 inconclusive."""
        from chaos.report import exit_code, find, load
        from cli.terminal import line, table

        directory = find(run)
        found = load(directory)
        table(
            ["SCENARIO", "VERDICT", "SECONDS", "TITLE"],
            [[one.id, one.verdict, f"{one.seconds:.1f}", one.title] for one in found.scenarios],
        )
        for one in found.scenarios:
            for step in one.steps:
                if step.verdict not in ("pass", "skipped"):
                    line(f"{one.id} {step.verdict}: {step.title}: expected {step.expected}; saw {step.observed}")
        line(f"{found.verdict}: {directory / 'report.json'}")
        raise typer.Exit(exit_code(found.verdict))
