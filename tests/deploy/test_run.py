"""Whole runs over pyinfra's fake connector: order, failures, what each node is told to do.

Nodes are called @fake/… here because that is how pyinfra picks the connector.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gevent.monkey
import pytest
from pyinfra.api.inventory import Inventory

from deploy.plan import NodePlan, PkiBundle, render
from deploy.protocol import Binary, Request, Response
from deploy.run import Run
from infra.manifest import Manifest

SHA256 = {"etcd": "a" * 64, "etcdctl": "b" * 64, "etcdutl": "c" * 64}
NODES = ("@fake/1", "@fake/2", "@fake/3")


@dataclass(frozen=True)
class Member:
    node: str
    healthy: bool
    reason: str = ""


@dataclass
class FakeCluster:
    leads: str | None = NODES[0]
    moves: list[str] = field(default_factory=list)

    def health(self) -> Sequence[Member]:
        return [Member(name, healthy=True) for name in NODES]

    def leader(self) -> str | None:
        return self.leads

    def move_leader(self, to: str) -> None:
        self.moves.append(to)
        self.leads = to


@dataclass
class Lab:
    """Three fake nodes; `looks` is what each finds when looked at, `answers` what commands say."""

    plans: dict[str, NodePlan]
    manifest: Manifest
    looks: dict[str, str]
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    commands: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 20

    def run(self, mode: Literal["apply", "observe"] = "apply") -> Response:
        request = Request(
            mode=mode,
            manifest=self.manifest,
            checkout=Path("/nowhere"),
            plans=self.plans,
            binaries={name: Binary(path=Path("/nowhere") / name, sha256=digest) for name, digest in SHA256.items()},
            seconds=self.seconds,
        )
        hosts = [
            (
                name,
                {
                    "fake_delay": 0,
                    "fake_delay_jitter": 0,
                    "fake_responses": {**self.answers.get(name, {}), "systemctl show": self.looks[name]},
                },
            )
            for name in NODES
        ]
        inventory = Inventory((hosts, {}))  # type: ignore[no-untyped-call]
        response = Run(request, inventory, self.cluster)()
        self.commands = {
            name: inventory.get_host(name).connector.executed_commands  # type: ignore[attr-defined] # FakeConnector's
            for name in NODES
        }
        return response

    def said(self, name: str, word: str) -> bool:
        """Whether the node got a command with that word."""
        return any(word in command for command in self.commands[name])


def look(plan: NodePlan, *, without: tuple[str, ...] = (), state: str = "active", generation: str | None = None) -> str:
    """What a node says that has all of the plan but `without`."""
    lines = [f"{file.digest}  {file.path}" for file in plan.files if file.path not in without]
    lines.append(f"generation={plan.generation if generation is None else generation}")
    present = {name: digest for name, digest in SHA256.items() if f"/usr/local/bin/{name}" not in without}
    lines += [f"stamp={name} {digest} 7 8 9" for name, digest in present.items()]
    lines += [f"stat={name} 7 8 9" for name in present]
    for unit in ("etcd-data.service", "etcd.service"):
        lines += [f"Id={unit}", "LoadState=loaded", f"ActiveState={state}"]
        lines += ["UnitFileState=enabled", "NeedDaemonReload=no", ""]
    return "\n".join(lines)


@pytest.fixture
def lab(manifest: Manifest, pki: PkiBundle) -> Lab:
    renamed = dict(zip(manifest.node_names, NODES, strict=True))
    nodes = tuple(node.model_copy(update={"name": renamed[node.name]}) for node in manifest.nodes)
    bundle = pki.model_copy(update={"nodes": {renamed[name]: node for name, node in pki.nodes.items()}})
    system = manifest.hypervisor.model_copy(update={"kind": "system"})  # nothing is served over HTTP then
    changed = manifest.model_copy(update={"nodes": nodes, "hypervisor": system})
    plans = render(changed, bundle)
    return Lab(plans, changed, {name: look(plan) for name, plan in plans.items()})


def test_gevent_has_not_patched_this_process() -> None:
    """pyinfra's own modules must not, since Pulumi and gRPC live in such processes."""
    assert not gevent.monkey.is_module_patched("socket")


def test_nothing_to_do_is_one_command_a_node(lab: Lab) -> None:
    response = lab.run()
    assert response.ok
    assert [len(commands) for commands in lab.commands.values()] == [1, 1, 1]
    assert response.observed == {name: plan.state for name, plan in lab.plans.items()}
    assert all(host.changed == () for host in response.hosts.values())


def test_observing_changes_nothing_and_finds_the_stopped_service(lab: Lab) -> None:
    lab.looks[NODES[1]] = look(lab.plans[NODES[1]], without=("/etc/etcd/etcd.yaml",), state="inactive")
    response = lab.run("observe")
    assert response.ok
    assert [len(commands) for commands in lab.commands.values()] == [1, 1, 1]
    assert response.observed[NODES[1]]["etcd.service"] == "inactive, enabled"
    assert "/etc/etcd/etcd.yaml" not in response.observed[NODES[1]]


def test_first_deploy_starts_all_together_and_restarts_none(lab: Lab) -> None:
    for name, plan in lab.plans.items():
        lab.looks[name] = look(plan, without=tuple(plan.state), state="inactive", generation="")
    assert lab.run().ok
    for name in NODES:
        assert lab.said(name, "restart --no-block etcd.service")
        assert lab.said(name, "tar -xpf -")
        assert lab.said(name, f"{SHA256['etcdutl']}  etcdutl")
        assert not lab.said(name, "systemctl restart etcd.service")
    assert lab.cluster.moves == []


def test_keys_travel_on_standard_input_only(lab: Lab) -> None:
    for name, plan in lab.plans.items():
        lab.looks[name] = look(plan, without=tuple(file.path for file in plan.files))
    assert lab.run().ok
    said = "".join(command for commands in lab.commands.values() for command in commands)
    assert "PRIVATE" not in said
    assert not re.search(r"[A-Za-z0-9+/]{120}", said)


def changed_config(lab: Lab) -> Lab:
    for name, plan in lab.plans.items():
        lab.looks[name] = look(plan, without=("/etc/etcd/etcd.yaml", "/etc/etcd/generation"), generation="old")
    return lab


def test_a_change_restarts_one_by_one_and_the_leader_last(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    cluster = changed_config(lab).cluster
    cluster.leads = NODES[0]
    real = cluster.health

    def health() -> Sequence[Member]:
        order.append("health")
        return real()

    monkeypatch.setattr(cluster, "health", health)
    response = lab.run()
    assert response.ok, response.error
    turns = {name: [op for op in host.changed if op.startswith("restart")] for name, host in response.hosts.items()}
    assert turns == {
        NODES[1]: ["restart, turn 1"],
        NODES[2]: ["restart, turn 2"],
        NODES[0]: ["restart, turn 3"],
    }
    assert cluster.moves == [NODES[2]]
    assert len(order) >= 6  # before and after each


def test_a_failed_restart_leaves_the_others_alone(lab: Lab) -> None:
    changed_config(lab)
    lab.answers[NODES[1]] = {"restart etcd.service": {"success": False, "stderr": "bad config: quota"}}
    response = lab.run()
    assert not response.ok
    failed = response.hosts[NODES[1]]
    assert (failed.ok, failed.failed) == (False, "restart, turn 1")
    assert "bad config: quota" in failed.stderr
    for name in (NODES[0], NODES[2]):
        assert not lab.said(name, "restart etcd.service")
        assert response.hosts[name].ok


def test_one_failed_host_fails_the_run(lab: Lab) -> None:
    changed_config(lab)
    lab.answers[NODES[2]] = {"tar -x": {"success": False, "stderr": "No space left on device"}}
    response = lab.run()
    assert not response.ok
    assert response.hosts[NODES[2]].failed == "restart, turn 2"
    assert "No space left" in response.hosts[NODES[2]].stderr
    assert not lab.said(NODES[0], "restart etcd.service")
    assert not lab.said(NODES[0], "tar -x")


PLACED = ("tar -x", "mv -f", "systemctl", "daemon-reload")
"""Words of what changes a node, beside fetching."""


def changes(lab: Lab, name: str) -> list[str]:
    """Commands that changed the node; a look at it asks systemd too."""
    looks = "systemctl show"
    return [one for one in lab.commands[name] if looks not in one and any(word in one for word in PLACED)]


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_a_roll_that_stops_leaves_those_behind_it_as_they_were(lab: Lab, turn: int) -> None:
    for name, plan in lab.plans.items():
        without = ("/etc/etcd/etcd.yaml", "/etc/etcd/generation", "/usr/local/bin/etcd", "/usr/local/bin/etcdctl")
        lab.looks[name] = look(plan, without=without, generation="old")
    lab.cluster.leads = NODES[2]
    lab.answers[NODES[turn]] = {"systemctl restart": {"success": False, "stderr": "unknown flag"}}
    response = lab.run()
    assert response.hosts[NODES[turn]].failed == f"restart, turn {turn + 1}"
    for place, name in enumerate(NODES):
        assert bool(changes(lab, name)) == (place <= turn), lab.commands[name]
        assert lab.said(name, f"'{SHA256['etcd']}  etcd'"), "what takes long was fetched for all together, aside"
        assert len(changes(lab, name)) == (place <= turn), "a turn is one command"


def test_a_gate_that_stays_shut_leaves_the_node_before_it_untouched(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    changed_config(lab)
    lab.cluster.leads = NODES[2]
    monkeypatch.setattr(lab.cluster, "health", lambda: [Member(name, name != NODES[1], "gone") for name in NODES])
    lab.seconds = 1
    response = lab.run()
    assert f"{NODES[1]}: gone" in response.hosts[NODES[0]].stderr
    assert [changes(lab, name) for name in NODES] == [[], [], []]


def test_a_member_that_is_down_is_brought_up_before_others_roll(lab: Lab) -> None:
    """What a refused setting leaves, with another setting now: the one that is down has nothing to lose."""
    changed_config(lab)
    lab.looks[NODES[2]] = look(lab.plans[NODES[2]], without=("/etc/etcd/etcd.yaml",), state="activating")
    response = lab.run()
    assert response.ok, response.error
    assert response.hosts[NODES[2]].changed == ("install", "start")
    assert response.hosts[NODES[1]].changed == ("restart, turn 1",)


def test_put_back_touches_the_member_that_failed_alone(lab: Lab) -> None:
    lab.looks[NODES[1]] = look(
        lab.plans[NODES[1]], without=("/etc/etcd/etcd.yaml", "/etc/etcd/generation"), state="failed", generation="new"
    )
    response = lab.run()
    assert response.ok, response.error
    assert [bool(changes(lab, name)) for name in NODES] == [False, True, False]
    assert lab.said(NODES[1], "systemctl restart --no-block etcd.service")


def test_programs_that_a_stopped_roll_fetched_are_removed(lab: Lab) -> None:
    lab.looks[NODES[2]] += "\nstaged=/usr/local/lib/etcd-lab/staged/etcd"
    assert lab.run().ok
    assert [lab.said(name, "rm -rf /usr/local/lib/etcd-lab/staged") for name in NODES] == [False, False, True]
    assert [changes(lab, name) for name in NODES] == [[], [], []]


@pytest.mark.parametrize(("mode", "ends"), [("apply", True), ("observe", False)])
def test_only_who_changes_nodes_ends_what_a_killed_deployment_does_there(
    lab: Lab, mode: Literal["apply", "observe"], ends: bool
) -> None:
    lab.run(mode)
    assert [lab.said(name, "kill -9") for name in NODES] == [ends] * 3


def test_a_node_that_cannot_be_looked_at_is_not_changed(lab: Lab) -> None:
    lab.answers[NODES[0]] = {"sha256sum": {"success": False, "stderr": "Input/output error"}}
    response = lab.run()
    assert not response.ok
    assert response.hosts[NODES[0]].failed
    assert [len(commands) for commands in lab.commands.values()] == [1, 1, 1]
