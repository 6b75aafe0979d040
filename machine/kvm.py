"""Whether KVM works here, found out by booting the guest kernel under it.

A device file proves nothing: there are hosts where KVM makes a machine and the kernel hangs right
after the firmware, or QEMU fails at once. The answer is kept until the next boot of the host.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final, Literal

from machine.log import Say, say
from machine.paths import cache_dir
from machine.process import ends_with_us, exclusive, tail, write_private

DEVICE: Final = Path("/dev/kvm")
QEMU: Final = "qemu-system-x86_64"

DEADLINE_SECONDS: Final = 10.0
"""Limit for the kernel's first words; TCG, ten times slower than any KVM, says them after 3 s."""

_SIGN: Final = re.compile(rb"Linux version \d")

Accelerator = Literal["kvm", "tcg"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found: which accelerator to use, and why."""

    accelerator: Accelerator
    reason: str


def probe(kernel: Path | None, disk: Path | None = None, *, say: Say = say, device: Path = DEVICE) -> Probe:
    """Find out whether KVM works, with the guest's kernel (or its whole disk where it has no
    separate kernel); takes up to DEADLINE_SECONDS once per boot of the host.

    `disk` is not written to. Without `kernel` and `disk` KVM is not used, since nothing proves it.
    """
    if not device.exists():
        return Probe("tcg", f"there is no {device}")
    if not os.access(device, os.R_OK | os.W_OK):
        return Probe("tcg", f"no right to use {device}: add this user to the group kvm")
    guest = kernel or disk
    if guest is None:
        return Probe("tcg", "there is no guest kernel yet to try KVM with")
    record = cache_dir() / "kvm.json"
    key = _key(guest)
    with exclusive(record.with_suffix(".lock")):
        known = recorded(record, key)
        if known is not None:
            return known
        say(f"Trying whether KVM works (at most {DEADLINE_SECONDS:.0f} s, once per boot)")
        found = _try(arguments(kernel, disk), DEADLINE_SECONDS)
        say(f"  {'KVM works' if found.accelerator == 'kvm' else 'no KVM'}: {found.reason}")
        write_private(record, json.dumps({"key": key, **asdict(found)}) + "\n")
    return found


def last(device: Path = DEVICE) -> Probe | None:
    """The answer found earlier in this boot, whatever kernel it was found with; None when there is none."""
    if not device.exists():
        return Probe("tcg", f"there is no {device}")
    return recorded(cache_dir() / "kvm.json", None)


def recorded(record: Path, key: str | None) -> Probe | None:
    """The answer in the file `record`, when it is of this boot and (unless None) of `key`."""
    try:
        kept = json.loads(record.read_text())
        accelerator: Accelerator = kept["accelerator"]
        if kept["key"] == key or (key is None and str(kept["key"]).startswith(_boot_id())):
            return Probe(accelerator, str(kept["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def arguments(kernel: Path | None, disk: Path | None) -> list[str]:
    """QEMU's words for the trial: as small a machine as boots a kernel, its console on stdout."""
    words = [QEMU, "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none"]
    words += ["-serial", "stdio", "-no-reboot", "-nic", "none"]
    if kernel is not None:
        return [*words, "-kernel", str(kernel), "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]
    return [*words, "-snapshot", "-drive", f"file={disk},if=virtio"]


def _try(argv: Sequence[str], seconds: float) -> Probe:
    """Start QEMU and wait for the kernel's first words."""
    started = time.monotonic()
    try:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        return Probe("tcg", f"{argv[0]}: {error.strerror}")
    ends_with_us(child.pid)
    assert child.stdout is not None  # noqa: S101 - a pipe was asked for
    try:
        seen = _read_until(child.stdout, started + seconds)
    finally:
        child.kill()
        child.wait()
    elapsed = time.monotonic() - started
    if _SIGN.search(seen):
        return Probe("kvm", f"the guest kernel spoke after {elapsed:.1f} s")
    said = tail(seen.decode(errors="replace"), 1)[-160:]
    how = f"silent for {seconds:.0f} s" if elapsed >= seconds else "QEMU ended"
    return Probe("tcg", f"the guest kernel did not start under KVM ({how}{': ' + said if said.strip() else ''})")


def _read_until(stream: IO[bytes], deadline: float) -> bytes:
    seen = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0 and not _SIGN.search(seen):
            if not selector.select(timeout=left):
                break
            block = os.read(stream.fileno(), 65536)
            if not block:
                break
            seen += block
    return seen


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _key(guest: Path) -> str:
    stat = guest.stat()
    return f"{_boot_id()} {guest} {stat.st_size} {stat.st_mtime_ns}"
