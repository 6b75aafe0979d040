"""What a living lab does not let one change."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.membership import refuse_change
from infra.settings import LabSettings, from_mapping
from machine.errors import SettingsError
from machine.paths import StackPaths
from tests.manifests import manifest


@pytest.fixture
def paths(tmp_path: Path) -> StackPaths:
    """A checkout with a lab of etcd1 to etcd3 on the default subnet."""
    found = StackPaths(tmp_path, "lab")
    manifest().save(found)
    return found


def settings(**values: object) -> LabSettings:
    return from_mapping({"hypervisor": "embedded", **values})  # whoever runs this


def test_what_does_not_touch_membership_may_change(paths: StackPaths) -> None:
    refuse_change(settings(**{"memory": 768, "heartbeat-ms": 100, "etcd-version": "3.6.15"}), paths)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nodes", 5),
        ("names", ["a", "b", "c"]),
        ("subnet", "10.9.8.0/24"),
        ("peers", "dns"),
        ("hypervisor", "qemu:///system"),
    ],
)
def test_members_may_not(paths: StackPaths, key: str, value: object) -> None:
    with pytest.raises(SettingsError, match=rf"etcd-lab:{key}.*destroy") as caught:
        refuse_change(settings(**{key: value}), paths)
    assert caught.value.exit_code == 2


def test_anything_goes_where_no_lab_stands(tmp_path: Path) -> None:
    refuse_change(settings(nodes=5), StackPaths(tmp_path, "lab"))
