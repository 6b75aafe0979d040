"""`./lab fault list` and `./lab fault inject NAME`: break the cluster by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_STACK, StackOption

if TYPE_CHECKING:
    from chaos.faults.base import Result


def register(app: typer.Typer) -> None:
    """Add the command with its two words."""
    fault = typer.Typer(no_args_is_help=True, help="Break the cluster by hand: list the faults, inject one.")

    @fault.command("list")
    def list_faults() -> None:
        """The faults there are."""
        from chaos.faults.registry import KINDS
        from cli.terminal import table

        rows = [[kind.name, kind.family, kind.summary] for kind in KINDS.values()]
        table(["FAULT", "FAMILY", "DOES"], sorted(rows, key=lambda row: (row[1], row[0])))

    @fault.command("inject")
    def inject(
        name: Annotated[str, typer.Argument(metavar="NAME", help="A fault that `./lab fault list` shows.")],
        target: Annotated[
            list[str] | None,
            typer.Option(
                "--target", metavar="T", help="Node, leader, follower, minority, majority, all, or A,B (a group)."
            ),
        ] = None,
        stack: StackOption = DEFAULT_STACK,
    ) -> None:
        """Inject a fault and show the proof; ./lab heal lifts it. Exit 3 when it did not show."""
        from chaos.faults.registry import kind
        from chaos.lab import Lab, alone
        from cli.lab import open_lab
        from cli.terminal import line

        wanted = kind(name)
        lab = open_lab(stack)
        with alone(lab.paths, "inject a fault"), Lab(lab.manifest, lab.paths) as opened:
            result = wanted.declare(opened, tuple(target or ()), wanted.params_by_hand).inject(opened)
        for text in lines(result):
            line(text)
        result.require()

    app.add_typer(fault, name="fault")


def lines(result: Result) -> list[str]:
    """What was done and how it showed."""
    from chaos.faults.base import describe

    change = (result.applied_ns - result.started_ns) / 1e9
    proof = (result.ended_ns - result.applied_ns) / 1e9
    return [
        f"{result.name} on {describe(result.groups)} at {result.place}: made in {change:.2f} s, proof {proof:.2f} s",
        *(f"  {item}" for item in result.proof),
        f"{'Proved' if result.proved else 'Not proved'}. ./lab heal lifts it.",
    ]
