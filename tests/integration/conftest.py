"""Labs on real machines for the integration tests, built by the commands that a user types.

`lab` (three nodes, stack `itest`) is built once by `./lab verify` and shared; whoever breaks it mends it.
A test marked `last` runs after all others.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.lab.lab import Lab
from infra.manifest import load
from machine import engine_state as state
from machine import netns
from machine.hypervisor import Embedded
from machine.paths import CHECKOUT, StackPaths, stack_paths
from machine.process import Completed
from machine.waiting import Pending, wait_until

STACK = "itest"
BACKEND = CHECKOUT / ".lab" / "state"
UP_SECONDS = 900.0
VERIFY_SECONDS = 2400.0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "last: runs after all other tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@dataclass(frozen=True)
class Stack:
    """One stack of this checkout, and ./lab on it."""

    name: str

    @property
    def paths(self) -> StackPaths:
        return stack_paths(self.name)

    @property
    def config(self) -> Path:
        return CHECKOUT / f"Pulumi.{self.name}.yaml"

    @property
    def env(self) -> Mapping[str, str]:
        return {**os.environ, "ETCD_LAB_STACK": self.name, "NO_COLOR": "1"}

    def configure(self, **values: object) -> None:
        """Set the settings, whole; names with underscores for hyphens. What the engine keeps there stays."""
        kept = []
        if self.config.exists():
            kept = [line for line in self.config.read_text().splitlines() if line.startswith("encryptionsalt")]
        lines = [f"  etcd-lab:{key.replace('_', '-')}: {value}" for key, value in values.items()]
        self.config.write_text("\n".join([*kept, "config:", *lines]) + "\n")

    def lab(self, *words: str, seconds: float = 120.0, stdin: str = "") -> Completed:
        """Run `./lab WORDS` on the stack; its output is shown when the test fails."""
        return self.shell(shlex.join(["./lab", *words]), seconds=seconds, stdin=stdin)

    def shell(self, script: str, *, seconds: float = 120.0, stdin: str = "") -> Completed:
        """Run a piece of shell in the checkout, as a user would."""
        started = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=CHECKOUT,
            env=dict(self.env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        print(f"$ {script}  [{time.monotonic() - started:.1f} s, status {done.returncode}]")  # noqa: T201
        print(done.stdout[-6000:], done.stderr[-6000:], sep="\n")  # noqa: T201
        return Completed((script,), done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str, seconds: float = 120.0, stdin: str = "") -> Completed:
        """Run `./lab WORDS`, which must succeed."""
        done = self.lab(*words, seconds=seconds, stdin=stdin)
        said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert done.ok, f"./lab {' '.join(words)} ended with {done.status}:\n{said}"
        return done

    def start(self, verb: str, log: Path) -> subprocess.Popen[bytes]:
        """Start `./lab VERB` in a session of its own, without a terminal; what it says goes to `log`."""
        with log.open("wb") as stream:
            return subprocess.Popen(
                ["./lab", verb],
                cwd=CHECKOUT,
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def deployment(self) -> state.Deployment:
        """What the engine's state holds of it."""
        return state.read(BACKEND, self.name) or state.Deployment()

    def reach(self, child: subprocess.Popen[bytes], point: Callable[[], bool], log: Path, *, seconds: float) -> None:
        """Wait until `point` is reached while `child` runs."""

        def probe() -> None:
            if child.poll() is not None:
                pytest.fail(f"ended with {child.returncode} before the point was reached:\n{log.read_text()}")
            if not point():
                raise Pending(log.read_text()[-300:])

        wait_until(probe, "the point", seconds=seconds, every=0.05)

    def kill(self, child: subprocess.Popen[bytes]) -> None:
        """SIGKILL `child` together with the engine that it runs."""
        engines = [lock.pid for lock in state.locks(BACKEND, self.name)]
        child.kill()
        for pid in engines:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        child.wait()

    def hypervisor(self) -> Embedded:
        return Embedded(self.paths.hypervisor_id, self.paths.hypervisor, self.paths.run_dir)

    def remains(self) -> list[str]:
        """What is still there of the stack's lab, apart from its configuration."""
        paths, hypervisor = self.paths, self.hypervisor()
        found = [str(path) for path in (paths.dir, paths.run_dir, paths.faults) if path.exists()]
        if netns.exists(hypervisor.netns):
            found.append(f"namespace {hypervisor.netns}")
        return found + [f"process {pid}: {words}" for pid, words in processes_about(paths).items()]

    def destroy(self) -> None:
        """Remove the lab and its configuration, whatever happened before."""
        done = self.lab("destroy", seconds=300)
        remains = self.remains()
        self.config.unlink(missing_ok=True)
        assert done.ok, done.stderr
        assert remains == []


def processes_about(paths: StackPaths) -> dict[int, str]:
    """Processes whose command line speaks of the stack's directories or namespace."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if any(str(name) in words for name in (paths.dir, paths.run_dir, paths.hypervisor_id)):
                    found[int(entry.name)] = words.strip()
    return found


def listeners() -> frozenset[str]:
    """Sockets of this checkout's processes that listen in the host's own network namespace."""
    done = subprocess.run(["ss", "-Hlntup"], capture_output=True, text=True, check=True)
    found = set()
    for line in done.stdout.splitlines():
        fields = line.split()
        pids = [int(pid) for pid in re.findall(r"pid=(\d+)", line)]
        if any(of_checkout(pid) for pid in pids):
            found.add(f"{fields[0]} {fields[4]} {' '.join(fields[6:])}")
    return frozenset(found)


def of_checkout(pid: int) -> bool:
    """Whether the process was started for this checkout: by its words, its directory or its environment."""
    place = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        said = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
        return os.fsencode(CHECKOUT) in said + os.fsencode((place / "cwd").readlink())
    return False


def tracked() -> str:
    """What git says of the checkout."""
    words = ["git", "status", "--porcelain", "--untracked-files=normal"]
    return subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout


@dataclass(frozen=True)
class Host:
    """The machine before the first lab was built; compared with what it is now."""

    listeners: frozenset[str]
    tracked: str

    def new_listeners(self) -> frozenset[str]:
        return listeners() - self.listeners

    def tracked_now(self) -> str:
        return tracked()


@pytest.fixture(scope="session")
def host() -> Host:
    return Host(listeners(), tracked())


@pytest.fixture(scope="session")
def make_stack() -> Callable[[str], Stack]:
    """A stack by its name."""
    return Stack


@dataclass(frozen=True)
class Verified:
    """What the main job did."""

    done: Completed
    report: Path
    seconds: float


@pytest.fixture(scope="session")
def verified(host: Host) -> Iterator[Verified]:
    """The main job, once: ./lab verify on a stack of its own, with its own subnet."""
    stack = Stack(STACK)
    stack.destroy()
    stack.configure(subnet="192.168.94.0/24")
    started = time.monotonic()
    try:
        done = stack.lab("verify", seconds=VERIFY_SECONDS)
        seconds = time.monotonic() - started
        yield Verified(done, (CHECKOUT / ".lab/reports/latest").resolve(), seconds)
    finally:
        stack.destroy()


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Stack:
    """The three-node lab that the main job left; or one that stands, by ETCD_LAB_TEST_STACK, for work on the tests."""
    if standing := os.environ.get("ETCD_LAB_TEST_STACK"):
        return Stack(standing)
    verified: Verified = request.getfixturevalue("verified")
    assert verified.report.exists()
    return Stack(STACK)


@pytest.fixture
def opened(lab: Stack) -> Iterator[Lab]:
    """The lab as scenarios see it, with recording clients."""
    with Lab(load(lab.paths), lab.paths) as one:
        yield one
