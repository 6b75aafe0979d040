"""Faults inside guests that cannot be reached: what is still there is never taken for healed, nor for gone."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chaos.faults import guest
from chaos.faults.base import Proof
from chaos.faults.etcd.process import StopProcess
from chaos.faults.network import cut, guest_nft
from chaos.faults.network.cut import Cut
from chaos.faults.network.flows import Flow
from chaos.faults.network.guest_nft import Guests, handed_over, waiting
from chaos.faults.network.partitions import Partition
from chaos.faults.storage.disk import DiskFull, DiskSlow
from machine.errors import LabError
from machine.paths import StackPaths
from machine.process import Completed
from machine.waiting import Pending, wait_until
from tests.manifests import manifest

MANIFEST = manifest(*"abc")


class Paper:
    """A lab of paper whose guests note what they run; those in `silent` cannot be asked."""

    manifest = MANIFEST
    paths = StackPaths(Path("/nowhere"), "lab")

    def __init__(self, silent: str = "", **states: str) -> None:
        self.states = {**dict.fromkeys("abc", "running"), **states}
        self.silent = silent
        self.ran: list[str] = []
        self.inside = SimpleNamespace(run=self.run)
        self.asked = 0

    def domain_states(self) -> dict[str, str]:
        self.asked += 1
        return dict(self.states)

    def running(self) -> list[str]:
        return [name for name, state in self.states.items() if state == "running"]

    def shell(self, node: str) -> str:
        return node

    def run(self, shell: str, *_: Any, **__: Any) -> Completed:
        if shell in self.silent:
            raise LabError(f"{shell} is not reached")
        self.ran.append(shell)
        return Completed((), 0, '{"nftables": []}', "")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "GOES_ON_SECONDS", 0.3)


def mend_a_cut(lab: Any) -> None:
    Guests(lab, "cut-1").mend("cut_1", [Flow("a", "b"), Flow("b", "c")])


def lifting(fault: Any) -> Callable[[Any], None]:
    lift: Callable[[Any], None] = fault.lift
    return lift


@pytest.mark.parametrize(
    "heal",
    [lifting(StopProcess((("b", "c"),))), lifting(DiskSlow((("b", "c"),))), mend_a_cut],
    ids=["process", "disk", "cut"],
)
def test_a_paused_node_keeps_its_fault_and_healing_says_so_when_the_others_are_healed(
    heal: Callable[[Any], None],
) -> None:
    lab = Paper(b="paused")
    with pytest.raises(LabError, match=r"on b, which is paused.*lab heal"):
        heal(lab)
    assert lab.ran == ["c"]
    off = Paper(b="shutoff")
    heal(off)
    assert off.ran == ["c"], "without power it is gone"


def test_a_pause_that_is_healed_at_the_same_time_is_waited_for() -> None:
    class Resumed(Paper):
        def domain_states(self) -> dict[str, str]:
            found = super().domain_states()
            self.states["b"] = "running"
            return found

    lab: Any = Resumed(b="paused")
    StopProcess((("b",),)).lift(lab)
    assert lab.ran == ["b"]


def test_what_survives_a_reboot_cannot_be_healed_without_power() -> None:
    lab: Any = Paper(b="shutoff")
    with pytest.raises(LabError, match="has no power"):
        DiskFull((("a", "b"),)).lift(lab)
    assert lab.ran == ["a"]


@pytest.fixture
def nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Run a script here, where nft notes how often it was started, and what it was given; it fails on `bad`."""
    program = tmp_path / "bin" / "nft"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\necho started >>{tmp_path}/said\ngiven=$(cat)\n"
        f'echo "$given" >>{tmp_path}/said\n[ "$given" != bad ]\n'
    )
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}

    def run(script: str) -> str:
        words = ["bash", "-c", script]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
        return f"{done.returncode} {done.stderr}"

    return run


@pytest.mark.parametrize(
    ("complains", "status", "said"),
    [
        ("", 0, "{}"),
        ("Error: No such file or directory\nlist table inet etcdlab_faults", 0, '{"nftables": []}'),
        ("Error: Could not process rule: Cannot allocate memory", 1, ""),
    ],
)
def test_only_a_table_that_is_not_there_is_an_empty_one(tmp_path: Path, complains: str, status: int, said: str) -> None:
    program = tmp_path / "nft"
    answers = f"echo {shlex.quote(complains)} >&2; exit 1" if complains else "echo {}"
    program.write_text(f"#!/bin/sh\n{answers}\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for shell in ("bash", "sh"):
        words = [shell, "-c", guest_nft.LISTING]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout.strip()) == (status, said)
        assert done.stderr.strip() == (complains if status else "")


def test_rules_go_to_an_nft_that_waits_for_them(tmp_path: Path, nft: Callable[[str], str]) -> None:
    place = str(tmp_path / "cut-1")
    assert nft(waiting(place)) == "0 ", "it is not waited for"
    wait_until(lambda: started(tmp_path), "an nft that waits", seconds=10)
    assert nft(handed_over(place, "add rule\n")) == "0 "
    assert (tmp_path / "said").read_text() == "started\nadd rule\n", "it was started once"
    assert 0 < float(Path(place, "at").read_text()) <= float(Path("/proc/uptime").read_text().split()[0])
    assert sorted(path.name for path in Path(place).iterdir()) == ["at", "wrong"]


def started(tmp_path: Path) -> None:
    if not (tmp_path / "said").exists():
        raise Pending("not yet")


def test_where_no_nft_waits_or_it_fails_another_is_started(tmp_path: Path, nft: Callable[[str], str]) -> None:
    place = str(tmp_path / "cut-1")
    Path(place).mkdir()
    assert nft(handed_over(place, "add rule\n")) == "0 "
    nft(waiting(place))
    assert nft(handed_over(place, "bad")).startswith("1 ")
    assert (tmp_path / "said").read_text() == "started\nadd rule\nstarted\nbad\nstarted\nbad\n"


def test_an_nft_that_nobody_comes_to_ends(
    tmp_path: Path, nft: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_nft, "WAITING_SECONDS", 0.3)
    place = str(tmp_path / "cut-1")
    nft(waiting(place))

    def gone() -> None:
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        if any(place.encode() in line for line in lines):
            raise Pending("it waits")

    wait_until(gone, "its end", seconds=10)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No probe of reachability, and no table at the bridge."""
    monkeypatch.setattr(cut, "linked", lambda _: [])
    monkeypatch.setattr(Cut, "_reachability", lambda *_, **__: [])
    bridge = SimpleNamespace(cuts=dict, ours=lambda: False)
    monkeypatch.setattr(cut, "Bridge", SimpleNamespace(of=lambda _: bridge))


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(("silent", "gone"), [("", True), ("b", False)])
def test_rules_are_gone_only_where_every_guest_of_the_cut_says_so(silent: str, gone: bool) -> None:
    lab: Any = Paper(silent=silent)
    (proof,) = Partition((("a",), ("b", "c"))).look(lab, in_force=False)
    assert proof.holds is gone
    assert (proof.observed == "gone") is gone


@pytest.mark.usefixtures("quiet")
def test_how_close_together_the_rules_came_is_asked_when_they_are_made_and_not_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A guest whose clock ran otherwise since would tell a wrong time."""
    monkeypatch.setattr(Cut, "_rule", lambda *_, **__: Proof("rule", "guest", "in force", "in force", holds=True))
    monkeypatch.setattr(guest_nft.Guests, "cut", lambda *_: None)
    monkeypatch.setattr(guest_nft.Guests, "skew", lambda *_: 0.1)
    lab: Any = Paper()
    lab.paths = StackPaths(tmp_path, "t")
    cut = Partition((("a",), ("b",)))
    asked = [[proof.what for proof in act(lab).proof] for act in (cut.inject, cut.observe)]
    assert ["first to last guest" in words for words in asked] == [True, False]


def test_a_cut_inside_concerns_every_guest_that_has_rules() -> None:
    assert set(Partition((("a",), ("b", "c"))).inside) == {"a", "b", "c"}
