"""The pyinfra side: one fact that looks at a node, and the operations that change it.

Every operation is declared for every host, in the same order, and yields nothing where there is
nothing to do: in API mode pyinfra matches operations across hosts by position. Restarts are one
operation per rank and not one operation with `_serial`, for two reasons found in pyinfra 3.10
(api/operations.py `_run_single_op`, api/inventory.py `get_active_hosts`): a serial operation goes
on to the next host after a failure, and the order of hosts is that of a set.

A member that runs keeps all that it has until its turn, and a roll that stops leaves the others as they
were: only what takes long, the programs, is fetched before, aside. Members that do not run have
nothing to lose: theirs is put in place and started at once, all together.

Under emulation each command on a node costs 0.15 to 0.5 s, so all small files travel in one, on
standard input (never in an argument, which other processes on the node could see).
"""

from __future__ import annotations

import io
import shlex
import tarfile
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

from pyinfra.api.command import FileUploadCommand, FunctionCommand, PyinfraCommand, StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.host import Host
from pyinfra.api.operation import add_op, operation
from pyinfra.api.state import State
from pyinfra.context import host as current

from deploy.gate import Gate
from deploy.plan import RUNNING_FILE, TOOLS, File
from deploy.protocol import Binary
from deploy.steps import STAGE_DIR, Observed, Steps, claim_command, look_command, parse_look, stamp_command
from deploy.words import LOG_FILTER
from infra.layout import BIN_DIR, UNIT_DIR

START_SECONDS = 150
"""Limit for one etcd to report ready. A first start under emulation takes about 10 s."""


_WANTS = f"{UNIT_DIR}/multi-user.target.wants"

_SYNC = "sync -f /etc/etcd"
"""Against a power cut, which a lab is for: the whole system disk, and not etcd's own volume."""


class Look(FactBase[Observed]):
    """Everything we want to know about a node, in one command."""

    def command(self, files: Sequence[str], programs: Sequence[str], alone: bool) -> str:  # noqa: D102
        return look_command(files, programs, alone=alone)

    def process(self, output: list[str]) -> Observed:  # noqa: D102
        return parse_look(output)

    @staticmethod
    def default() -> Observed:  # noqa: D102
        return Observed()


@dataclass(frozen=True, slots=True)
class Work:
    """All that the operations need to know."""

    steps: Mapping[str, Steps]
    binaries: Mapping[str, Binary]
    url: str | None
    """Where nodes fetch binaries, without a trailing slash; None: they are sent through ssh."""
    gate: Gate
    ranks: tuple[str, ...]
    """Order of restarts."""


Commands = Generator[PyinfraCommand, None, None]


def script(text: str) -> StringCommand:
    """A shell script that stops at the first failure, and is the only one of ours that changes the node."""
    return StringCommand("sh", "-euc", shlex.quote(f"{claim_command()}\n{text}"))


def bundle(files: Sequence[File]) -> str:
    """The files as a tar archive rooted at /, as text: all in it is ASCII (JSON escapes whatever is not)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for file in files:
            content = file.content.encode("ascii")
            info = tarfile.TarInfo(file.path.lstrip("/"))
            info.size, info.mode = len(content), file.mode
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue().decode("ascii")


def install_script(steps: Steps) -> str:
    """Shell script that unpacks `bundle` from standard input and makes systemd take note."""
    lines = []
    if steps.forget:
        lines.append(f"rm -f {RUNNING_FILE}")
    if steps.files:
        lines.append("tar -xpf - --no-same-owner -C /")
    if steps.enable:
        # As `systemctl enable` does it, which takes a second under emulation.
        lines.append(f"mkdir -p {_WANTS}")
        lines.append(f"ln -sf {' '.join(f'{UNIT_DIR}/{unit}' for unit in steps.enable)} {_WANTS}")
    if steps.reload:
        lines.append("systemctl daemon-reload")
    return "\n".join(lines)


def fetch_script(names: Sequence[str], binaries: Mapping[str, Binary], url: str | None) -> str:
    """Shell script that fetches programs to STAGE_DIR (unless they were sent there) and checks them."""
    lines = [f"mkdir -p {STAGE_DIR}", f"cd {STAGE_DIR}"]
    if url is not None:
        words = " ".join(f"-o {name} {url}/{name}" for name in names)
        lines.append(f"curl -fsS --connect-timeout 5 --max-time 120 --retry 2 {words}")
    sums = " ".join(f"'{binaries[name].sha256}  {name}'" for name in names)
    lines.append(f"printf '%s\\n' {sums} | sha256sum --check --quiet -")
    lines.append(f"chmod 0755 {' '.join(names)}")
    return "\n".join(lines)


def place_script(names: Sequence[str], binaries: Mapping[str, Binary]) -> str:
    """Shell script that puts programs that were fetched in their place, and stamps them."""
    lines = [f"cd {BIN_DIR}"]
    for name in names:
        lines.append(f"mv -f {STAGE_DIR}/{name} {name}")
        lines.append(stamp_command(name, binaries[name].sha256))
    return "\n".join([*lines, f"rm -rf {STAGE_DIR}"])


def wait_script(verb: str) -> str:
    """Shell script that starts or restarts etcd, waits until it is ready, and shows its log when it is not."""
    return (
        f"if ! timeout --foreground {START_SECONDS} systemctl {verb} etcd.service; then\n"
        f"  journalctl --no-pager -n 60 -o cat -u etcd.service -u etcd-data.service |\n"
        f"    {LOG_FILTER} | tail -n 8 >&2\n  exit 1\nfi"
    )


def _fresh(work: Work, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in work.steps[current.name].binaries if name in names)


def _has_more(steps: Steps) -> bool:
    """Whether `bring_up` has anything to do."""
    return bool(steps.start) or any(name in TOOLS for name in steps.binaries)


def _send(work: Work, names: Sequence[str]) -> Commands:
    """Programs through ssh, where the nodes have nothing to fetch them from."""
    if work.url is None and names:
        yield script(f"mkdir -p {STAGE_DIR}")
        for name in names:
            yield FileUploadCommand(str(work.binaries[name].path), f"{STAGE_DIR}/{name}")


def _install(work: Work, names: Sequence[str]) -> list[str]:
    """Scripts that put files and units in place, and of the programs those that wait."""
    steps = work.steps[current.name]
    parts = [install_script(steps)] if steps.files or steps.enable or steps.reload or steps.forget else []
    return parts + ([place_script(names, work.binaries)] if names else [])


@operation()
def stage(work: Work) -> Commands:
    """Fetch the programs of a member that runs, which keeps those that it has until its turn."""
    steps = work.steps[current.name]
    parts = [f"rm -rf {STAGE_DIR}"] if steps.clear else []
    if steps.roll and steps.binaries:
        if parts:
            yield script(parts.pop())
        yield from _send(work, steps.binaries)
        parts.append(fetch_script(steps.binaries, work.binaries, work.url))
        parts.append(f"sync -f {STAGE_DIR}")  # now, as all nodes do so together: in a turn it is time without a member
    if parts:
        yield script("\n".join(parts))


@operation()
def install(work: Work) -> Commands:
    """Put configuration, certificates, units and the etcd program in place, where no member has to wait its turn."""
    steps = work.steps[current.name]
    if steps.roll:
        return
    names = _fresh(work, ["etcd"])
    yield from _send(work, names)
    parts = [fetch_script(names, work.binaries, work.url)] if names else []
    parts += _install(work, names)
    if parts and not _has_more(steps):
        parts.append(_SYNC)
    if parts:
        yield StringCommand(*script("\n".join(parts)).bits, _stdin=bundle(steps.files))


@operation()
def bring_up(work: Work) -> Commands:
    """Start etcd where it does not run, all together, since a new member waits for its peers.

    The tools are fetched while the members elect their first leader, and all is put on disk in
    case of a power cut.
    """
    steps = work.steps[current.name]
    if steps.roll:
        return
    names = _fresh(work, TOOLS)
    parts = [f"systemctl {steps.start} --no-block etcd.service"] if steps.start else []
    if names:
        yield from _send(work, names)
        parts.append(fetch_script(names, work.binaries, work.url))
        parts.append(place_script(names, work.binaries))
    if _has_more(steps):
        parts.append(_SYNC)
    if steps.start:
        parts.append(wait_script("start"))
    if parts:
        yield script("\n".join(parts))


@operation()
def restart_in_turn(work: Work, rank: int) -> Commands:
    """Install on the member whose turn it is and restart it, between two gates."""
    steps = work.steps[current.name]
    if work.ranks[rank] != current.name or not steps.roll:
        return
    yield FunctionCommand(_pass, [work.gate.before], {})
    parts = _install(work, steps.binaries)
    if parts:
        parts.append(_SYNC)
    parts.append(wait_script("restart"))
    yield StringCommand(*script("\n".join(parts)).bits, _stdin=bundle(steps.files))
    yield FunctionCommand(_pass, [work.gate.after], {})


def _pass(state: State, host: Host, check: Callable[[str], bool]) -> bool:  # noqa: ARG001 - names pyinfra looks for
    return check(host.name)


def declare(state: State, work: Work) -> None:
    """Declare all operations, on all hosts, in order."""
    add_op(state, stage, work, name="fetch")
    add_op(state, install, work, name="install")
    add_op(state, bring_up, work, name="start")
    for rank in range(len(work.ranks)):
        add_op(state, restart_in_turn, work, rank, name=f"restart, turn {rank + 1}")
