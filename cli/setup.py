"""`./lab setup`: tools, passphrase and stack, so that everything else can start."""

from __future__ import annotations

import typer

from cli.options import DEFAULT_STACK, StackOption


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def setup(
        stack: StackOption = DEFAULT_STACK,
    ) -> None:
        """Get the tools, etcd and the guest image; make the passphrase and the stack."""
        from cli.engine import Engine
        from cli.preflight import settings_of
        from machine import etcd_binaries, image
        from machine.log import say
        from machine.paths import stack_paths

        paths = stack_paths(stack)
        settings = settings_of(paths)
        prepare(stack)
        etcd_binaries.ensure(settings.etcd_version, say)
        image.ensure_image(settings.image, settings.image_sha256, say)
        Engine(paths).select()
        say(f"Ready. ./lab verify builds and tries the lab {stack!r}; ./lab env is for plain pulumi and pytest.")


def prepare(stack: str) -> None:
    """Get the tool chain and make the passphrase, when they are missing; raises ToolError."""
    from machine import environment, toolchain
    from machine.log import say

    environment.pulumi_env(stack, tools=toolchain.ensure(say))
