"""The recipe of the guest image, as far as it can be looked at without building it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.libvirt import INSTANCE
from machine import guest


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "guest"
    shutil.copytree(guest.RECIPE, copy)
    monkeypatch.setattr(guest, "RECIPE", copy)
    return copy


def test_the_digest_is_of_the_recipe_alone(recipe: Path) -> None:
    before = guest.digest()
    (recipe / "__init__.py").write_text("# other code, same image")
    assert guest.digest() == before
    (recipe / "firstboot").write_text((recipe / "firstboot").read_text() + "# changed\n")
    assert guest.digest() != before


def test_a_file_under_another_name_is_another_recipe(recipe: Path) -> None:
    before = guest.digest()
    (recipe / "packages").rename(recipe / "packages2")
    assert guest.digest() != before


def test_the_scripts_are_posix_shell() -> None:
    for name in ("customize", "firstboot", "init"):
        subprocess.run(["sh", "-n", str(guest.RECIPE / name)], check=True)
        assert os.access(guest.RECIPE / name, os.X_OK)


@pytest.mark.parametrize(
    ("known", "told", "reads"),
    [
        (None, "lab-etcd1", True),
        ("lab-etcd1", "lab-etcd1", False),
        ("old-etcd1", "lab-etcd1", True),
        ("lab-etcd1", None, True),
    ],
)
def test_a_later_boot_leaves_the_seed_alone_when_the_kernel_names_the_instance(
    tmp_path: Path, known: str | None, told: str | None, reads: bool
) -> None:
    if known:
        (tmp_path / "instance-id").write_text(f"{known}\n")
    (tmp_path / "cmdline").write_text("ro quiet" + (f" {INSTANCE}={told}" if told else "") + "\n")
    text = (guest.RECIPE / "firstboot").read_text()
    for there, here in (("/proc/cmdline", tmp_path / "cmdline"), ("/var/lib/etcd-lab", tmp_path)):
        assert there in text
        text = text.replace(there, str(here))
    drivers = "modprobe() { echo drivers; exit 0; }"
    done = subprocess.run(["sh"], input=f"{drivers}\n{text}", capture_output=True, text=True, check=True)
    assert done.stdout == ("drivers\n" if reads else "")


def test_what_the_lab_uses_in_a_guest_is_installed_and_not_masked() -> None:
    used = {"systemd", "openssh-server", "nftables", "iproute2", "dmsetup", "e2fsprogs", "curl"}
    assert used <= set(guest.packages())
    units = {"ssh.service", "systemd-networkd.service", "systemd-udevd.service", "systemd-journald.service"}
    assert not units & set((guest.RECIPE / "masked").read_text().split())


def test_the_mirror_is_the_one_that_apt_uses_or_else_debians(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb https://mirror.example/deb bookworm main\n")
    assert guest.mirror(tmp_path, tmp_path) == "https://mirror.example/deb"
    assert guest.mirror(tmp_path / "empty", tmp_path) == "http://deb.debian.org/debian"
