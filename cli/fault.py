"""`./lab fault list` and `./lab fault inject NAME`: break the cluster by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_STACK, StackOption

if TYPE_CHECKING:
    from chaos.faults.base import Fault, Result
    from chaos.stack.provider import ProviderProcess
    from machine.paths import StackPaths


def register(app: typer.Typer) -> None:
    """Add the command with its two words."""
    fault = typer.Typer(no_args_is_help=True, help="Break the cluster by hand: list the faults, inject one.")

    @fault.command("list")
    def list_faults() -> None:
        """The faults there are, and what can be set of each."""
        from chaos.faults.registry import catalogue
        from cli.terminal import table

        rows = []
        for kind in sorted(catalogue().values(), key=lambda kind: (kind.family, kind.name)):
            first, *more = settable(kind) or [""]
            rows += [[kind.name, kind.family, kind.summary, first], *(["", "", "", one] for one in more)]
        table(["FAULT", "FAMILY", "DOES", "--set"], rows)

    @fault.command("status")
    def status(stack: StackOption = DEFAULT_STACK) -> None:
        """Look whether each fault that is declared still holds; exit 3 when one does not."""
        from chaos.lab.lab import Lab
        from chaos.lab.lock import exclusive_use
        from chaos.stack.verification import Verification
        from cli.lab import open_lab
        from cli.terminal import line

        lab = open_lab(stack)
        with exclusive_use(lab.paths, "look at faults"), Lab(lab.manifest, lab.paths) as opened:
            declared = Verification(opened)
            results = declared.refresh() if declared.standing().faults else []
        for result in results:
            line(f"{result.name}: {'holds' if result.proved else f'does not hold: {result.missing}'}")
        if not results:
            line("No fault is in force.")
        if not all(result.proved for result in results):
            raise typer.Exit(3)

    @fault.command("inject")
    def inject(
        name: Annotated[str, typer.Argument(metavar="NAME", help="A fault that `./lab fault list` shows.")],
        target: Annotated[
            list[str] | None,
            typer.Option(
                "--target", metavar="T", help="Node, leader, follower, minority, majority, all, or A,B (a group)."
            ),
        ] = None,
        settings: Annotated[
            list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the fault.")
        ] = None,
        lease: Annotated[
            int | None, typer.Option("--lease", metavar="SECONDS", help="How long it stays when nobody heals it.")
        ] = None,
        stack: StackOption = DEFAULT_STACK,
    ) -> None:
        """Inject a fault and show the proof; ./lab heal lifts it. Exit 3 when it did not show."""
        from cli.lab import open_lab

        lab = open_lab(stack)
        provider = start_provider(lab.paths)
        from chaos.faults.base import HAND_LEASE
        from chaos.faults.registry import kind
        from chaos.lab.lab import Lab
        from chaos.lab.lock import exclusive_use
        from chaos.stack.verification import Verification
        from cli.terminal import line

        wanted = kind(name)
        with exclusive_use(lab.paths, "inject a fault"), Lab(lab.manifest, lab.paths) as opened:
            declared = Verification(opened, provider=provider)
            opened.connect_early()
            present = declared.standing().faults
            fault = wanted.declare(
                opened,
                tuple(target or ()),
                parameters(settings or []),
                lease=HAND_LEASE if lease is None else lease,
                others=present,
            )
            [result] = declared.set([*present, fault])
        for text in lines(result):
            line(text)
        result.require()

    app.add_typer(fault, name="fault")


def start_provider(paths: StackPaths) -> ProviderProcess:
    """Start the provider of faults: it loads what it needs while this process does."""
    from chaos.stack.provider import ProviderProcess
    from machine.engine import Engine
    from machine.engine_state import CHAOS_PROJECT

    return ProviderProcess.start(Engine(paths, project=CHAOS_PROJECT))


def settable(kind: type[Fault]) -> list[str]:
    """Parameters of a fault: name, default, meaning."""
    return [f"{one.name}={one.default}: {one.summary}" for one in kind.parameters]


def parameters(settings: list[str]) -> dict[str, str]:
    """`KEY=VALUE` words as a mapping; UsageError for a word that is none."""
    from machine.errors import UsageError

    split = [word.partition("=") for word in settings]
    for name, equals, value in split:
        if not (name and equals and value):
            raise UsageError(f"{name + equals + value!r} is no setting", where="--set", next="Write --set KEY=VALUE.")
    return {name: value for name, _, value in split}


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
