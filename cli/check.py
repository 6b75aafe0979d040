"""`./lab check HISTORY.jsonl`: what a recorded history says about the cluster that answered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def check(
        history: Annotated[Path, typer.Argument(metavar="HISTORY.jsonl", help="Operations, one JSON object a line.")],
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
        timeout: Annotated[float, typer.Option("--timeout", metavar="S", help="Seconds the check may take.")] = 300.0,
    ) -> None:
        """Check a recorded history, with the watch.jsonl and wal/ beside it, if there.

        Exit 0 linearizable, 1 violation, 3 unknown, as when nothing was acknowledged.
        """
        from chaos.checker.run import check_run
        from machine.errors import UsageError

        if timeout <= 0:
            raise UsageError("--timeout must be more than 0 seconds", where="--timeout")
        found = check_run(history, seconds=timeout)
        if as_json:
            import orjson

            typer.echo(orjson.dumps(found.data()).decode())
        else:
            typer.echo(found.text())
        raise typer.Exit(found.report.verdict.exit_code)
