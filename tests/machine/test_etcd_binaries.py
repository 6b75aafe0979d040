"""Which etcd is taken for a setting, and what is said when there is none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import etcd_binaries, golang
from machine.download import Unreachable
from machine.errors import SettingsError, ToolError
from machine.versions import ETCD_SUPPORTED


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "etcd-lab" / "etcd"


def no_release(*_words: object) -> None:
    raise Unreachable("no route")


def programs(directory: Path, *names: str, version: str = "3.6.1") -> Path:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).write_text(f"#!/bin/sh\necho 'etcd Version: {version}'\n")
        (directory / name).chmod(0o755)
    return directory


@given(st.sampled_from(ETCD_SUPPORTED), st.integers(0, 99))
def test_every_version_of_a_supported_minor_is_accepted(minor: str, patch: int) -> None:
    assert etcd_binaries.check_version(f"v{minor}.{patch}") == f"{minor}.{patch}"


@pytest.mark.parametrize("wrong", ["3.6", "latest", "", "3.6.16-rc.0", "4.0.0", "3.3.27", "3.60.1"])
def test_what_is_no_version_that_the_lab_knows_is_refused_with_the_key(wrong: str) -> None:
    with pytest.raises(SettingsError) as refused:
        etcd_binaries.check_version(wrong)

    assert "etcd-lab:etcd-version" in str(refused.value)
    assert "3.6" in str(refused.value)


def test_a_directory_is_used_as_it_is(tmp_path: Path) -> None:
    directory = programs(tmp_path / "mine", "etcd", "etcdctl", version="3.5.7")

    found = etcd_binaries.ensure(str(directory), print)

    assert found.version == "3.5.7"
    assert found.etcdutl is None
    assert found.sha256["etcd"] == hashlib.sha256((directory / "etcd").read_bytes()).hexdigest()


def test_a_directory_that_lacks_a_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no etcdctl"):
        etcd_binaries.ensure(str(programs(tmp_path / "mine", "etcd")), print)


def test_a_program_that_is_not_etcd_is_refused(tmp_path: Path) -> None:
    directory = programs(tmp_path / "mine", "etcd", "etcdctl", version="none")

    with pytest.raises(SettingsError, match="does not tell its version"):
        etcd_binaries.ensure(str(directory), print)


def test_a_build_is_kept_with_its_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    builds = []

    def build(home: Path, version: str, _say: object) -> None:
        builds.append(version)
        programs(home, *etcd_binaries.PROGRAMS)

    monkeypatch.setattr(etcd_binaries, "_download", no_release)
    monkeypatch.setattr(etcd_binaries, "_build", build)

    first = etcd_binaries.ensure("3.6.1", print)
    second = etcd_binaries.ensure("3.6.1", print)

    assert first == second == etcd_binaries.locate("3.6.1")
    assert builds == ["3.6.1"]
    assert first.sha256["etcdutl"] == hashlib.sha256(first.programs()["etcdutl"].read_bytes()).hexdigest()


def test_a_version_that_does_not_exist_names_its_neighbours(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    go = golang.Go(Path("/nonexistent/go"), "1.26.0", {})

    def refuse(self: golang.Go, words: list[str], **_more: object) -> str:
        if words[0] == "get" or words[-1].endswith("@v3.6.99"):
            raise ToolError("go ended with status 1", tail="403 Forbidden")
        return "go.etcd.io/etcd/server/v3 v3.5.0-alpha.0 v3.5.1 v3.6.0 v3.6.16"

    monkeypatch.setattr(etcd_binaries, "_download", no_release)
    monkeypatch.setattr(golang, "ensure", lambda _say: go)
    monkeypatch.setattr(golang.Go, "run", refuse)

    with pytest.raises(SettingsError) as refused:
        etcd_binaries.ensure("3.6.99", print)

    assert "among others, 3.6.0, 3.6.16" in str(refused.value)
    assert "alpha" not in str(refused.value)
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_a_release_that_the_list_lacks_and_the_proxy_has_is_not_told_as_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def incomplete(self: golang.Go, words: list[str], **_more: object) -> str:
        asked.append(words[-1])
        if words[0] == "get":
            raise ToolError("go ended with status 1", tail="no space left on device")
        return "go.etcd.io/etcd/server/v3 v3.5.12 v3.5.15"

    monkeypatch.setattr(etcd_binaries, "_download", no_release)
    monkeypatch.setattr(golang, "ensure", lambda _say: golang.Go(Path("/nonexistent/go"), "1.26.0", {}))
    monkeypatch.setattr(golang.Go, "run", incomplete)

    with pytest.raises(ToolError, match="status 1") as failed:
        etcd_binaries.ensure("3.5.13", print)

    assert "no space left" in failed.value.tail
    assert asked[-1] == "go.etcd.io/etcd/server/v3@v3.5.13"


def test_a_proxy_that_is_down_is_not_told_as_a_wrong_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(self: golang.Go, words: list[str], **_more: object) -> str:
        raise ToolError("go ended with status 1", tail="connection refused")

    monkeypatch.setattr(etcd_binaries, "_download", no_release)
    monkeypatch.setattr(golang, "ensure", lambda _say: golang.Go(Path("/nonexistent/go"), "1.26.0", {}))
    monkeypatch.setattr(golang.Go, "run", down)

    with pytest.raises(ToolError, match="status 1"):
        etcd_binaries.ensure("3.6.2", print)
