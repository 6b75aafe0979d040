"""Faults of the etcd process on a machine that is well: killed, held down, stopped, starved of memory or processor."""

from __future__ import annotations

import math
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Proof
from chaos.faults.guest import GuestFault
from chaos.faults.oneshot import OneShot, changed
from chaos.faults.parameters import Parameter
from chaos.lab.lab import Lab
from chaos.lab.probes import FROM_HERE_SECONDS
from chaos.lab.scripts import DIRECTORY, each, tried
from chaos.member.unit import KILLED, MAIN, MEMORY_EVENTS, UNIT, UnitState, cpu_share, unit_states
from machine.errors import UsageError

BACK_SECONDS = 90.0
"""From the end of a fault to an etcd that has joined: 3-10 s under TCG, three at once three times that."""

ALONE_SECONDS = 30.0
"""An etcd that lives as long and is not active yet hears of no leader, for other reasons than this fault: it tells
systemd that it is up once the cluster has taken its name (E etcdmain/etcd.go, ReadyNotify). One that cannot live ends
sooner, and begins anew."""

REVIVE = f"systemctl reset-failed {UNIT} 2>/dev/null || :\nsystemctl start --no-block {UNIT}"
"""Start etcd again, whatever state its unit is in; nothing when it runs."""


def pid_before(node: str) -> str:
    """Name of the fact: the main process and its start."""
    return f"etcd's process on {node}"


def restarts_before(node: str) -> str:
    """Name of the fact: how often systemd brought it back."""
    return f"restarts on {node}"


def alive(states: dict[str, UnitState | None]) -> list[Proof]:
    """That etcd runs on each node, by systemd and by the kernel; or starts, where there is no leader to join."""
    return [
        Proof(
            f"etcd on {node}",
            node,
            f"active, and running; or starting, for {ALONE_SECONDS:g} s or more",
            "no answer" if state is None else f"{state.active}, process {state.state or 'none'} of {state.age:.0f} s",
            state is not None
            and state.state in ("R", "S", "D")
            and (state.active == "active" or (state.active == "activating" and state.age >= ALONE_SECONDS)),
        )
        for node, state in states.items()
    ]


@dataclass(frozen=True)
class Kill(OneShot):
    """SIGKILL to etcd; systemd brings it back after RestartSec."""

    name: ClassVar[str] = "kill"
    family: ClassVar[str] = "process"
    summary: ClassVar[str] = "SIGKILL to etcd; systemd brings it back"
    occupies: ClassVar[str] = "process"

    def place(self, lab: Lab) -> str:  # noqa: ARG002
        """Inside."""
        return "guest"

    def facts(self, lab: Lab) -> dict[str, str]:
        """Main process, its start and the restarts so far, of each node."""
        facts: dict[str, str] = {}
        for node, state in unit_states(lab, self.nodes).items():
            facts[pid_before(node)] = state.process if state else ""
            facts[restarts_before(node)] = str(state.restarts) if state else ""
        return facts

    def apply(self, lab: Lab) -> None:
        """All at once."""
        each(lab, self.nodes, f"{MAIN} && kill -KILL $p")

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """Another process, and a restart more by systemd; or just that etcd runs."""
        if not in_force:
            return alive(unit_states(lab, self.nodes))
        before = self.before(lab)
        pids = {node: before.get(pid_before(node), "").split(" ")[0] for node in self.nodes}
        states = unit_states(lab, self.nodes, {node: int(pid) for node, pid in pids.items() if pid.isdigit()})
        proof = []
        for node, state in states.items():
            was, now = before.get(restarts_before(node), ""), state.restarts if state else 0
            more = was.isdigit() and now > int(was)
            proof.append(changed(pid_before(node), node, before.get(pid_before(node)), state.process if state else ""))
            proof.append(Proof(restarts_before(node), "systemd", f"more than {was or '?'}", str(now), more))
        return proof

    def proof_seconds(self, in_force: bool) -> float:
        """RestartSec and the start of a process, or until it has joined."""
        return 20.0 if in_force else BACK_SECONDS


@dataclass(frozen=True)
class ProcessFault(GuestFault):
    """A process fault that lasts, and is seen in the state of the unit."""

    family: ClassVar[str] = "process"
    occupies: ClassVar[str] = "process"

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """What systemd and the kernel say on each node, and whether the member answers."""
        if not in_force:
            return alive(unit_states(lab, self.nodes))
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(lab.cluster.status, FROM_HERE_SECONDS)
            states = unit_states(lab, self.nodes)
            statuses = {status.node: status for status in asked.result()}
        proof: list[Proof] = []
        for node, state in states.items():
            proof += [Proof(f"etcd on {node}", node, "known", "no answer", holds=False)] if not state else []
            proof += self.signs(node, state) if state else []
            answer = "it answers" if statuses[node].ok else statuses[node].error
            proof.append(Proof(f"member {node}", "this host", "no answer", answer, not statuses[node].ok))
        return proof

    @abstractmethod
    def signs(self, node: str, state: UnitState) -> list[Proof]:
        """What must be seen of the unit while the fault is in force."""

    def proof_seconds(self, in_force: bool) -> float:
        """Until the unit is where it must be, or has joined again."""
        return 20.0 if in_force else BACK_SECONDS


@dataclass(frozen=True)
class KillHold(ProcessFault):
    """SIGKILL to etcd, and systemd may not bring it back."""

    name: ClassVar[str] = "kill-hold"
    summary: ClassVar[str] = "SIGKILL to etcd, and it stays down; heal starts it"

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Kill, and take the restart back while systemd waits for RestartSec (systemctl(1), stop)."""
        return f"if {MAIN}; then kill -KILL $p; fi\nsystemctl stop {UNIT}"

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Start."""
        return REVIVE

    def signs(self, node: str, state: UnitState) -> list[Proof]:
        """No process; and the last one was killed, not stopped, so that systemd had not brought it back before."""
        seen = f"{state.active}, ended by {state.ended}, main process {state.pid or 'none'}"
        holds = state.active in ("inactive", "failed") and state.ended == KILLED and not state.pid
        return [Proof(f"etcd on {node}", "systemd", f"down, ended by {KILLED}, main process none", seen, holds)]


@dataclass(frozen=True)
class Stop(ProcessFault):
    """A graceful stop (SIGTERM by systemd): a leader hands over before it goes (E TryTransferLeadershipOnShutdown)."""

    name: ClassVar[str] = "stop"
    summary: ClassVar[str] = "stop etcd gracefully; heal starts it"

    call_seconds: ClassVar[float] = 80.0
    """systemd kills what has not ended after TimeoutStopSec, 30 s in etcd's unit."""

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """`systemctl stop`, which waits until it has ended."""
        return f"systemctl stop {UNIT}"

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Start."""
        return REVIVE

    def signs(self, node: str, state: UnitState) -> list[Proof]:
        """Inactive, by its own will."""
        seen = f"{state.active}, result {state.result}, main process {state.pid or 'none'}"
        holds = state.active == "inactive" and state.result == "success" and not state.pid
        return [Proof(f"etcd on {node}", "systemd", "inactive, result success, main process none", seen, holds)]


@dataclass(frozen=True)
class StopProcess(ProcessFault):
    """SIGSTOP: the kernel takes connections and bytes for it, and nobody answers. Heal: SIGCONT."""

    name: ClassVar[str] = "stop-process"
    summary: ClassVar[str] = "SIGSTOP to etcd: connections are taken, nobody answers; heal sends SIGCONT"

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """The main process."""
        return f"{MAIN} && kill -STOP $p"

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Nothing where there is none, or it ends just now."""
        return f"if {MAIN}; then kill -CONT $p || [ ! -e /proc/$p ]; fi"

    def signs(self, node: str, state: UnitState) -> list[Proof]:
        """The kernel's word for a stopped process."""
        seen = f"process {state.pid} in state {state.state or 'none'}"
        return [Proof(f"etcd on {node}", "/proc", "state T", seen, state.state == "T")]


@dataclass(frozen=True)
class OutOfMemory(GuestFault):
    """A memory limit under what etcd needs: the kernel kills it, again after each start, until the limit is lifted."""

    name: ClassVar[str] = "oom"
    family: ClassVar[str] = "process"
    summary: ClassVar[str] = "limit etcd's memory until the kernel kills it, again after each start"
    occupies: ClassVar[str] = "process"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("limit", "whole", 8, "memory for etcd, MiB", low=2, high=4096),
    )

    def check(self, lab: Lab) -> None:
        """Refuse a limit that the machine itself does not have."""
        super().check(lab)
        for node in self.nodes:
            there = lab.manifest.node(node).memory_mib
            if self.value("limit") >= there:
                raise UsageError(
                    f"limit of {self.name} is {self.value('limit')} MiB, and {node} has {there}: nothing is killed",
                    where=f"--set limit={self.value('limit')}",
                    next="Give less than etcd takes; 8 is usual.",
                )

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Note the kills so far, once, then set the limit on the unit's control group."""
        kept = f"{DIRECTORY}/{self.id}/kills"
        limit = f"systemctl set-property --runtime {UNIT} MemoryMax={self.value('limit')}M"
        return f"[ -e {kept} ] || {_KILLS} >{kept}\n{limit}"

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """No limit, no trace of it, and etcd started."""
        return tried(_unset("MemoryMax", "infinity"), REVIVE)

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """The limit in the control group's files, and a kill more by the kernel; or no limit, and etcd runs."""
        limits = f"systemctl show -P MemoryMax {UNIT}; {_KILLS}; cat {DIRECTORY}/{self.id}/kills 2>/dev/null || :"
        wanted = str(self.value("limit") * 2**20) if in_force else "infinity"
        proof = []
        for node, said in each(lab, self.nodes, limits, check=False).items():
            limit, now, before, *_ = [*said.stdout.split(), "", "", ""]
            proof.append(Proof(f"memory limit on {node}", "systemd", wanted, limit or "no answer", limit == wanted))
            if in_force:
                more = now.isdigit() and before.isdigit() and int(now) > int(before)
                proof.append(
                    Proof(f"kills for memory on {node}", MEMORY_EVENTS, f"more than {before or '?'}", now or "?", more)
                )
        return proof if in_force else proof + alive(unit_states(lab, self.nodes))

    def proof_seconds(self, in_force: bool) -> float:
        """Until the kernel strikes, or until it has joined."""
        return 30.0 if in_force else BACK_SECONDS


OVERRUN = 1.5
"""Times its share that a group may be seen to take."""


@dataclass(frozen=True)
class CpuStarve(GuestFault):
    """A small share of one processor for etcd (CPUQuota=): it lives, and is late for everything."""

    name: ClassVar[str] = "cpu-starve"
    family: ClassVar[str] = "process"
    summary: ClassVar[str] = "give etcd a small share of one processor"
    occupies: ClassVar[str] = "process"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("percent", "whole", 5, "share of one processor, percent", low=1, high=90),
    )

    def check(self, lab: Lab) -> None:
        """Refuse a share so large that etcd does not exceed it without the fault either."""
        super().check(lab)
        for node in self.nodes:
            most = 100 * lab.manifest.node(node).vcpus
            if self.value("percent") * OVERRUN >= most:
                raise UsageError(
                    f"percent of {self.name} is {self.value('percent')}, too much to be proved: with its {most} % of a "
                    f"processor {node} takes hardly more",
                    where=f"--set percent={self.value('percent')}",
                    next=f"Give a number from 1 to {math.ceil(most / OVERRUN) - 1}.",
                )

    def baseline(self, lab: Lab) -> tuple[Proof, ...]:
        """Under the same load it takes more than it will get: else the share afterwards would prove nothing."""
        return self._shares(lab, in_force=False)

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Set the quota on the unit's control group."""
        return f"systemctl set-property --runtime {UNIT} CPUQuota={self.value('percent')}%"

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """No quota, and no trace of it."""
        return _unset("CPUQuota", "")

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """Share of the processor, measured under load."""
        return list(self._shares(lab, in_force=in_force))

    def _shares(self, lab: Lab, *, in_force: bool) -> tuple[Proof, ...]:
        percent = self.value("percent")
        # A group may overrun in a period and pays in the next (kernel, sched-bwc): a half more is within the quota.
        limit = percent * OVERRUN
        expected = f"at most {limit:g} %, throttled" if in_force else f"more than {limit:g} %"
        proof = []
        for node, share in cpu_share(lab, self.nodes).items():
            seen = "no answer" if share is None else str(share)
            holds = share is not None and (
                share.percent <= limit and share.throttled > 0 if in_force else share.percent > limit
            )
            proof.append(Proof(f"etcd's share of the processor on {node}", "cpu.stat", expected, seen, holds))
        return tuple(proof)

    def proof_seconds(self, in_force: bool) -> float:  # noqa: ARG002
        """Two measurements and a slow machine."""
        return 30.0


_KILLS = f"awk '$1 == \"oom_kill\" {{ print $2 }}' {MEMORY_EVENTS}"


def _unset(property_: str, value: str) -> str:
    """Script that takes a runtime property back, and its drop-in away; quick when there is none.

    The drop-in stays when the property could not be taken back: it is how the next attempt knows.
    """
    file = f"/run/systemd/system.control/{UNIT}.d/50-{property_}.conf"
    return (
        f"if [ -e {file} ]; then systemctl set-property --runtime {UNIT} {property_}={value} && rm -f {file} &&\n"
        f"{{ rmdir --ignore-fail-on-non-empty {file.rpartition('/')[0]} || :; }} && systemctl daemon-reload; fi"
    )
