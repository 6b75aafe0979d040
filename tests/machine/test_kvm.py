"""KVM is used only where a kernel has spoken under it, and asked once per boot."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from machine import kvm


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "vmlinuz").write_text("kernel")
    return tmp_path / "vmlinuz"


def qemu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> Path:
    """Put `script` in QEMU's place; gives a file that gets a line at each start."""
    starts = tmp_path / "starts"
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\necho started >> {starts}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(kvm, "QEMU", str(program))
    return starts


def test_without_the_device_nothing_is_started(kernel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    starts = qemu(monkeypatch, tmp_path, "exit 0")

    found = kvm.probe(kernel, device=tmp_path / "no-such-device")

    assert found.accelerator == "tcg"
    assert not starts.exists()


def test_a_kernel_that_speaks_proves_kvm(kernel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    qemu(monkeypatch, tmp_path, "echo 'SeaBIOS'; echo '[ 0.000000] Linux version 6.1.0-40-cloud-amd64'; exec sleep 30")

    found = kvm.probe(kernel, device=tmp_path)

    assert found.accelerator == "kvm"


def test_a_kernel_that_hangs_after_the_firmware_means_emulation(
    kernel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    qemu(monkeypatch, tmp_path, "echo 'Booting from ROM..'; exec sleep 30")
    monkeypatch.setattr(kvm, "DEADLINE_SECONDS", 0.3)

    started = time.monotonic()
    found = kvm.probe(kernel, device=tmp_path)

    assert found.accelerator == "tcg"
    assert "silent" in found.reason
    assert "Booting from ROM" in found.reason
    assert time.monotonic() - started < 5


def test_a_qemu_that_fails_tells_its_reason(kernel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    qemu(monkeypatch, tmp_path, "echo 'failed to set MSR 0x48f' >&2; exit 1")

    assert "failed to set MSR" in kvm.probe(kernel, device=tmp_path).reason


def test_the_answer_is_kept_for_this_boot_and_this_kernel(
    kernel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    starts = qemu(monkeypatch, tmp_path, "exit 1")
    first = kvm.probe(kernel, device=tmp_path)
    assert kvm.probe(kernel, device=tmp_path) == first == kvm.last(device=tmp_path)
    assert len(starts.read_text().splitlines()) == 1

    monkeypatch.setattr(kvm, "_boot_id", lambda: "another-boot")
    assert kvm.last(device=tmp_path) is None
    kvm.probe(kernel, device=tmp_path)
    assert len(starts.read_text().splitlines()) == 2


def test_a_disk_image_is_tried_without_being_written_to(tmp_path: Path) -> None:
    words = kvm.arguments(None, tmp_path / "disk.qcow2")

    assert "-snapshot" in words
    assert "-kernel" not in words
