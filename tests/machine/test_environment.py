"""Pulumi's environment: the user's own login and passphrase are respected, ours stays below .lab."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from machine import environment
from machine.errors import RequirementError
from machine.toolchain import Tools


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PULUMI_HOME", "PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE_FILE", environment.MARK):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "checkout").mkdir()
    return tmp_path / "checkout"


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    plugin = tmp_path / "cache" / "pulumi-resource-libvirt"
    plugin.parent.mkdir()
    plugin.write_text("#!/bin/sh\n")
    return Tools(plugin.parent, plugin, "go", "go")


def log_in(home: Path) -> None:
    home.mkdir(parents=True)
    (home / "credentials.json").write_text(json.dumps({"current": "https://api.example.org"}))


def test_without_a_login_home_and_state_lie_below_the_checkout(checkout: Path, tools: Tools) -> None:
    env = environment.pulumi_env("lab", checkout=checkout, tools=tools)

    assert env["PULUMI_HOME"] == f"{checkout}/.lab/pulumi"
    assert env["PULUMI_BACKEND_URL"] == f"file://{checkout}/.lab/state"
    assert env["PULUMI_STACK"] == "lab"
    assert env["PATH"].split(":")[1] == str(tools.bin)


def test_pulumi_finds_the_plugin_in_its_home(checkout: Path, tools: Tools) -> None:
    env = environment.pulumi_env("lab", checkout=checkout, tools=tools)

    link = Path(env["PULUMI_HOME"]) / "plugins" / "resource-libvirt-v0.5.4" / "pulumi-resource-libvirt"
    assert link.resolve() == tools.plugin


def test_a_plugin_link_into_a_cache_that_moved_is_mended(checkout: Path, tools: Tools, tmp_path: Path) -> None:
    environment.pulumi_env("lab", checkout=checkout, tools=tools)
    moved = tools.plugin.rename(tmp_path / "elsewhere")

    env = environment.pulumi_env("lab", checkout=checkout, tools=Tools(tmp_path, moved, "go", "go"))

    plugins = Path(env["PULUMI_HOME"]) / "plugins"
    assert next(plugins.rglob("pulumi-resource-libvirt")).resolve() == moved


def test_a_login_of_the_user_is_kept(checkout: Path, tools: Tools) -> None:
    log_in(Path.home() / ".pulumi")

    env = environment.pulumi_env("lab", checkout=checkout, tools=tools)

    assert "PULUMI_HOME" not in env
    assert "PULUMI_BACKEND_URL" not in env


def test_a_login_that_comes_later_does_not_hide_the_labs_there_are(checkout: Path, tools: Tools) -> None:
    (checkout / ".lab" / "state" / ".pulumi").mkdir(parents=True)
    log_in(Path.home() / ".pulumi")

    env = environment.pulumi_env("lab", checkout=checkout, tools=tools)

    assert env["PULUMI_BACKEND_URL"] == f"file://{checkout}/.lab/state"


def test_the_shell_of_another_checkout_is_not_taken_for_the_users_wish(
    checkout: Path, tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.pulumi_env("lab", checkout=tmp_path / "other", tools=tools).items():
        monkeypatch.setenv(name, value)

    env = environment.pulumi_env("lab", checkout=checkout, tools=tools)

    assert env["PULUMI_BACKEND_URL"] == f"file://{checkout}/.lab/state"
    assert env["PULUMI_CONFIG_PASSPHRASE_FILE"] == f"{checkout}/.lab/passphrase"


def test_a_backend_that_the_user_names_is_kept(checkout: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", "file:///srv/states")

    assert "PULUMI_BACKEND_URL" not in environment.pulumi_env("lab", checkout=checkout, tools=tools)


def test_the_environment_is_the_same_when_asked_from_within_itself(
    checkout: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = environment.pulumi_env("lab", checkout=checkout, tools=tools)
    for name, value in first.items():
        monkeypatch.setenv(name, value)

    assert environment.pulumi_env("lab", checkout=checkout, tools=tools) == first


def test_a_passphrase_is_made_once_for_the_owner_alone(checkout: Path) -> None:
    path = environment.ensure_passphrase(checkout)
    first = path.read_text()

    assert path.stat().st_mode & 0o777 == 0o600
    assert len(first) > 40
    assert environment.ensure_passphrase(checkout).read_text() == first


def test_a_passphrase_that_others_may_read_is_closed(checkout: Path) -> None:
    environment.ensure_passphrase(checkout).chmod(0o644)

    assert environment.ensure_passphrase(checkout).stat().st_mode & 0o777 == 0o600


def test_a_lost_passphrase_is_not_replaced_by_one_that_opens_nothing(checkout: Path) -> None:
    stack = checkout / ".lab" / "state" / ".pulumi" / "stacks" / "etcd-lab" / "lab.json"
    stack.parent.mkdir(parents=True)
    stack.write_text("{}")

    with pytest.raises(RequirementError, match="passphrase is gone"):
        environment.ensure_passphrase(checkout)


def test_the_users_own_passphrase_makes_ours_superfluous(
    checkout: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "")

    env = environment.pulumi_env("lab", checkout=checkout, tools=tools)

    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in env
    assert not environment.passphrase_file(checkout).exists()


def test_missing_tools_are_told_with_the_way_to_get_them(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "locate", lambda: None)

    with pytest.raises(RequirementError, match=r"\./lab setup"):
        environment.pulumi_env("lab", checkout=checkout)
