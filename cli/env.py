"""`./lab env`: what `eval "$(./lab env)"` needs so that plain pulumi and pytest work."""

from __future__ import annotations

import typer

from cli.options import DEFAULT_STACK, StackOption


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def env(stack: StackOption = DEFAULT_STACK) -> None:
        """Print export lines for a shell; starts the lab's hypervisor when it is recorded and not running."""
        import shlex

        from cli.lab import wake_hypervisor
        from cli.setup import prepare
        from machine.environment import pulumi_env
        from machine.paths import stack_paths
        from machine.surroundings import in_the_way

        paths = stack_paths(stack)
        prepare(stack)
        # A plain `pulumi destroy` runs no program of ours, so nothing else would start it.
        wake_hypervisor(paths)
        added = pulumi_env(stack)
        for name in in_the_way():
            if name not in added:
                typer.echo(f"unset {name}")
        for name, value in sorted(added.items()):
            typer.echo(f"export {name}={shlex.quote(value)}")
