"""Shell scripts in the guests: run on several nodes at once, and composed of steps that are all tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from chaos.lab.lab import Lab
from machine.errors import LabError
from machine.process import Completed

DIRECTORY = "/run/etcd-lab/faults"
"""In the guest: one directory per fault, with its undo script. Gone with a reboot, as what it undoes."""

UNIT_PREFIX = "etcdlab-"
"""Every transient unit of ours in a guest begins so."""

TRANSIENT = "/run/systemd/transient"
"""Where systemd keeps the files of units that systemd-run made, as long as they are there (systemd.unit(5))."""

CALL_SECONDS = 40.0
"""Limit of one call into a guest: several forks of an emulated machine under load."""


def each(
    lab: Lab,
    nodes: Iterable[str],
    script: str | Callable[[str], str],
    *,
    seconds: float = CALL_SECONDS,
    check: bool = True,
    once: bool = False,
) -> dict[str, Completed]:
    """Run a shell script on several nodes at once; a callable gives each node its own.

    In the shells kept open there (chaos.lab.guest_shells): a script that was under way when its shell was lost
    runs again, beside the first where that goes on. With `once` in a session of its own,
    and never again. With `check`, the first failure is raised after all have ended.
    """
    names = list(nodes)
    if not names:
        return {}

    def one(node: str) -> Completed:
        shell, text = lab.shell(node), script if isinstance(script, str) else script(node)
        if once:
            return shell.run(text, seconds, check=check)
        return lab.inside.run(shell, text, seconds, check=check)

    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def boot_ids(lab: Lab, nodes: Iterable[str]) -> dict[str, str]:
    """The kernel's name of each node's boot, "" where nobody can log in; nodes are asked at once."""

    def one(node: str) -> str:
        try:
            return lab.shell(node).run("cat /proc/sys/kernel/random/boot_id", seconds=20).stdout.strip()
        except LabError:
            return ""

    names = list(nodes)
    with ThreadPoolExecutor(max(1, len(names))) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def tried(*steps: str) -> str:
    """Script that tries every step, each in a shell of its own; it ends with the status of the last that went wrong.

    `set -e` would leave undone what comes after a step that fails, and does nothing inside a step (POSIX, set: it is
    ignored before `||`). A step tells by its status whether what it undoes is gone now, so it succeeds where there was
    nothing.
    """
    told = 'undone=$?; echo "step {} of {} ended with status $undone" >&2'
    lines = [f"( {step}\n) || {{ {told.format(number, len(steps))}; }}" for number, step in enumerate(steps, 1)]
    return "\n".join(("undone=0", *lines, "(exit $undone)"))
