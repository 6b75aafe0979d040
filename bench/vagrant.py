"""The article's way, measured: Vagrant, Ansible and three machines on an embedded hypervisor of its own."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine.errors import RequirementError
from machine.hypervisor import Embedded
from machine.paths import cache_dir, run_root
from machine.process import exclusive, run
from machine.versions import DEBIAN_SUITE

HERE = Path(__file__).resolve().parent / "baseline"
PROGRAMS = ("vagrant", "ansible-playbook", "mmdebstrap", "mke2fs", "qemu-img")
PACKAGES = (
    "systemd-sysv,dbus,libpam-systemd,openssh-server,sudo,python3,iproute2,iptables,e2fsprogs,procps,"
    "linux-image-cloud-amd64,initramfs-tools"
)
"""What Ansible, Vagrant and the article's iptables rules need in a machine."""


def missing() -> list[str]:
    """Programs that the baseline needs and that are not here."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    plugins = "" if "vagrant" in lacking else run(["vagrant", "plugin", "list"], check=False).stdout
    return lacking if "vagrant-libvirt" in plugins else [*lacking, "vagrant-libvirt"]


def require() -> None:
    """Raise RequirementError when a program is missing: before anything is measured, as that takes long."""
    if lacking := missing():
        raise RequirementError(
            f"The baseline needs {', '.join(lacking)}",
            next="apt-get install vagrant vagrant-libvirt ansible-core mmdebstrap, or measure with --no-baseline.",
        )


def _inside(tree: Path, name: str) -> Path:
    """The file behind the link `name` at the root of `tree`, which is written as seen from inside."""
    return tree / (tree / name).readlink().as_posix().lstrip("/")


def _make_box(work: Path) -> None:
    """A Vagrant box with its kernel and login key in `work`; kept for the next run."""
    if (work / "lab.box").exists():
        return
    shutil.rmtree(work, ignore_errors=True)
    (work / "box").mkdir(parents=True)
    key = work / "key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    tree = work / "root"
    words = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", f"--customize-hook={HERE / 'guest.sh'}"]
    run([*words, DEBIAN_SUITE, str(tree)], seconds=900, env={"KEY_PUB": f"{key}.pub"})
    for name in ("vmlinuz", "initrd.img"):
        shutil.copyfile(_inside(tree, name), work / name)
    raw = work / "box.raw"
    run(["truncate", "-s", "4G", str(raw)])
    features = "^metadata_csum_seed,^orphan_file"  # younger than the e2fsprogs of the guest
    run(["mke2fs", "-q", "-t", "ext4", "-L", "root", "-O", features, "-d", str(tree), str(raw)], seconds=300)
    run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(work / "box" / "box.img")], seconds=300)
    (work / "box" / "metadata.json").write_text('{"provider":"libvirt","format":"qcow2","virtual_size":4}\n')
    (work / "box" / "Vagrantfile").write_text('Vagrant.configure("2") { |c| }\n')
    raw.unlink()
    shutil.rmtree(tree)
    run(
        ["tar", "-C", str(work / "box"), "-czf", str(work / "lab.box.part"), "metadata.json", "Vagrantfile", "box.img"],
        seconds=600,
    )
    (work / "lab.box.part").rename(work / "lab.box")


class Vagrant:
    """Vagrant on a hypervisor of its own; each call returns its duration in seconds."""

    def __init__(self, hypervisor: Embedded, project: Path, work: Path, etcd: Path) -> None:
        self._project = project
        pid = (hypervisor.run_dir / "libvirtd.pid").read_text().strip()
        self._inside = ["nsenter", "-t", pid, "--mount", "--net", f"--wd={project}", "--"]
        self._env = {
            "VAGRANT_HOME": str(project / "home"),
            "VAGRANT_NO_COLOR": "1",
            "ANSIBLE_HOST_KEY_CHECKING": "False",
            "LAB_KEY": str(work / "key"),
            "LAB_KERNEL": str(work / "vmlinuz"),
            "LAB_INITRD": str(work / "initrd.img"),
            "ETCD_BIN": str(etcd),
        }

    def call(self, *words: str, seconds: float = 900.0) -> float:
        """Run a program where the machines are; raises ToolError when it fails."""
        started = time.monotonic()
        run([*self._inside, *words], seconds=seconds, env=self._env, cwd=self._project)
        return time.monotonic() - started

    def ssh(self, node: str, command: str) -> float:
        """One `vagrant ssh NODE -c COMMAND`."""
        return self.call("vagrant", "ssh", node, "-c", command)


@contextmanager
def vagrant(etcd: Path) -> Iterator[Vagrant]:
    """A Vagrant project ready for `vagrant up`, with box and pool; gone again at the end.

    `etcd` is a directory with the programs `etcd` and `etcdctl`. Raises RequirementError when a
    needed program is missing.
    """
    require()
    cache = cache_dir() / "bench"
    work = cache / "box"
    with exclusive(cache / "lock"):
        _make_box(work)
        name = f"etcdlab-bench{os.getpid()}"
        project = cache / name
        hypervisor = Embedded(name, project / "hypervisor", run_root() / name.removeprefix("etcdlab-"))
        try:
            (project / "pool").mkdir(parents=True)
            shutil.copy(HERE / "Vagrantfile", project)
            shutil.copy(HERE / "play.yml", project)
            hypervisor.start()
            ready = Vagrant(hypervisor, project, work, etcd)
            ready.call("virsh", "pool-define-as", "vg", "dir", "--target", str(project / "pool"))
            ready.call("virsh", "pool-start", "vg")
            ready.call("vagrant", "box", "add", "--name", "lab", str(work / "lab.box"))
            yield ready
        finally:
            hypervisor.stop()
            shutil.rmtree(project, ignore_errors=True)
