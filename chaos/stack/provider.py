"""The provider of faults that this process keeps (`stack.provider_main`): started early, told what is coming, ended.

Loads nothing of the engine's SDK, so that the provider can start while this process still imports that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Self

from machine.child import Child
from machine.engine import Engine
from machine.engine_state import CHAOS_PROJECT, OWNER


class ProviderProcess:
    """The provider's process, and where the engine finds it."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._port = ""

    @classmethod
    def start(cls, engine: Engine) -> Self:
        """Start one for the verification stack of `engine`; that takes a second, and is not waited for."""
        own = {"PULUMI_PROJECT": CHAOS_PROJECT, "PYTHONUNBUFFERED": "1", OWNER: str(os.getpid())}
        arguments = (str(engine.paths.checkout), engine.paths.stack)
        environment = {**engine.environment, **own}
        return cls(Child("chaos.stack.provider_main", *arguments, title="The provider of faults", env=environment))

    @property
    def environment(self) -> dict[str, str]:
        """What has the engine attach to it. Waits until it is there; raises LabError when it ended."""
        self._port = self._port or self._child.read_text()
        return {"PULUMI_DEBUG_PROVIDERS": f"pulumi-python:{self._port}"}

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._child.alive()

    def open(self, shells: Iterable[tuple[str, str]]) -> None:
        """Have it open these shells, by node and use, for the coming update. Raises LabError when it ended."""
        self._child.say({"open": sorted(shells)})

    def close(self) -> None:
        """End it, whatever it does."""
        self._child.close()
