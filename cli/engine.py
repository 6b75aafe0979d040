"""The Pulumi engine as the commands use it: with its own progress shown, and the terminal its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cli import foreground
from machine import engine
from machine.errors import DeadlineError, LabError
from machine.passphrase import check

UPDATE_SECONDS: Final = 3600.0
"""No update takes as long: nine emulated machines get 720 s to be ready and 660 s for etcd. One that does hangs in a
provider, which the engine would wait for without end."""


class Engine(engine.Engine):
    """The Pulumi CLI for one stack, in the foreground."""

    def update(self, verb: str, *words: str, extra: Mapping[str, str] | None = None) -> None:
        """Run `pulumi VERB` on the stack with its own progress shown; LabError when it fails.

        `extra` is added to its environment.
        """
        self._refuse_if_locked()
        try:
            status = foreground.run(
                ["pulumi", verb, "--stack", self._stack, "--yes", "--skip-preview", *words],
                env={**self._env, **(extra or {})},
                cwd=self._cwd,
                seconds=UPDATE_SECONDS,
                gently=foreground.GRACE_SECONDS,
            )
        except DeadlineError as error:
            deployment = self.deployment()
            busy = deployment.interrupted if deployment else []
            self.end_orphans()
            raise DeadlineError(
                f"pulumi {verb} of stack {self.paths.stack!r} hung",
                seconds=UPDATE_SECONDS,
                last=f"work on {', '.join(busy)}" if busy else "",
                next="It was ended. ./lab up goes on from what is there; ./lab destroy takes it all down.",
            ) from error
        if status != 0:
            check(self.paths.stack, self.paths.checkout)
            raise LabError(
                f"pulumi {verb} of stack {self.paths.stack!r} failed",
                where=f"exit status {status}",
                next="The reason stands above. ./lab doctor checks the machine; ./lab up goes on from what is there.",
            )
