"""`./lab up`: preflight, `pulumi up`, also after an update that was killed."""

from __future__ import annotations

import time

import typer

from cli.options import DEFAULT_STACK, StackOption


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def up(stack: StackOption = DEFAULT_STACK) -> None:
        """Build the lab, or bring it to what its configuration says."""
        from machine.paths import stack_paths

        build(stack_paths(stack).stack)


def build(stack: str) -> float:
    """Bring the lab `stack` up; seconds that it took. Nothing is touched when configuration or machine are wrong."""
    from cli.engine import Engine
    from cli.lab import embedded, wake_hypervisor
    from cli.leftovers import remove_unknown
    from cli.preflight import check
    from cli.setup import prepare
    from machine.log import say
    from machine.paths import stack_paths

    paths = stack_paths(stack)
    settings = check(paths)
    prepare(stack)
    started = time.monotonic()
    engine = Engine(paths)
    engine.select()
    half_made = engine.recover()
    wake_hypervisor(paths)
    hypervisor = embedded(paths)
    if hypervisor.state() == "running":  # all that it has is this lab's
        remove_unknown(paths, hypervisor.uri, engine.deployment(), private=True)
    elif half_made and settings.kind == "system":
        remove_unknown(paths, settings.system_uri, engine.deployment(), private=False)
    engine.update("up")
    seconds = time.monotonic() - started
    say(f"The lab {stack!r} is up: {seconds:.1f} s. Try ./lab status, ./lab ctl NODE get KEY, ./lab verify.")
    return seconds
