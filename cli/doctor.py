"""`./lab doctor`: every requirement, what was found, and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_STACK, StackOption

if TYPE_CHECKING:
    from machine.doctor import Finding


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def doctor(
        fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended.")] = False,
        json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
        stack: StackOption = DEFAULT_STACK,
    ) -> None:
        """Look at everything the lab requires of this machine; exit 1 when it cannot be built."""
        from cli.preflight import settings_of
        from infra.requirements import plan_of
        from machine.doctor import examine, healthy
        from machine.log import say
        from machine.paths import stack_paths

        paths = stack_paths(stack)
        findings = examine(plan_of(settings_of(paths), paths), say, fix=fix)
        if json:
            from json import dumps

            typer.echo(dumps({"ok": healthy(findings), "checks": [one.as_json() for one in findings]}, indent=2))
        else:
            _show(findings)
        raise typer.Exit(0 if healthy(findings) else 1)


def _show(findings: list[Finding]) -> None:
    from cli.terminal import line, table

    words = {"ok": "ok", "warn": "warning", "fail": "missing"}
    table(["CHECK", "RESULT", "FOUND"], [[one.check.what, words[one.level], one.found] for one in findings])
    for one in findings:
        if one.level != "ok":
            line()
            line(f"{one.check.what}: {one.found}. Why it matters: {one.check.why}. {one.check.how}.")
    fixable = [one for one in findings if one.level != "ok" and one.check.fix is not None]
    if fixable:
        line()
        line("./lab doctor --fix mends: " + ", ".join(one.check.id for one in fixable) + ".")
