"""The real engine killed while it makes a resource; no machine takes part, so this costs seconds.

The project is a tiny one in a directory of its own; its only resource takes as long to make as the test wants.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import destroy
from cli.engine import Engine
from machine import engine_state as state
from machine import environment
from machine.paths import CHECKOUT, StackPaths
from machine.waiting import Pending, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

PROVIDER = """
import os, time
from pathlib import Path
from pulumi.dynamic import CreateResult, Resource, ResourceProvider

class Slow(ResourceProvider):
    def create(self, props):
        Path(os.environ["MARKER"]).touch()
        time.sleep(float(os.environ.get("SLOW", "0")))
        return CreateResult("made", {})

class Thing(Resource):
    def __init__(self, name):
        super().__init__(Slow(), name, {})
"""

DRIVER = """
import sys
from pathlib import Path
from machine import environment
from machine.paths import StackPaths
real = environment.pulumi_env
here = Path.cwd()
environment.pulumi_env = lambda stack: real(stack, checkout=here)
from cli.engine import Engine
Engine(StackPaths(here, "lab")).update("up")
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    (tmp_path / "slow_thing.py").write_text(PROVIDER)
    (tmp_path / "__main__.py").write_text("from slow_thing import Thing\nThing('thing')\n")
    (tmp_path / "Pulumi.yaml").write_text("name: etcd-lab\nruntime: python\n")
    (tmp_path / ".lab").mkdir()
    for name, value in {"PYTHONPATH": f"{tmp_path}:{CHECKOUT}", "MARKER": str(tmp_path / "marker")}.items():
        monkeypatch.setenv(name, value)
    real = environment.pulumi_env

    def env(stack: str) -> dict[str, str]:
        """With the directory of the test's own provider, which no environment has installed."""
        return {**real(stack, checkout=tmp_path), "PYTHONPATH": str(tmp_path)}

    monkeypatch.setattr(environment, "pulumi_env", env)
    one = Engine(StackPaths(tmp_path, "lab"))
    one.select()
    yield one
    one.recover()


def start_slow_up(engine: Engine, seconds: float) -> tuple[subprocess.Popen[bytes], state.Lock]:
    """An update that is in the middle of making the resource, and its lock."""
    where = engine.paths.checkout
    child = subprocess.Popen([sys.executable, "-c", DRIVER], cwd=where, env={**os.environ, "SLOW": str(seconds)})

    def begun() -> state.Lock:
        if child.poll() is not None:
            pytest.fail(f"the update ended with {child.returncode}")
        if not (where / "marker").exists():
            raise Pending("not yet")
        return locks(engine)[0]

    return child, wait_until(begun, "the resource is being made", seconds=120)


def locks(engine: Engine) -> list[state.Lock]:
    assert engine.backend is not None
    return state.locks(engine.backend, "lab")


def built(engine: Engine) -> list[str]:
    deployment = engine.deployment()
    assert deployment is not None
    return [resource.name for resource in deployment.built]


def test_after_sigkill_of_command_and_engine_the_next_update_goes_on(engine: Engine) -> None:
    child, lock = start_slow_up(engine, 120)
    assert lock.alive
    child.kill()
    os.killpg(lock.pid, signal.SIGKILL)
    child.wait()
    left = state.leftover_processes(engine._mark)
    assert left, "the provider outlives its engine, which is why recover() ends it"
    assert engine.recover() is True
    assert state.leftover_processes(engine._mark) == []
    assert locks(engine) == []
    assert built(engine) == []
    engine.update("up")
    assert built(engine) == ["thing"]
    engine.update("destroy")
    assert built(engine) == []


def test_after_sigkill_of_the_command_alone_the_engine_stops_by_itself(engine: Engine) -> None:
    """It is interrupted, and has cli.foreground.GRACE_SECONDS for what it is in the middle of."""
    child, lock = start_slow_up(engine, 4)
    child.kill()
    child.wait()
    engine.recover()
    assert not lock.alive
    assert built(engine) == ["thing"], "what was being made was finished and written down"


def test_a_verification_stack_goes_first_and_alone(engine: Engine) -> None:
    """Two projects, one stack name: destroying the one must not touch the other."""
    engine.update("up")
    where = engine.paths.checkout / "chaos-project"
    where.mkdir()
    (where / "__main__.py").write_text("from slow_thing import Thing\nThing('fault')\n")
    (where / "Pulumi.yaml").write_text("name: etcd-lab-chaos\nruntime: python\n")
    name = "organization/etcd-lab-chaos/lab"
    for words in (["stack", "init", name], ["up", "--yes", "--skip-preview", "--stack", name]):
        subprocess.run(["pulumi", *words], cwd=where, env=engine._env, check=True)
    [chaos] = destroy._chaos_stacks(engine)
    assert built(chaos) == ["fault"]
    chaos.update("destroy")
    chaos.remove_stack()
    assert destroy._chaos_stacks(engine) == []
    assert built(engine) == ["thing"]
