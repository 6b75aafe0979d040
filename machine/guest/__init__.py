"""Recipe of the guest image: Debian with systemd, sshd and a first-boot unit, tuned for boot time under TCG."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from machine import apt_sources
from machine.errors import RequirementError, ToolError
from machine.log import Say
from machine.process import run, tail
from machine.versions import DEBIAN_SUITE

RECIPE: Final = Path(__file__).resolve().parent
DISK: Final = "disk.qcow2"
KERNEL: Final = "vmlinuz"
INITRD: Final = "initrd"

SIZE_MIB: Final = 2048
"""Virtual size of the system disk; a node's volume may be larger, its file system stays this size."""
NEEDED_MIB: Final = 2048
"""Disk space that a build takes at its peak: tree, raw disk, qcow2."""
BUILD_SECONDS: Final = 1800.0

_PROGRAMS: Final = ("mmdebstrap", "mke2fs", "qemu-img")
_NOT_RECIPE: Final = (".py", ".pyc")
_LEFT_OUT: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_DEFAULT_MIRROR: Final = "http://deb.debian.org/debian"


def digest() -> str:
    """Digest of everything that decides what the image contains, 16 hex digits.

    The packages' own versions are not in it: they are what the mirror has on the day.
    """
    total = hashlib.sha256(f"{DEBIAN_SUITE} {SIZE_MIB} {_LEFT_OUT}".encode())
    for path in sorted(RECIPE.iterdir()):
        if path.is_file() and path.suffix not in _NOT_RECIPE:
            total.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return total.hexdigest()[:16]


def packages() -> list[str]:
    """Debian packages on top of minbase."""
    lines = (RECIPE / "packages").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def mirror(sources: Path = apt_sources.SOURCES, lists: Path = apt_sources.LISTS) -> str:
    """The Debian mirror to build from: this machine's own, as apt has it, or Debian's."""
    return apt_sources.debian_mirror(DEBIAN_SUITE, sources=sources, lists=lists) or _DEFAULT_MIRROR


def build(into: Path, say: Say) -> None:
    """Make disk, kernel and initramfs in the directory `into`.

    Raises RequirementError without root or when a program is missing, ToolError with the log's end when a step fails.
    """
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        raise RequirementError(
            f"Building the guest image needs {', '.join(missing)}",
            next="./lab doctor --fix installs the Debian packages.",
        )
    if os.geteuid() != 0:
        raise RequirementError(
            "Building the guest image needs root, which owns the files in it",
            next="Build it once as root, or set etcd-lab:image to a qcow2 file or an address.",
        )
    with tempfile.TemporaryDirectory(prefix="tree-", dir=into) as work:
        tree = Path(work) / "tree"
        raw = Path(work) / "disk.raw"
        _bootstrap(tree, say)
        run(["truncate", "-s", f"{SIZE_MIB}M", str(raw)])
        # Nothing is left to do at first mount (lazy), and no metadata that an older kernel would not know.
        filesystem = ["-t", "ext4", "-L", "root", "-m", "1", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"]
        run(["mke2fs", "-q", "-F", *filesystem, "-d", str(tree), str(raw)], seconds=300)
        run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(into / DISK)], seconds=300)
        for name in (KERNEL, INITRD):
            shutil.copyfile(tree / "boot" / name, into / name)


def _bootstrap(tree: Path, say: Say) -> None:
    """Fill `tree` by mmdebstrap and the customize hook, saying each stage; it dies with this process."""
    # Killed with us, and in process and mount namespaces of its own: no orphan, no mount left in the tree.
    bound = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    left_out = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    hook = f'--customize-hook=sh {shlex.quote(str(RECIPE / "customize"))} "$1" {shlex.quote(str(RECIPE))}'
    include = f"--include={','.join(packages())}"
    argv = [*bound, "mmdebstrap", "--mode=root", "--variant=minbase", include, *left_out, hook, DEBIAN_SUITE, str(tree)]
    address = mirror()
    if address != _DEFAULT_MIRROR:
        argv.append(address)
    _follow(argv, say)


def _follow(argv: list[str], say: Say) -> None:
    """Run mmdebstrap, passing on its "I:" lines with the time they came."""
    started = time.monotonic()
    lines: list[str] = []
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "INITRD": "No"}  # INITRD: ours replaces Debian's initramfs
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as child:
        watchdog = threading.Timer(BUILD_SECONDS, child.kill)
        watchdog.start()
        try:
            for line in child.stderr or ():
                lines.append(line.rstrip())
                if line.startswith("I: ") and "hook" not in line:
                    say(f"  {line[3:].strip().rstrip('.')} ({time.monotonic() - started:.0f} s)")
        except BaseException:
            child.kill()
            raise
        finally:
            watchdog.cancel()
    if child.returncode != 0:
        raise ToolError(
            f"mmdebstrap ended with status {child.returncode} after {time.monotonic() - started:.0f} s",
            where=f"Debian mirror {apt_sources.without_password(mirror())}",
            next="If the mirror cannot be reached, correct apt's sources, or set etcd-lab:image to a qcow2 file.",
            tail=tail("\n".join(lines)),
        )
