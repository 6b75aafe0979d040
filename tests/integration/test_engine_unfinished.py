"""The real engine and the real etcd resource, on nodes that are files: an update that fails or is killed in each turn.

No machine takes part, so that every point can be tried; the same on machines is in test_unfinished_updates.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from deploy.certificates import issue, make_authority
from machine import engine_state as state
from machine import environment
from machine.engine import Engine
from machine.paths import CHECKOUT, StackPaths
from machine.process import Completed
from machine.waiting import Pending, wait_until
from tests.manifests import manifest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PROVIDER = """
import json, os, time
from pathlib import Path
from types import SimpleNamespace
from pulumi.dynamic import Resource
from deploy import resource
from deploy.protocol import HostResult, Response
from machine.etcd_binaries import EtcdBinaries

HERE = Path(os.environ["HERE"])
NODES = HERE / "nodes.json"

def child(request, tell=None):
    '''What deploy.child does, to a file: turn by turn, and it may stop in one.'''
    turn, _, how = os.environ.get("STOP", "").partition(":")
    nodes = json.loads(NODES.read_text()) if NODES.exists() else {}
    hosts = {name: HostResult(ok=True) for name in request.plans}
    for number, (name, plan) in enumerate(request.plans.items()):
        if request.mode == "observe":
            break
        if turn == str(number):
            nodes[name] = "down"
            NODES.write_text(json.dumps(nodes))
            if how == "kill":
                (HERE / "reached").touch()
                time.sleep(300)
            hosts[name] = HostResult(ok=False, failed=f"restart, turn {number}", stderr="bad flag")
            return Response(ok=False, hosts=hosts, seconds=1.0)
        nodes[name] = plan.generation
        NODES.write_text(json.dumps(nodes))
    observed = {name: plan.state for name, plan in request.plans.items()}
    return Response(ok=True, hosts=hosts, observed=observed, seconds=1.0)

class Provider(resource.EtcdClusterProvider):
    def configure(self, req):
        super().configure(req)
        resource.CHECKOUT = HERE
        resource.run_child = child
        programs = {name: Path(name) for name in ("etcd", "etcdctl", "etcdutl")}
        made = EtcdBinaries(*programs.values(), "3.6.16", dict.fromkeys(programs, "0" * 64))
        resource.etcd_binaries.ensure = lambda _version, _say: made

class Cluster(Resource):
    def __init__(self, props):
        outputs = dict.fromkeys(("observed", "changed", "binaries", "deployment", "seconds"))
        super().__init__(Provider(), "etcd", {**props, **outputs})
"""

PROGRAM = """
import json
from paper_cluster import Cluster
Cluster(json.loads(open("props.json").read()))
"""


class Paper:
    """A stack with the one resource."""

    def __init__(self, where: Path, engine: Engine) -> None:
        self.where = where
        self.engine = engine
        self.authority = make_authority("test")
        names = manifest().node_names
        leaf = issue(self.authority, "x", names=["x"], addresses=[IPv4Address("127.0.0.1")])
        node = {f"{role}_{part}": getattr(leaf, part) for role in ("server", "peer") for part in ("certificate", "key")}
        self.pki = {
            "ca_certificate": self.authority.certificate,
            "client_certificate": leaf.certificate,
            "client_key": leaf.key,
            "nodes": dict.fromkeys(names, node),
        }

    def want(self, heartbeat_ms: int) -> None:
        wanted = manifest(heartbeat_ms=heartbeat_ms).model_dump_json()
        props = {"manifest": wanted, "pki": self.pki, "source": "3.6.16", "instances": {"etcd1": "i-1"}}
        (self.where / "props.json").write_text(json.dumps(props))

    def start(self, *words: str, stop: str = "") -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["pulumi", *words, "--stack", "lab", "--non-interactive"],
            cwd=self.where,
            env={**os.environ, **self.engine.environment, "STOP": stop},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def pulumi(self, *words: str, stop: str = "") -> Completed:
        child = self.start(*words, stop=stop)
        said, _ = child.communicate(timeout=120)
        return Completed(words, child.returncode, said, "")

    def up(self, *, stop: str = "") -> Completed:
        return self.pulumi("up", "--yes", "--skip-preview", stop=stop)

    def kill_in(self, turn: int) -> None:
        """SIGKILL engine, language host and provider in that turn."""
        reached = self.where / "reached"
        reached.unlink(missing_ok=True)
        child = self.start("up", "--yes", "--skip-preview", stop=f"{turn}:kill")

        def begun() -> None:
            if child.poll() is not None:
                pytest.fail(str(child.communicate()[0]))
            if not reached.exists():
                raise Pending("not yet")

        wait_until(begun, "the turn", seconds=120)
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        for pid in state.leftover_processes(self.engine._mark):
            os.kill(pid, signal.SIGKILL)

    @property
    def nodes(self) -> Mapping[str, str]:
        found = json.loads((self.where / "nodes.json").read_text())
        assert isinstance(found, dict)
        return found


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paper]:
    (tmp_path / "paper_cluster.py").write_text(PROVIDER)
    (tmp_path / "__main__.py").write_text(PROGRAM)
    (tmp_path / "Pulumi.yaml").write_text("name: etcd-lab\nruntime: python\n")
    (tmp_path / ".lab" / "stacks" / "lab").mkdir(parents=True)
    for name, value in {"PYTHONPATH": f"{tmp_path}:{CHECKOUT}", "HERE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    real = environment.pulumi_env
    monkeypatch.setattr(environment, "pulumi_env", lambda stack: real(stack, checkout=tmp_path))
    engine = Engine(StackPaths(tmp_path, "lab"))
    engine.select()
    yield Paper(tmp_path, engine)
    engine.recover()


OLD, NEW = 300, 200


@pytest.mark.parametrize(
    ("how", "forward", "turns"),
    [("fail", False, (1,)), ("fail", True, (0,)), ("kill", False, (0, 2)), ("kill", True, (1,))],
)
def test_an_update_that_stopped_in_any_turn_is_seen_and_finished_or_taken_back(
    paper: Paper, how: str, forward: bool, turns: tuple[int, ...]
) -> None:
    paper.want(OLD)
    assert paper.up().ok
    before = paper.nodes
    for turn in turns:
        paper.want(NEW)
        if how == "kill":
            paper.kill_in(turn)
            assert paper.pulumi("cancel", "--yes").ok, "the engine's own way past the lock of one that was killed"
        else:
            failed = paper.up(stop=f"{turn}:fail")
            assert not failed.ok
            assert "bad flag" in failed.stdout
        assert "down" in paper.nodes.values()
        paper.want(NEW if forward else OLD)
        preview = paper.pulumi("preview", "--expect-no-changes")
        assert not preview.ok
        assert "did not finish" in preview.stdout, "the preview shows what there is to do"
        done = paper.up()
        assert done.ok, done.stdout
        assert (paper.nodes == before) is not forward
        assert "down" not in paper.nodes.values()
        assert paper.pulumi("preview", "--expect-no-changes").ok


@pytest.mark.parametrize("how", ["fail", "kill"])
def test_a_first_update_that_stopped_is_begun_again(paper: Paper, how: str) -> None:
    paper.want(OLD)
    if how == "kill":
        paper.kill_in(1)
        assert paper.pulumi("cancel", "--yes").ok
    else:
        assert not paper.up(stop="1:fail").ok
    done = paper.up()
    assert done.ok, done.stdout
    assert "down" not in paper.nodes.values()
    assert paper.pulumi("preview", "--expect-no-changes").ok


def test_after_a_refresh_it_is_still_seen_and_the_record_goes_with_the_resource(paper: Paper) -> None:
    paper.want(OLD)
    assert paper.up().ok
    record = StackPaths(paper.where, "lab").deployment
    paper.want(NEW)
    assert not paper.up(stop="1:fail").ok
    paper.want(OLD)
    assert paper.pulumi("refresh", "--yes", "--skip-preview").ok
    assert paper.up().ok
    assert "down" not in paper.nodes.values()
    assert record.exists()
    assert paper.pulumi("destroy", "--yes", "--skip-preview").ok
    assert not record.exists()
