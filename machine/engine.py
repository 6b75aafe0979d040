"""The Pulumi engine around one stack: the right environment, and the way out of half states.

An update that was killed leaves a lock, perhaps provider processes, perhaps a half-done operation in the
state. `recover` clears all of that; it is what lets an update follow a SIGKILL at any moment. `empty` forgets
what a verification stack declares, without an update.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from machine import engine_state as state
from machine import environment, passphrase
from machine.errors import LabError, ToolError
from machine.log import Heartbeat, Say, say
from machine.paths import StackPaths
from machine.process import run
from machine.surroundings import for_all
from machine.waiting import Pending, wait_until

MARK = "ETCD_LAB_UPDATE"
"""In the environment of every process of an update: whose it is, should it be left behind."""

ORPHAN_SECONDS = 300.0
"""How long we wait for an update whose ./lab died: it finishes the operation that it is in."""


class Engine:
    """The Pulumi CLI for one stack."""

    _EXPORT = ("pulumi", "stack", "export", "--stack")

    def __init__(self, paths: StackPaths, *, project: str = state.PROJECT, say: Say = say) -> None:
        self.paths = paths
        self.project = project
        self._say = say
        # Another project's stack needs its full name, and a directory that says which project is meant.
        self._stack = paths.stack if project == state.PROJECT else f"organization/{project}/{paths.stack}"
        self._cwd = paths.checkout if project == state.PROJECT else _project_directory(paths.checkout, project)
        own = paths.hypervisor_id
        self._mark = f"{MARK}={own if project == state.PROJECT else f'{own}/{project}'}"
        name, _, value = self._mark.partition("=")
        self._added = {**environment.pulumi_env(paths.stack), name: value}
        self._env = {**for_all(), **self._added}

    @property
    def name(self) -> str:
        """The stack as `pulumi --stack` takes it."""
        return self._stack

    @property
    def directory(self) -> Path:
        """The project's directory."""
        return self._cwd

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the engine needs beside those of this process; they mark its processes as this stack's."""
        return dict(self._added)

    @property
    def backend(self) -> Path | None:
        """Directory of the file backend; None when the user's own login is used."""
        url = urlsplit(self._env.get("PULUMI_BACKEND_URL", ""))
        return Path(unquote(url.netloc + url.path)).expanduser() if url.scheme == "file" else None

    def deployment(self) -> state.Deployment | None:
        """What the stack's state holds; None when there is no such stack."""
        if self.backend is not None:
            return state.read(self.backend, self.paths.stack, self.project)
        return self._exported()

    def select(self) -> None:
        """Make the stack when there is none."""
        if self.backend is None or self.deployment() is None:
            self._quiet("stack", "select", "--create", self._stack)

    def recover(self) -> bool:
        """Clear what a killed update left in state and process table; whether it left anything.

        Raises LabError when another update is running.
        """
        if self.backend is None:
            return self._clear_pending()
        left = self._unlock()
        return self._clear_pending() or left

    def end_orphans(self) -> bool:
        """Kill an update whose owner is gone, with its providers, and clear its lock; whether there was one.

        For callers that know, by a lock of their own, that nobody else may be updating the stack: nothing is waited
        for, since what such an update was doing is about to be undone.
        """
        backend = self.backend
        held = [] if backend is None else state.locks(backend, self.paths.stack, self.project)
        left = self._end_leftover_processes()
        self._mend_files()
        if held:
            self._quiet("cancel", "--yes", self._stack)
        return bool(held) or left

    def empty(self, outputs: Mapping[str, object]) -> list[str]:
        """Forget every resource of the stack and what was half-done, and give it other outputs; labels of those.

        No provider is asked: for resources that have been undone by other means. The stack itself stays.
        """
        deployment = self.deployment()
        if deployment is None or not (deployment.built or deployment.pending):
            return []
        self._import(state.emptied(self._export(), outputs))
        return sorted({resource.label for resource in (*deployment.built, *deployment.pending)})

    def remove_stack(self, *, force: bool = False) -> None:
        """Forget the stack; its configuration file stays. With `force` even when resources are left."""
        words = ["stack", "rm", "--yes", "--preserve-config", self._stack]
        self._quiet(*words, *(["--force"] if force else []))

    def discard(self) -> None:
        """Remove the files of a stack whose state cannot be read, so that the engine would not remove it either."""
        if self.backend is not None:
            file = state.stack_file(self.backend, self.paths.stack, self.project)
            for path in (file, *(file.with_name(file.name + end) for end in (".bak", ".attrs", ".bak.attrs"))):
                path.unlink(missing_ok=True)

    def _unlock(self) -> bool:
        self._refuse_if_locked()
        backend = self.backend
        dead = [] if backend is None else state.locks(backend, self.paths.stack, self.project)
        self._end_leftover_processes()
        self._mend_files()
        if dead:
            self._say("The last update was killed; clearing its lock.")
            self._quiet("cancel", "--yes", self._stack)
        return bool(dead)

    def _refuse_if_locked(self) -> None:
        """Wait for an update whose ./lab has died; refuse when one is being run by somebody."""
        backend = self.backend
        if backend is None:
            return
        beat = Heartbeat("waiting for the interrupted update to end", say=self._say)

        def probe() -> None:
            for lock in state.locks(backend, self.paths.stack, self.project):
                if not lock.alive:
                    continue
                if not lock.orphaned:
                    raise LabError(
                        f"Another update of stack {self.paths.stack!r} is running",
                        where=f"process {lock.pid} on {lock.host}",
                        next="Wait for it, or end it with Ctrl-C where it runs, then try again.",
                    )
                raise Pending(f"process {lock.pid}")

        wait_until(
            probe,
            f"The interrupted update of stack {self.paths.stack!r} did not end",
            seconds=ORPHAN_SECONDS,
            next="End the process named here, then run the command again.",
            on_wait=beat.beat,
        )

    def _mend_files(self) -> None:
        if self.backend is not None:
            state.mend(self.backend, self.paths.stack, self.project)

    def _end_leftover_processes(self) -> bool:
        """End provider processes of ours whose engine is gone; they would go on building. Whether there were any."""
        left = state.leftover_processes(self._mark)
        if not left:
            return False
        self._say(f"Ending {len(left)} process(es) that the killed update left behind.")
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

        def probe() -> None:
            if remaining := set(left) & set(state.leftover_processes(self._mark)):
                raise Pending(f"processes {sorted(remaining)}")

        wait_until(probe, "Processes of the killed update did not end", seconds=10, next="See ps for them.")
        return True

    def _clear_pending(self) -> bool:
        """Drop half-done operations from the state: an import of the stack's own export does that."""
        deployment = self.deployment()
        if deployment is None or not deployment.pending:
            return False
        names = ", ".join(deployment.interrupted)
        self._say(f"The last update was killed while it worked on: {names}. Clearing that from the state.")
        self._import(self._export())
        return True

    def _export(self) -> dict[str, Any]:
        """The stack's state as the engine exports it; read from its file where there is one, as the CLI takes 1 s."""
        if self.backend is not None and (exported := state.export(self.backend, self.paths.stack, self.project)):
            return exported
        return dict(json.loads(run([*self._EXPORT, self._stack], env=self._env, cwd=self._cwd, seconds=120).stdout))

    def _import(self, exported: Mapping[str, object]) -> None:
        with tempfile.TemporaryDirectory(dir=self.paths.checkout / ".lab") as directory:  # made 0700
            copy = Path(directory) / "state.json"
            copy.write_text(json.dumps(exported))
            self._quiet("stack", "import", "--stack", self._stack, "--file", str(copy))

    def _exported(self) -> state.Deployment | None:
        done = run(
            [*self._EXPORT, self._stack],
            env=self._env,
            cwd=self._cwd,
            check=False,
        )
        if not done.ok:
            if "no stack named" in done.stderr:
                return None
            raise LabError(f"pulumi stack export failed: {done.stderr.strip()}", next="See pulumi whoami.")
        return state.parse_export(done.stdout)

    def _quiet(self, *words: str) -> None:
        try:
            run(["pulumi", *words], env=self._env, cwd=self._cwd, seconds=120)
        except ToolError as error:
            if passphrase.SIGN in error.tail:
                raise passphrase.wrong(self.paths.stack, self.paths.checkout) from error
            raise


def _project_directory(checkout: Path, project: str) -> Path:
    """A directory that is the project `project` to the engine; destroying runs no program of it."""
    directory = checkout / ".lab" / "projects" / project
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Pulumi.yaml").write_text(f"name: {project}\nruntime: python\n")
    return directory
