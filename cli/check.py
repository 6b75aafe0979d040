"""`./lab check FILE|FOLDER`: what a recorded history, ours or another tool's, says about the system that answered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def check(  # noqa: PLR0917 - one a flag
        history: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="A recorded history, or its folder.")],
        form: Annotated[
            str, typer.Option("--format", metavar="NAME", help="Format of the file, instead of by its content.")
        ] = "auto",
        model: Annotated[
            str, typer.Option("--model", metavar="NAME", help="What another tool's history works on.")
        ] = "auto",
        initial: Annotated[
            str | None, typer.Option("--initial", metavar="VALUE", help="What its keys hold at first, as EDN or JSON.")
        ] = None,
        failed_cas: Annotated[
            str, typer.Option("--failed-cas", metavar="ignored|refused", help="What its failed cas operations say.")
        ] = "ignored",
        out: Annotated[
            Path | None,
            typer.Option("--convert", metavar="OUT", help="Write it as ours too: a folder or a .jsonl file."),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
        timeout: Annotated[float, typer.Option("--timeout", metavar="S", help="Seconds the check may take.")] = 300.0,
    ) -> None:
        """Check a recorded history: ours, with the watch.jsonl and wal/ beside it, or another tool's.

        Exit 0 linearizable, 1 violation, 3 unknown, as when nothing was acknowledged.
        """
        from chaos.checker.errors import HistoryError
        from chaos.checker.formats.choices import choose
        from chaos.checker.formats.judging import convert, judge
        from chaos.checker.formats.opening import find, open_foreign
        from chaos.checker.formats.registry import OURS
        from chaos.checker.run import check_run
        from machine.errors import UsageError

        if timeout <= 0:
            raise UsageError("--timeout must be more than 0 seconds", where="--timeout")
        try:
            choices = choose(form, model, initial, failed_cas)
            place = find(history, form)
            found: Any
            if place.format == OURS:
                if choices.given or out is not None:
                    raise UsageError(
                        "--model, --initial, --failed-cas and --convert are for other tools' histories; this is ours",
                        where=str(place.path),
                        next="Leave them out, or name its format with --format.",
                    )
                found = check_run(place.path, seconds=timeout)
            else:
                foreign = open_foreign(place, choices)
                if out is not None:
                    convert(foreign, place.path, out)
                found = judge(foreign, place.path, seconds=timeout)
        except HistoryError as error:
            raise UsageError(error.what, where=error.where, next=error.next) from error
        if as_json:
            import orjson

            typer.echo(orjson.dumps(found.data()).decode())
        else:
            typer.echo(found.text())
        raise typer.Exit(found.report.verdict.exit_code)
