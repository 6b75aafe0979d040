"""The Pulumi engine as the commands use it: with its own progress shown, and the terminal its own."""

from __future__ import annotations

from collections.abc import Mapping

from cli import foreground
from machine import engine
from machine.errors import LabError


class Engine(engine.Engine):
    """The Pulumi CLI for one stack, in the foreground."""

    def update(self, verb: str, *words: str, extra: Mapping[str, str] | None = None) -> None:
        """Run `pulumi VERB` on the stack with its own progress shown; LabError when it fails.

        `extra` is added to its environment.
        """
        self._refuse_if_locked()
        status = foreground.run(
            ["pulumi", verb, "--stack", self._stack, "--yes", "--skip-preview", *words],
            env={**self._env, **(extra or {})},
            cwd=self._cwd,
        )
        if status != 0:
            raise LabError(
                f"pulumi {verb} of stack {self.paths.stack!r} failed",
                where=f"exit status {status}",
                next="The reason stands above. ./lab doctor checks the machine; ./lab up goes on from what is there.",
            )
