"""A module of ours in a process of its own: one JSON object a line in, and out.

Workers, recording clients and the sampler are such processes: each has its own interpreter, inside the lab's namespace,
so that nothing this process does delays it. Its standard input's end is its order to end, so it never outlives us. Its
environment is what machine.surroundings has for whatever speaks with the lab.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any, Final

from machine.errors import LabError
from machine.paths import CHECKOUT
from machine.process import ends_with_us, in_netns, tail
from machine.surroundings import for_the_lab

Line = dict[str, Any]

CLOSE_SECONDS: Final = 5.0
"""How long it may take to end by itself; then it is killed."""


class Child:
    """The process and its pipes; raises LabError, with what it said last, when it is not there any more.

    `title` is what it is, as an error begins: "The sampler".
    """

    def __init__(
        self, module: str, *arguments: str, title: str, netns: str | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self._module = module
        self._title = title
        self._process = subprocess.Popen(
            in_netns(netns, [sys.executable, "-m", module, *arguments]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
            env={**for_the_lab(), **(env or {})},
            start_new_session=True,  # Ctrl-C is for us; the pipe's end ends it
        )
        ends_with_us(self._process.pid)  # also while it does something that takes long
        self._said: list[str] = []
        self._drainer = threading.Thread(target=self._drain, daemon=True)
        self._drainer.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """How it ended by itself, with what it said last."""
        self._drainer.join(1)
        said = tail("".join(self._said), 2) or "it said nothing"
        return f"{self._title} ended with status {self._process.poll()}: {said}"

    def say(self, line: Mapping[str, object]) -> None:
        """Tell it something."""
        stream = _stream(self._process.stdin)
        try:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
        except (BrokenPipeError, ValueError) as error:  # ValueError: closed here
            raise self._died() from error

    def read(self) -> Line:
        """Its next line; waits for it."""
        line: Line = json.loads(self.read_text())
        return line

    def read_text(self) -> str:
        """The same, whatever it says."""
        text = _stream(self._process.stdout).readline()
        if not text.endswith("\n"):  # nothing, or a line that its death cut off
            raise self._died()
        return text.rstrip("\n")

    def close(self) -> None:
        """End it. Safe to repeat."""
        with contextlib.suppress(BrokenPipeError):
            _stream(self._process.stdin).close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _drain(self) -> None:
        for line in _stream(self._process.stderr):
            self._said = [*self._said[-20:], line]

    def _died(self) -> LabError:
        self.close()
        self._drainer.join(1)
        return LabError(f"{self._title} ended: {tail(''.join(self._said), 5) or 'it said nothing'}", where=self._module)


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # noqa: S101 - all three are pipes
    return stream
