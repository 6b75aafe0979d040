"""etcd's unit inside a guest: what systemd, the kernel and the control group say of it, one ssh call per look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chaos.lab.lab import Lab
from chaos.lab.scripts import each
from infra.manifest import METRICS_PORT

UNIT = "etcd.service"

GROUP = f"/sys/fs/cgroup/system.slice/{UNIT}"
"""The unit's control group; the directory is made anew at each start, its counters with it."""

MEMORY_EVENTS = "/sys/fs/cgroup/system.slice/memory.events"
"""Events of all services together: these counters outlive a restart of the unit (kernel, cgroup-v2, memory.events)."""

LOOK_SECONDS = 20.0

_SHOW = (
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "NRestarts",
    "ExecMainStartTimestampMonotonic",
    "ExecMainCode",
    "ExecMainStatus",
)

KILLED = "2/9"
"""Code and status of a process that SIGKILL ended (CLD_KILLED, waitid(2))."""

MAIN = f"{{ read -r p <{GROUP}/cgroup.procs; }} 2>/dev/null"
"""Script that puts etcd's process into $p, and fails where there is none; it starts no program, which is slow."""

_LOOK = (
    f"systemctl show {UNIT} -p {','.join(_SHOW)}\n"
    "read -r up rest </proc/uptime; echo Uptime=$up\n"
    f"if {MAIN}; then while read -r k v rest; do [ $k != State: ] || echo State=$v; done </proc/$p/status; fi; :"
)


@dataclass(frozen=True, slots=True)
class UnitState:
    """The unit as systemd and the kernel have it."""

    active: str
    """systemd's ActiveState: active, activating, inactive, failed, …"""
    sub: str
    result: str
    pid: int
    """0: there is no main process."""
    restarts: int
    started_us: int
    """Start of the main process, µs of the guest's monotonic clock."""
    ended: str
    """How the last main process ended: code and status of waitid(2), 2/9 for SIGKILL, 1/0 for a good end."""
    state: str
    """The kernel's letter: R, S, D, T, Z; "" without a process (proc(5))."""
    uptime: float
    """Seconds since the machine began, on the clock of `started_us`."""

    @property
    def process(self) -> str:
        """The main process and its start in one word; "" without one."""
        return f"{self.pid} of {self.started_us / 1e6:.3f} s" if self.pid else ""

    @property
    def age(self) -> float:
        """Seconds that the main process has run; 0 without one."""
        return self.uptime - self.started_us / 1e6 if self.pid else 0.0


def parse_unit(text: str) -> UnitState | None:
    """The look's output; None when it is not whole.

    >>> parse_unit("ActiveState=active") is None
    True
    """
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if any(name not in said for name in (*_SHOW, "Uptime")):
        return None
    active, sub, result, pid, restarts, started_us, code, status = (said[name] for name in _SHOW)
    try:
        return UnitState(
            active=active,
            sub=sub,
            result=result,
            pid=int(pid),
            restarts=int(restarts),
            started_us=int(started_us),
            ended=f"{code}/{status}",
            state=said.get("State", ""),
            uptime=float(said["Uptime"]),
        )
    except ValueError:
        return None


def unit_states(lab: Lab, nodes: Iterable[str], gone: Mapping[str, int] | None = None) -> dict[str, UnitState | None]:
    """The unit on several nodes at once; None where nobody could look.

    With `gone`, main processes by node that are to be followed by others: that is waited for, for 5 s at most, inside
    the guests, as a look takes half a second there.
    """

    def look(node: str) -> str:
        return f"{_wait_for_another(gone[node])}\n{_LOOK}" if gone and node in gone else _LOOK

    looks = each(lab, nodes, look, seconds=LOOK_SECONDS, check=False)
    return {node: parse_unit(said.stdout) for node, said in looks.items()}


def _wait_for_another(pid: int) -> str:
    """Script that waits for etcd's next process; what systemd runs before it is none."""
    named = "{ read -r c </proc/$p/comm; } 2>/dev/null && [ $c = etcd ]"
    return f"for _ in $(seq 50); do {MAIN} && [ $p != {pid} ] && {named} && break; sleep 0.1; done"


@dataclass(frozen=True, slots=True)
class CpuShare:
    """How much of one processor the unit had, and for how long it was held back."""

    percent: float
    throttled: int
    """Periods in which it was held back."""
    seconds: float
    """Length of the measurement."""

    def __str__(self) -> str:
        return f"{self.percent:.1f} % over {self.seconds:.1f} s, throttled in {self.throttled} periods"


_SAMPLE = (
    "s() { read -r u rest </proc/uptime; n=; t=0; while read -r k v; do"
    f" case $k in usage_usec) n=$v;; nr_throttled) t=$v;; esac; done <{GROUP}/cpu.stat; echo $u $n $t; }}"
)


def load_script(requests: int = 4, seconds: int = 2) -> str:
    """Script that samples cpu.stat, has etcd make its metrics page all the time for `seconds`, and samples again.

    `requests` clients ask in parallel, again and again.
    """
    page = f"http://127.0.0.1:{METRICS_PORT}/metrics"
    ask = f"timeout {seconds} curl -s -m {seconds} -o /dev/null '{page}?[1-1000]' &"
    return f"{_SAMPLE}; s; for i in $(seq {requests}); do {ask} done; wait; s"


def parse_share(text: str) -> CpuShare | None:
    """The share between the two samples that the script printed; None when there are not two.

    >>> str(parse_share("10.0 1000000 3\\n12.0 1100000 23"))
    '5.0 % over 2.0 s, throttled in 20 periods'
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    try:
        (then, used, held), (now, used_now, held_now) = ([float(word) for word in line] for line in lines)
    except ValueError:
        return None
    if now <= then:
        return None
    return CpuShare((used_now - used) / 1e4 / (now - then), round(held_now - held), now - then)


def cpu_share(lab: Lab, nodes: Iterable[str]) -> dict[str, CpuShare | None]:
    """etcd's share of one processor on several nodes, measured under load for two seconds; None where nobody could."""
    said = each(lab, nodes, load_script(), seconds=30, check=False)
    return {node: parse_share(one.stdout) for node, one in said.items()}
