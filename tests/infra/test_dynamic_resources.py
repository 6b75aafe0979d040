"""Dynamic providers: what counts as a change, what is kept, what is written."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi.output import Unknown

from infra import hypervisor, identity, keys, local_files, readiness, seed_image
from infra.dynamic import Provider, differs
from machine.errors import LabError
from tests.provider_values import UNKNOWN, Props, check_diff, decoded, hidden, places, replaced, secret

PLAIN = st.recursive(
    st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


class Example(Provider):
    inputs = ("a", "b")
    replacing = ("b",)


def as_engine(value: object) -> object:
    """What comes back from the engine: numbers are floats, tuples are lists."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return float(value)
    if isinstance(value, Mapping):
        return {key: as_engine(item) for key, item in value.items()}
    assert isinstance(value, list | tuple)
    return [as_engine(item) for item in value]


@given(PLAIN)
def test_a_value_that_went_through_the_engine_is_no_change(value: object) -> None:
    assert not differs(as_engine(value), value)


@given(PLAIN, PLAIN)
def test_other_values_are_a_change(one: object, other: object) -> None:
    assert differs(one, other) == (as_engine(one) != as_engine(other))


NOT_YET = Unknown()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("value", [NOT_YET, {"x": NOT_YET}, ["x", NOT_YET]])
def test_what_is_not_known_yet_is_a_change(value: object) -> None:
    assert differs({"x": "1"}, value)


def test_only_named_inputs_change_a_resource_and_some_replace_it() -> None:
    old: dict[str, object] = {"a": 1.0, "b": "x", "out": "y"}
    assert Example().diff("", old, {"a": 1, "b": "x", "c": 3}).changes is False
    changed = Example().diff("", old, {"a": 2, "b": "x"})
    assert (changed.changes, changed.replaces) == (True, [])
    assert Example().diff("", old, {"a": 1, "b": "z"}).replaces == ["b"]


def test_a_new_node_gets_a_host_key_and_the_others_keep_theirs() -> None:
    provider = keys._KeysProvider()
    made = provider.create({"nodes": ["a", "b"]}).outs or {}
    more = provider.update("", made, {"nodes": ["b", "c"]}).outs or {}
    assert more["login_private"] == made["login_private"]
    assert more["host_private"]["b"] == made["host_private"]["b"]
    assert set(more["host_private"]) == set(more["host_public"]) == {"b", "c"}
    assert len({made["login_private"], *made["host_private"].values(), *more["host_private"].values()}) == 4


def test_openssh_derives_the_same_public_key(tmp_path: Path) -> None:
    private = keys.new_key()
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(private)
    found = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True, check=True).stdout
    assert found.split()[:2] == keys.public_key(private).split()


def test_known_hosts_names_each_node_by_name_and_address(tmp_path: Path) -> None:
    public = {"etcd1": keys.public_key(keys.new_key())}
    path = tmp_path / "known_hosts"
    path.write_text(keys.known_hosts(public, {"etcd1": "10.0.0.11"}))
    for host in ("etcd1", "10.0.0.11"):
        found = subprocess.run(["ssh-keygen", "-F", host, "-f", str(path)], capture_output=True, text=True, check=True)
        assert public["etcd1"] in found.stdout


def test_known_hosts_is_the_same_in_whatever_order_the_engine_gives_keys() -> None:
    addresses = {"a": "10.0.0.2", "b": "10.0.0.3"}
    assert keys.known_hosts({"a": "k1", "b": "k2"}, addresses) == keys.known_hosts({"b": "k2", "a": "k1"}, addresses)


def file_inputs(where: Path, public: dict[str, str], private: dict[str, str]) -> dict[str, object]:
    return {
        "dir": str(where),
        "public": public,
        "private": private,
        "public_digests": local_files._digests(public),
        "private_digests": local_files._digests(private),
    }


def test_private_files_are_for_their_owner_alone_and_the_state_holds_no_content(tmp_path: Path) -> None:
    outs = local_files._FilesProvider().create(file_inputs(tmp_path, {"m": "shown"}, {"k": "hidden"})).outs
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    assert (tmp_path / "k").read_text() == "hidden"
    assert (tmp_path / "m").read_text() == "shown"
    assert "hidden" not in str(outs)


@pytest.mark.parametrize("damage", ["gone", "edited", "opened"])
def test_a_refresh_sees_a_damaged_file_and_the_next_up_mends_it(tmp_path: Path, damage: str) -> None:
    provider = local_files._FilesProvider()
    inputs = file_inputs(tmp_path, {"m": "shown"}, {"k": "hidden"})
    outs = provider.create(inputs).outs or {}
    assert provider.diff("", provider.read("", outs).outs or {}, inputs).changes is False
    key = tmp_path / "k"
    if damage == "gone":
        key.unlink()
    elif damage == "edited":
        key.write_text("x")
    else:
        key.chmod(0o644)
    seen = provider.read("", outs).outs or {}
    assert provider.diff("", seen, inputs).changes is True
    mended = provider.update("", seen, inputs).outs or {}
    assert provider.diff("", provider.read("", mended).outs or {}, inputs).changes is False


def test_files_no_longer_wanted_go_and_all_go_at_the_end(tmp_path: Path) -> None:
    provider = local_files._FilesProvider()
    outs = provider.create(file_inputs(tmp_path, {"m": "1", "n": "2"}, {"k": "3"})).outs or {}
    outs = provider.update("", outs, file_inputs(tmp_path, {"m": "1"}, {"k": "3"})).outs or {}
    assert {path.name for path in tmp_path.iterdir()} == {"m", "k"}
    provider.delete("", outs)
    provider.delete("", outs)  # from a half state
    assert list(tmp_path.iterdir()) == []


SEED = {"user-data": "#!/bin/sh\necho SECRET\n", "meta-data": "instance-id: x\n", "network-config": "version: 2\n"}


@pytest.mark.skipif(shutil.which("mkisofs") is None, reason="mkisofs is not installed; ./lab setup installs it")
def test_a_seed_is_an_image_that_nocloud_finds_private_and_gone_with_the_lab(tmp_path: Path) -> None:
    path = tmp_path / "seeds" / f"a-{seed_image.digest(SEED)}.iso"
    provider = seed_image._SeedProvider()
    inputs: dict[str, object] = {"path": str(path), "files": SEED, "written": True}
    outs = provider.create(inputs).outs or {}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert "SECRET" not in str(outs)
    read = ["isoinfo", "-J", "-i", str(path)]
    for name, said in SEED.items():
        assert subprocess.run([*read, "-x", f"/{name}"], capture_output=True, text=True, check=True).stdout == said
    told = subprocess.run([*read, "-d"], capture_output=True, text=True, check=True).stdout
    assert "Volume id: cidata" in told

    assert provider.diff("", provider.read("", outs).outs or {}, inputs).changes is False
    path.unlink()
    lost = provider.read("", outs).outs or {}
    assert (provider.diff("", lost, inputs).changes, provider.diff("", lost, inputs).replaces) == (True, [])
    provider.update("", lost, inputs)
    assert path.exists()
    provider.delete("", outs)
    provider.delete("", outs)  # from a half state
    assert list(tmp_path.iterdir()) == []


def test_other_content_is_another_seed() -> None:
    named = {seed_image.digest({**SEED, name: "other"}) for name in SEED} | {seed_image.digest(SEED)}
    assert len(named) == 4
    assert seed_image.digest(dict(reversed(SEED.items()))) in named


class FakeEmbedded:
    """A hypervisor that is in the state that the test says."""

    now = "running"
    uri = "qemu+unix:///system?socket=/x"
    netns = "etcdlab-0"

    def __init__(self, *_: object) -> None: ...

    def state(self) -> str:
        return FakeEmbedded.now

    def start(self) -> None:
        FakeEmbedded.now = "running"

    def stop(self) -> None:
        FakeEmbedded.now = "absent"


def test_a_dead_hypervisor_is_never_gone_and_the_next_up_starts_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hypervisor, "Embedded", FakeEmbedded)
    provider = hypervisor._EmbeddedProvider()
    pool = tmp_path / "pool"
    pool.mkdir()
    inputs: dict[str, object] = {
        "hypervisor_id": "h",
        "dir": str(tmp_path / "lab" / "hypervisor"),
        "run_dir": "r",
        "owned": [str(pool)],
    }
    outs = provider.create(inputs).outs or {}
    assert provider.diff("", outs, inputs).changes is False
    FakeEmbedded.now = "stopped"
    seen = provider.read("h", outs)
    assert (seen.id, (seen.outs or {})["running"]) == ("h", False)
    diff = provider.diff("", outs, inputs)
    assert (diff.changes, diff.replaces) == (True, [])
    provider.update("", outs, inputs)
    assert provider.diff("", outs, inputs).changes is False
    assert (tmp_path / "lab").stat().st_mode & 0o077 == 0
    provider.delete("", outs)
    assert FakeEmbedded.now == "absent"
    assert not pool.exists()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[type[Provider], tuple[Props, Props]]:
    """Outputs and inputs of a resource of each kind, as they are after it was made; none of them has changed."""
    monkeypatch.setattr(hypervisor, "Embedded", FakeEmbedded)
    FakeEmbedded.now = "running"
    seed = tmp_path / "seeds" / "a-1.iso"
    seed.parent.mkdir()
    seed.touch()
    hypervisor_inputs = {
        "hypervisor_id": "h", "dir": str(tmp_path / "lab" / "h"), "run_dir": "r", "owned": [str(tmp_path / "pool")]
    }  # fmt: skip
    ready = {"instances": {"a": "1", "b": "2"}, "dir": str(tmp_path), "netns": ""}
    inputs: dict[type[Provider], Props] = {
        hypervisor._EmbeddedProvider: hypervisor_inputs,
        identity._LabIdProvider: {},
        keys._KeysProvider: {"nodes": ["a", "b"]},
        local_files._FilesProvider: file_inputs(tmp_path / "files", {"m": "shown", "n": "too"}, {"k": "hidden"}),
        readiness._ReadyProvider: ready,
        seed_image._SeedProvider: {"path": str(seed), "files": SEED, "written": True},
    }
    unmade: dict[type[Provider], Props] = {
        readiness._ReadyProvider: {**ready, "seconds_taken": {"a": 1.0}},
        seed_image._SeedProvider: {"path": str(seed), "written": True},
    }
    outs: dict[type[Provider], Props] = {
        kind: unmade.get(kind) or dict(kind().create(given).outs or {}) for kind, given in inputs.items()
    }
    return {kind: (outs[kind], given) for kind, given in inputs.items()}


KINDS = (
    hypervisor._EmbeddedProvider,
    identity._LabIdProvider,
    keys._KeysProvider,
    local_files._FilesProvider,
    readiness._ReadyProvider,
    seed_image._SeedProvider,
)


def test_every_provider_is_held_against_unknown_and_secret_values() -> None:
    own = {kind for kind in Provider.__subclasses__() if kind.__module__.startswith("infra.")}
    assert own == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_diff_takes_unknown_and_secret_values_at_any_depth(
    kind: type[Provider], made: dict[type[Provider], tuple[Props, Props]]
) -> None:
    outs, inputs = made[kind]
    check_diff(kind().diff, outs, inputs, tuple(kind.inputs))


@pytest.mark.parametrize("kind", KINDS)
def test_a_check_lets_unknown_and_secret_values_pass(
    kind: type[Provider], made: dict[type[Provider], tuple[Props, Props]]
) -> None:
    outs, inputs = made[kind]
    for make in (lambda _: UNKNOWN, secret):
        news = decoded({key: make(value) for key, value in inputs.items()}, keep_unknowns=True)
        found = kind().check(decoded(outs, keep_unknowns=True), news)
        assert (found.failures, found.inputs) == ([], news)


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_takes_secrets_and_finds_the_same(
    kind: type[Provider], made: dict[type[Provider], tuple[Props, Props]]
) -> None:
    outs, inputs = made[kind]
    read = kind().read("id", decoded(dict(hidden(outs)), keep_unknowns=False))
    assert read.id == "id"
    assert kind().diff("id", dict(read.outs or {}), inputs).changes is False


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_of_a_state_that_lacks_values_is_the_state_or_one_paragraph(
    kind: type[Provider], made: dict[type[Provider], tuple[Props, Props]]
) -> None:
    outs, _ = made[kind]
    for key in outs:
        for place in places(outs[key]):
            props = decoded(replaced(outs, (key, *place), lambda _: UNKNOWN), keep_unknowns=False)
            said = ""
            try:
                kind().read("id", props)
            except LabError as error:
                said = str(error)
            assert "\n" not in said


def test_an_interrupted_write_of_files_is_seen_though_the_setting_is_put_back(tmp_path: Path) -> None:
    """The update that wrote them was killed before the engine took note."""
    provider = local_files._FilesProvider()
    before = file_inputs(tmp_path, {"m": "old"}, {"k": "1"})
    outs = provider.create(before).outs or {}
    provider.update("", outs, file_inputs(tmp_path, {"m": "new"}, {"k": "1"}))
    assert provider.diff("", outs, before).changes is True
    outs = provider.update("", outs, before).outs or {}
    assert provider.diff("", outs, before).changes is False
    (tmp_path / "k").chmod(0o644)
    assert provider.diff("", outs, before).changes is True
