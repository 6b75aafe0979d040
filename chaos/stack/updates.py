"""The Automation API without asking the CLI for what is known: version, selection, outputs, history (decision 9)."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from pulumi import automation
from pulumi.automation._stack import StackInitMode
from pulumi.automation.errors import create_command_error
from semver import VersionInfo

from machine.engine import Engine
from machine.process import ends_with_us
from machine.surroundings import for_all
from machine.versions import PULUMI

END_SECONDS: Final = 10.0
"""How long an engine that is interrupted by us may take to end the operation that it is in."""


class Stack(automation.Stack):
    """A stack whose updates read nothing back: each reading would be one more start of the CLI."""

    def __init__(self, engine: Engine, environment: Mapping[str, str]) -> None:
        workspace = _Workspace(
            work_dir=str(engine.directory),
            env_vars=environment,
            project_settings=automation.ProjectSettings(name=engine.project, runtime="python"),
            pulumi_command=Cli(),
        )
        if engine.deployment() is None:
            workspace.create_stack(engine.name)
        super().__init__(engine.name, workspace, StackInitMode.SELECT)

    def outputs(self) -> automation.OutputMap:
        """Nothing; see Verification.outputs."""
        return {}

    def info(self, show_secrets: bool = True) -> automation.UpdateSummary:  # noqa: ARG002 - as the SDK has it
        """Nothing that anybody reads."""
        return automation.UpdateSummary("update", datetime.now(UTC), "", {}, {}, "succeeded")


class _Workspace(automation.LocalWorkspace):
    """A workspace that need not be asked which stack is meant: every command names it."""

    def select_stack(self, stack_name: str) -> None:
        """Nothing."""


class Cli(automation.PulumiCommand):
    """The CLI of our tool chain, whose version is pinned and need not be asked for."""

    def __init__(self, command: str = "pulumi") -> None:
        self.command = command
        self.version = VersionInfo.parse(PULUMI)

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: automation.OnOutput | None = None,
        on_error: automation.OnOutput | None = None,
    ) -> automation.CommandResult:
        """As the SDK does, but for what interrupts it: there the SDK closes the pipes, and the engine dies of writing.

        The engine has Ctrl-C from the terminal too, and is waited for while it ends in order. Of a test's limit it is
        told, and given END_SECONDS.
        """
        words = [self.command, "--non-interactive", *args]
        environment = {**for_all(), **additional_env, "PULUMI_AUTOMATION_API": "true"}
        pipe = subprocess.PIPE
        with subprocess.Popen(words, stdout=pipe, stderr=pipe, cwd=cwd, env=environment, encoding="utf-8") as process:
            try:
                ends_with_us(process.pid)  # with what it started
                out, err = process.communicate()
            except KeyboardInterrupt:
                process.communicate()
                raise
            except BaseException:
                _end(process)
                raise
        if on_output:
            _tell(on_output, out)
        if on_error:
            _tell(on_error, err)
        result = automation.CommandResult(out.rstrip("\n"), err.rstrip("\n"), process.returncode)
        if process.returncode != 0:
            raise create_command_error(result)
        return result


def _end(process: subprocess.Popen[str]) -> None:
    """Interrupt the engine, and kill it when it does not end by that: its operation is bounded, but may be long."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()  # its output is left: what it started may hold the pipes


def _tell(callback: Callable[[str], object], text: str) -> None:
    for line in text.splitlines():
        callback(line)
