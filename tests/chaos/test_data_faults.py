"""Damage to files of a member: exactly what was asked for, in the part that is in use, and the note of it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.faults.storage.corruption import _HURT, FILES, BitFlip, Truncate, note, read_note
from chaos.faults.storage.rollback import _SAVE, Rollback
from chaos.lab.lab import Lab
from chaos.member import etcd_unit
from machine.errors import UsageError

GROUPS = (("etcd2",),)


def hurt(directory: Path, content: bytes, how: str, *numbers: int) -> tuple[bytes, bytes, bytes, dict[str, str]]:
    """The file after it was hurt, what was kept of it before and after, and what was said."""
    path, before, after = (directory / name for name in ("file", "before", "after"))
    path.write_bytes(content)
    words = [str(path), str(before), str(after), how, *map(str, numbers)]
    done = subprocess.run(["perl", "-e", _HURT, *words], capture_output=True, text=True, timeout=20, check=True)
    return path.read_bytes(), before.read_bytes(), after.read_bytes(), read_note(done.stdout)


USED = bytes(range(1, 256)) * 20
ZEROS = bytes(3 << 20)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), bits=st.integers(1, 8))
def test_bits_are_flipped_where_data_is_and_nowhere_else(
    tmp_path_factory: pytest.TempPathFactory, seed: int, bits: int
) -> None:
    fault = BitFlip(GROUPS, params={"seed": seed, "bits": bits})
    how, numbers = fault.how("etcd2")
    found, before, after, said = hurt(tmp_path_factory.mktemp("hurt"), USED + ZEROS, how, *numbers)
    assert len(found) == len(USED) + len(ZEROS)
    assert found[len(USED) :] == ZEROS
    assert (before, after) == (USED, found[: len(USED)])
    flipped = sum((one ^ other).bit_count() for one, other in zip(USED, after, strict=True))
    assert flipped <= bits
    assert flipped % 2 == bits % 2  # the same bit twice is none
    assert int(said["used"]) == len(USED)


def test_the_part_in_use_may_have_zeros_inside(tmp_path: Path) -> None:
    content = b"head" * 10 + bytes(2 << 20) + b"tail"
    _, before, _, said = hurt(tmp_path, content + bytes(1 << 20), "flip", 3)
    assert before == content
    assert int(said["size"]) == len(content) + (1 << 20)


@pytest.mark.parametrize(("cut", "left"), [(1, 5099), (5000, 100), (5100, 0), (99999, 0)])
def test_bytes_are_cut_off_the_part_in_use(tmp_path: Path, cut: int, left: int) -> None:
    how, numbers = Truncate(GROUPS, params={"bytes": cut}).how("etcd2")
    found, before, after, said = hurt(tmp_path, USED + ZEROS, how, *numbers)
    assert (found, before, after) == (USED[:left], USED, USED[:left])
    assert said["cut_at"] == str(left)


def test_the_same_seed_hits_the_same_places_and_each_node_its_own() -> None:
    one = BitFlip(GROUPS, params={"seed": 5, "bits": 4})
    assert one.how("etcd2") == BitFlip(GROUPS, params={"seed": 5, "bits": 4}).how("etcd2")
    assert one.how("etcd2") != one.how("etcd3")
    assert one.how("etcd2") != BitFlip(GROUPS, params={"seed": 6, "bits": 4}).how("etcd2")


@pytest.mark.parametrize("which", FILES)
def test_scripts_are_shell(which: str) -> None:
    scripts = [
        BitFlip(GROUPS, params={"file": which}).script("etcd2"),
        Truncate(GROUPS, params={"file": which}).script("etcd2"),
        Rollback(GROUPS)._put_back(3, 40),
        _SAVE,
        note("/x"),
        etcd_unit.script("boot"),
    ]
    for script in scripts:
        subprocess.run(["sh", "-n", "-c", script], check=True, timeout=10)


DONE = {
    "file": "/x.wal",
    "before": "aa",
    "after": "bb",
    "changed": "1",
    "lost": "0",
    "used": "5100",
    "size": "64000000",
}


@pytest.mark.parametrize(
    ("noted", "proved"),
    [
        (DONE, True),
        (DONE | {"after": "aa"}, False),
        (DONE | {"changed": "0"}, False),
        (DONE | {"changed": "2"}, False),
        ({}, False),
    ],
)
def test_a_flip_counts_when_a_byte_and_the_digest_differ(noted: dict[str, str], proved: bool) -> None:
    assert all(proof.holds for proof in BitFlip(GROUPS).shown("etcd2", noted)) == proved


@pytest.mark.parametrize(("lost", "proved"), [("200", True), ("199", False), ("0", False)])
def test_a_cut_counts_when_the_bytes_are_gone(lost: str, proved: bool) -> None:
    shown = Truncate(GROUPS, params={"bytes": 200}).shown("etcd2", DONE | {"lost": lost})
    assert all(proof.holds for proof in shown) == proved


@pytest.mark.parametrize(
    ("began", "after", "proved"), [("40", "bb", True), ("90", "bb", False), ("", "bb", False), ("40", "aa", False)]
)
def test_a_rollback_counts_when_the_member_began_before_what_it_had(began: str, after: str, proved: bool) -> None:
    noted = {"before": "aa", "after": after, "saved": "42", "then": "90", "began": began}
    assert all(proof.holds for proof in Rollback(GROUPS).shown("etcd2", noted)) == proved


@pytest.mark.parametrize("words", [{"file": "passwd"}, {"seed": "-1"}, {"bits": "0"}, {"colour": "red"}])
def test_impossible_damage_is_refused(words: dict[str, str]) -> None:
    lab = cast(Lab, SimpleNamespace(manifest=SimpleNamespace(node_names=("etcd1",)), leader=lambda: None))
    with pytest.raises(UsageError, match=next(iter(words))):
        BitFlip.declare(lab, ("etcd1",), words)


def test_how_etcd_ended_is_told_in_its_own_words() -> None:
    text = (
        "NRestarts=3\nActiveState=activating\n"
        '{"level":"fatal","ts":"2026-01-01T00:00:00Z","caller":"etcdmain/etcd.go:183","msg":"discovery failed",'
        '"error":"walpb: crc mismatch","stacktrace":"main.main"}\n'
    )
    assert etcd_unit.read(text) == etcd_unit.EtcdUnit("activating", 3, "discovery failed: walpb: crc mismatch")
    assert etcd_unit.read("ActiveState=active\nNRestarts=0\n") == etcd_unit.EtcdUnit("active", 0, "")
    assert etcd_unit.words("panic: tocommit(20) is out of range [lastIndex(17)]").startswith("panic: tocommit")


def test_a_rolled_back_log_is_compared_to_where_it_parts(tmp_path: Path) -> None:
    lines = Rollback(GROUPS)._put_back(3, 40).splitlines()
    compare = "\n".join(line for line in lines if line.startswith(("parts=", "before=", "after=")))
    (tmp_path / "old").write_bytes(USED + b"more" + ZEROS)
    (tmp_path / "new").write_bytes(USED + ZEROS)
    for new, same in (("new", False), ("old", True)):
        script = f"set -e; old={tmp_path}/old; new={tmp_path}/{new}\n{compare}\necho before=$before; echo after=$after"
        said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=10).stdout
        noted = read_note(said)
        assert (noted["before"] == noted["after"]) == same
