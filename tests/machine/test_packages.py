"""Finding missing Debian packages, quickly and with a way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from machine import packages
from machine.errors import RequirementError

ALPHA = packages.Package("alpha", "first", "alpha-program")
BETA = packages.Package("beta", "second", "beta-program")


def stanza(name: str, status: str = "install ok installed") -> str:
    return f"Package: {name}\nStatus: {status}\nVersion: 1\nDescription: x\n Package: inner\n\n"


@pytest.fixture
def status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "status"


def test_a_removed_package_with_configuration_left_counts_as_missing(status: Path) -> None:
    status.write_text(stanza("alpha") + stanza("beta", "deinstall ok config-files"))

    assert packages.missing([ALPHA, BETA], status=status) == [BETA]


def test_a_complete_answer_is_kept_until_dpkg_changes_its_file(status: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status.write_text(stanza("alpha"))
    assert packages.missing([ALPHA], status=status) == []

    read: list[Path] = []
    real = Path.read_text

    def watched(self: Path, encoding: str | None = None, errors: str | None = None) -> str:
        read.append(self)
        return real(self, encoding, errors)

    monkeypatch.setattr(Path, "read_text", watched)
    assert packages.missing([ALPHA], status=status) == []
    assert status not in read

    status.write_text(stanza("gamma"))
    os.utime(status, ns=(1, 1))
    assert packages.missing([ALPHA], status=status) == [ALPHA]


def test_another_list_of_packages_is_not_answered_by_the_kept_one(status: Path) -> None:
    status.write_text(stanza("alpha"))
    assert packages.missing([ALPHA], status=status) == []

    assert packages.missing([ALPHA, BETA], status=status) == [BETA]


def test_without_dpkg_the_programs_themselves_are_looked_for(status: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = status.parent / "bin"
    programs.mkdir()
    (programs / "alpha-program").write_text("#!/bin/sh\n")
    (programs / "alpha-program").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))

    assert packages.missing([ALPHA, BETA], status=status) == [BETA]


def test_who_is_not_root_is_told_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/usr/bin/apt-get")
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(RequirementError) as refused:
        packages.install([ALPHA, BETA], print)

    assert "sudo apt-get install" in str(refused.value)
    assert "alpha beta" in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_system_without_apt_is_told_what_to_look_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)

    problem = packages.refusal([BETA])

    assert problem is not None
    assert "beta-program" in str(problem)
    assert "not Debian" in str(problem)


def test_what_the_tests_alone_need_is_not_asked_of_who_uses_the_lab() -> None:
    wanted = {package.name for package in packages.PACKAGES}
    assert not wanted & {package.name for package in packages.TEST_PACKAGES}
    assert packages.command(packages.TEST_PACKAGES)[-2:] == ["chromium", "chromium-driver"]
