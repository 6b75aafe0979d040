"""The pyinfra side: one fact that looks at a node, and the operations that change it.

Every operation is declared for every host, in the same order, and yields nothing where there is
nothing to do: in API mode pyinfra matches operations across hosts by position. Restarts are one
operation per rank and not one operation with `_serial`, for two reasons found in pyinfra 3.10
(api/operations.py `_run_single_op`, api/inventory.py `get_active_hosts`): a serial operation goes
on to the next host after a failure, and the order of hosts is that of a set.

Under emulation each command on a node costs 0.15 to 0.5 s, so all small files travel in one, on
standard input (never in an argument, which other processes on the node could see).
"""

from __future__ import annotations

import base64
import io
import shlex
import tarfile
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pyinfra.api.command import FileUploadCommand, FunctionCommand, PyinfraCommand, StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.host import Host
from pyinfra.api.operation import add_op, operation
from pyinfra.api.state import State
from pyinfra.context import host as current

from deploy.gate import Gate
from deploy.plan import BIN_DIR, RUNNING_FILE, TOOLS, UNITS, File
from deploy.protocol import Binary
from deploy.steps import Observed, Steps, look_command, parse_look

STAGE = "/var/lib/etcd-lab/incoming"
START_SECONDS = 150
"""Limit for one etcd to report ready. A first start under emulation takes about 10 s."""

_FORGIVE = "systemctl reset-failed etcd.service 2>/dev/null || true"


class Look(FactBase[Observed]):
    """Everything we want to know about a node, in one command."""

    def command(self, paths: Sequence[str]) -> str:  # noqa: D102 - see the class
        return look_command(paths)

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
    """A shell script that stops at the first failure."""
    return StringCommand("sh", "-euc", shlex.quote(text))


def bundle(files: Sequence[File]) -> str:
    """The files as a base64 tar archive, rooted at /."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as archive:
        for file in files:
            content = file.content.encode()
            info = tarfile.TarInfo(file.path.lstrip("/"))
            info.size, info.mode = len(content), file.mode
            archive.addfile(info, io.BytesIO(content))
    return base64.encodebytes(buffer.getvalue()).decode()


def install_script(steps: Steps) -> str:
    """Shell script that takes `bundle` on standard input and puts each file in place by renaming."""
    directories: dict[str, list[str]] = {}
    for file in steps.files:
        directories.setdefault(str(PurePosixPath(file.path).parent), []).append(file.path)
    lines = [
        "umask 077",
        f"rm -rf {STAGE}",
        f"mkdir -p {STAGE}",
        f"base64 -d | tar -xzpf - --no-same-owner -C {STAGE}",
    ]
    if any(file.restarts for file in steps.files):
        # From here on a living etcd runs with something else; should we die, the next run knows.
        lines.append(f"rm -f {RUNNING_FILE}")
    for directory, paths in directories.items():
        staged = " ".join(f"{STAGE}{path}" for path in paths)
        lines.append(f"[ -d {directory} ] || mkdir -p -m 0755 {directory}")
        lines.append(f"mv -f -t {directory} {staged}")
    lines.append(f"rm -rf {STAGE}")
    if steps.enable:
        lines.append(f"systemctl --no-reload enable {' '.join(UNITS)}")
    if steps.reload or steps.enable:
        lines.append("systemctl daemon-reload")
    return "\n".join(lines)


def check_script(names: Sequence[str], binaries: Mapping[str, Binary], url: str | None) -> str:
    """Shell script that fetches binaries (unless they were sent), checks and installs them by renaming."""
    lines = [f"cd {BIN_DIR}"]
    for name in names:
        fresh = f".{name}.new"
        if url is not None:
            lines.append(f"curl -fsS --connect-timeout 5 --max-time 120 --retry 2 -o {fresh} {url}/{name}")
        lines.append(f"echo '{binaries[name].sha256}  {fresh}' | sha256sum --check --quiet -")
        if name == "etcd":
            lines.append(f"rm -f {RUNNING_FILE}")
        lines.append(f"chmod 0755 {fresh}")
        lines.append(f"mv -f {fresh} {name}")
    return "\n".join(lines)


def wait_script(verb: str) -> str:
    """Shell script that starts or restarts etcd, waits until it is ready, and shows its log when it is not."""
    return (
        f"{_FORGIVE}\n"
        f"if ! timeout {START_SECONDS} systemctl {verb} etcd.service; then\n"
        f"  journalctl --no-pager -n 15 -o cat -u etcd.service -u etcd-data.service >&2; exit 1\nfi"
    )


@operation()
def install_files(work: Work) -> Commands:
    """Put configuration, certificates, units and scripts in place."""
    steps = work.steps[current.name]
    if steps.files or steps.enable or steps.reload:
        yield StringCommand(*script(install_script(steps)).bits, _stdin=bundle(steps.files))


@operation()
def install_binaries(work: Work, names: Sequence[str]) -> Commands:
    """Fetch those of the programs `names` that are missing or others than they should be."""
    wanted = [name for name in names if name in work.steps[current.name].binaries]
    if not wanted:
        return
    if work.url is None:
        for name in wanted:
            yield FileUploadCommand(str(work.binaries[name].path), f"{BIN_DIR}/.{name}.new")
    yield script(check_script(wanted, work.binaries, work.url))


@operation()
def begin_start(work: Work) -> Commands:
    """Begin to start etcd where it does not run; all together, since a new member waits for its peers."""
    verb = work.steps[current.name].start
    if verb:
        yield script(f"{_FORGIVE}\nsystemctl {verb} --no-block etcd.service")


@operation()
def finish_start(work: Work) -> Commands:
    """Wait until what was begun is ready, and put everything on disk, in case of a power cut."""
    steps = work.steps[current.name]
    if steps.start:
        yield script(wait_script("start"))
    if steps.files or steps.binaries:
        yield script("sync")


@operation()
def restart_in_turn(work: Work, rank: int) -> Commands:
    """Restart the member whose turn it is, between two gates."""
    if work.ranks[rank] != current.name or not work.steps[current.name].roll:
        return
    yield FunctionCommand(_pass, [work.gate.before], {})
    yield script(wait_script("restart"))
    yield FunctionCommand(_pass, [work.gate.after], {})


def _pass(state: State, host: Host, check: Callable[[str], bool]) -> bool:  # noqa: ARG001 - names pyinfra looks for
    return check(host.name)


def declare(state: State, work: Work) -> None:
    """Declare all operations, on all hosts, in order."""
    add_op(state, install_files, work, name="install files")
    add_op(state, install_binaries, work, ["etcd"], name="install etcd")
    add_op(state, begin_start, work, name="start etcd")
    # Downloading goes on while the members elect their first leader.
    add_op(state, install_binaries, work, TOOLS, name="install etcdctl and etcdutl")
    add_op(state, finish_start, work, name="wait for etcd")
    for rank in range(len(work.ranks)):
        add_op(state, restart_in_turn, work, rank, name=f"restart etcd, turn {rank + 1}")
