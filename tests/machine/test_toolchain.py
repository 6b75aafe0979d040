"""Tools are made once, aside, and found by what they are made from."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from pathlib import Path

import pytest

from machine import golang, toolchain, versions
from machine.download import ChecksumError, Unreachable
from machine.errors import ToolError
from machine.log import Say


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PULUMI_HOME", raising=False)
    return tmp_path / "cache" / "etcd-lab" / "tools"


class Maker:
    """Stands for downloads and builds, and counts them."""

    def __init__(self, *, reachable: bool = False, seconds: float = 0.0) -> None:
        self.reachable = reachable
        self.seconds = seconds
        self.builds = 0
        self.broken = False

    def download(self, home: Path, _say: Say) -> None:
        if not self.reachable:
            raise Unreachable("no route")
        (home / "tool").write_text("released")

    def build(self, home: Path, _say: Say) -> None:
        self.builds += 1
        (home / "tool").write_text("built")
        if self.broken:
            raise ToolError("compiler", tail="missing brace")
        threading.Event().wait(self.seconds)

    def bundle(self) -> toolchain._Bundle:
        return toolchain._Bundle("tool", "1.0", ("etcd",), ("tool",), self.download, self.build, 60)


def test_a_reachable_release_is_used_and_nothing_built() -> None:
    maker = Maker(reachable=True)
    maker.bundle().ensure(print)

    found = maker.bundle().found()

    assert found is not None
    assert found[1] == "release"
    assert maker.builds == 0


def test_an_unreachable_release_is_built_from_modules_once() -> None:
    maker = Maker()
    maker.bundle().ensure(print)
    maker.bundle().ensure(print)

    found = maker.bundle().found()

    assert found is not None
    assert found[1] == "go"
    assert maker.builds == 1


def test_a_tampered_release_stops_instead_of_falling_back() -> None:
    maker = Maker()

    def tampered(_home: Path, _say: Say) -> None:
        raise ChecksumError("tool has another checksum")

    with pytest.raises(ChecksumError):
        dataclasses.replace(maker.bundle(), download=tampered).ensure(print)
    assert maker.builds == 0


def test_two_at_once_build_once() -> None:
    maker = Maker(seconds=0.2)
    threads = [threading.Thread(target=maker.bundle().ensure, args=(print,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert maker.builds == 1
    assert maker.bundle().found() is not None


def test_a_failed_build_leaves_nothing_and_the_next_one_succeeds(cache: Path) -> None:
    maker = Maker()
    maker.broken = True
    with pytest.raises(ToolError, match="compiler"):
        maker.bundle().ensure(print)
    assert [path for path in cache.iterdir() if path.is_dir()] == []

    maker.broken = False
    maker.bundle().ensure(print)
    assert maker.bundle().found() is not None


def test_what_a_killed_build_left_is_removed_and_never_found(cache: Path) -> None:
    maker = Maker()
    home = maker.bundle().home()
    partial = home.with_name(f".{home.name}.{time.time_ns()}")
    partial.mkdir(parents=True)
    (partial / "tool").write_text("half")
    assert maker.bundle().found() is None

    maker.bundle().ensure(print)

    assert not partial.exists()
    assert (home / "tool").read_text() == "built"


def test_a_bundle_that_lost_a_program_is_made_again() -> None:
    maker = Maker()
    maker.bundle().ensure(print)
    (maker.bundle().home() / "tool").unlink()

    maker.bundle().ensure(print)

    assert maker.builds == 2


def test_the_key_follows_the_module_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tmp_path / "modules"
    (modules / "etcd").mkdir(parents=True)
    (modules / "etcd" / "go.mod").write_text("module a\n")
    monkeypatch.setattr(golang, "MODULES", modules)
    before = Maker().bundle().home()

    (modules / "etcd" / "go.mod").write_text("module b\n")

    assert Maker().bundle().home() != before


def install(directory: Path, version: str) -> None:
    directory.mkdir()
    for name in toolchain.CLI_PARTS:
        (directory / name).write_text(f"#!/bin/sh\necho v{version}\n")
        (directory / name).chmod(0o755)


@pytest.mark.parametrize(
    ("version", "used"),
    [(versions.PULUMI, True), ("3.999.0", True), ("4.0.0", True), ("3.68.0", False), ("2.999.999", False)],
)
def test_a_cli_on_path_is_used_when_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, used: bool
) -> None:
    install(tmp_path / "bin", version)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    assert (toolchain._cli_on_path() is not None) == used


def test_a_cli_on_path_without_its_helpers_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "bin", versions.PULUMI)
    (tmp_path / "bin" / "pulumi-language-python").unlink()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    assert toolchain._cli_on_path() is None


def test_the_tools_of_another_checkout_on_path_are_not_taken_for_the_users(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`eval "$(./lab env)"` puts them there; another checkout may want others."""
    cache.mkdir(parents=True)
    install(cache / "pulumi-0123", versions.PULUMI)
    monkeypatch.setenv("PATH", f"{cache / 'pulumi-0123'}:{os.environ['PATH']}")

    assert toolchain._cli_on_path() is None


def test_a_failing_build_shows_the_end_of_the_log(tmp_path: Path) -> None:
    program = tmp_path / "go"
    program.write_text("#!/bin/sh\necho 'undefined: frobnicate' >&2\nexit 1\n")
    program.chmod(0o755)

    with pytest.raises(ToolError) as failed:
        golang.Go(program, "1.26.0", {}).build(["."], out=tmp_path / "tool", cwd=tmp_path, say=print)

    assert "undefined: frobnicate" in str(failed.value)


def test_module_files_agree_with_the_versions() -> None:
    """A second source: what is built says in its module file which release it is."""
    wanted = {
        "pulumi": f"github.com/pulumi/pulumi/pkg/v3 v{versions.PULUMI}",
        "language": f"github.com/pulumi/pulumi/sdk/v3 v{versions.PULUMI_LANGUAGE_PYTHON}",
        "libvirt": f"github.com/dmacvicar/terraform-provider-libvirt v{versions.TERRAFORM_LIBVIRT}",
        "etcd": f"go.etcd.io/etcd/server/v3 v{versions.ETCD_DEFAULT}",
    }
    for module, line in wanted.items():
        assert line in (golang.MODULES / module / "go.mod").read_text()


def test_the_source_of_a_bundle_is_recorded() -> None:
    maker = Maker(reachable=True)
    maker.bundle().ensure(print)

    record = json.loads((maker.bundle().home() / "source.json").read_text())

    assert record == {"source": "release", "version": "1.0"}
