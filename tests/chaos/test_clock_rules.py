"""Clock faults: scripts really run (with the clock's own programs replaced), and what adjtimex says."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.faults.host.clock import ABOUT_SECONDS, ClockDrift, ClockJump, ClockStrobe
from chaos.lab import guest_clock as clock
from chaos.lab.guest_shell import Reading
from chaos.lab.lab import Lab
from machine.errors import LabError


def shell(script: str, tmp_path: Path, uptime: str = "100.05", now: int = 0) -> str:
    """Run a script as a guest's /bin/sh would, with a `date` that tells `now` and writes down what it is set to."""
    tools = tmp_path / "bin"
    tools.mkdir(exist_ok=True)
    (tools / "date").write_text(f'#!/bin/sh\n[ "$1" = -s ] && echo "$2" >>{tmp_path}/set || echo {now}\n')
    (tools / "date").chmod(0o755)
    (tmp_path / "uptime").write_text(f"{uptime} 1.00\n")
    text = script.replace("/proc/uptime", str(tmp_path / "uptime"))
    done = subprocess.run(
        ["sh", "-ec", text], check=True, capture_output=True, text=True, env={"PATH": f"{tools}:/usr/bin:/bin"}
    )
    said = tmp_path / "set"
    return said.read_text().strip() if said.exists() else done.stdout.strip()


@pytest.mark.parametrize(
    ("by", "words"),
    [
        (60_500_000_000, "now +60.500000000 seconds"),
        (-1, "now -0.000000001 seconds"),
        (-3_600_000_000_007, "now -3600.000000007 seconds"),
        (0, "now +0.000000000 seconds"),
    ],
)
def test_a_clock_is_moved_by_nanoseconds_either_way(by: int, words: str, tmp_path: Path) -> None:
    assert shell(clock.shift_script(str(by)), tmp_path) == words


def test_the_date_program_understands_these_words() -> None:
    base = int(subprocess.check_output(["date", "+%s"]))
    there = float(subprocess.check_output(["date", "-d", "now -3600.250000000 seconds", "+%s.%N"]))
    assert base - 3600.3 <= there <= base - 3590


def test_the_noted_time_is_kept_when_a_fault_is_made_twice(tmp_path: Path) -> None:
    shell(clock.note_script(str(tmp_path)), tmp_path, "100.05", 5_000_000_000)
    shell(clock.note_script(str(tmp_path)), tmp_path, "200.00", 9_000_000_000)
    assert (tmp_path / "base").read_text() == "5000000000 100.05\n"


def test_a_guest_finds_the_right_time_by_its_uptime(tmp_path: Path) -> None:
    (tmp_path / "base").write_text("1000000000000 100.05\n")
    # 20.03 s later the clock, which had jumped by a minute, says 1080.03 s
    script = clock.restore_script(str(tmp_path), 0.0)
    assert shell(script, tmp_path, "120.08", 1_080_030_000_000) == "now -60.000000000 seconds"


def test_a_guest_whose_uptime_ran_fast_takes_that_off(tmp_path: Path) -> None:
    (tmp_path / "base").write_text("1000000000000 100.00\n")
    script = clock.restore_script(str(tmp_path), 50000.0)
    moved = shell(script, tmp_path, "205.00", 1_105_000_000_000)
    assert float(moved.split()[1]) == pytest.approx(-5.0, abs=0.001)


def test_nothing_is_restored_where_nothing_was_noted(tmp_path: Path) -> None:
    assert not shell(clock.restore_script(str(tmp_path), 0.0), tmp_path)


@given(st.integers(-99000, 99000))
def test_a_drift_is_a_tick_and_a_rest_that_adjtimex_takes_and_tells(ppm: int) -> None:
    words = ClockDrift((("a",),), params={"ppm": ppm}).make(None, "a").split()  # type: ignore[arg-type]
    tick, frequency = int(words[words.index("-t") + 1]), int(words[words.index("-f") + 1])
    assert 9000 <= tick <= 11000
    assert abs(frequency) <= 32768000
    told = f"-f  freq.adjust:  {frequency} (65536 = 1ppm)\n-t  tick:         {tick} us\n"
    assert clock.read_rate(told) == (tick, ppm)


def test_a_clock_is_right_as_far_as_one_can_tell() -> None:
    assert clock.is_right(Reading(0.3, 0.26, 0, 0))
    assert not clock.is_right(Reading(-0.3, 0.2, 0, 0))


def test_a_jump_is_made_once_and_a_strobe_is_started_once(tmp_path: Path) -> None:
    jump = ClockJump((("a",),), params={"seconds": 60.0})
    text = jump.make(None, "a").replace(jump.directory, str(tmp_path))  # type: ignore[arg-type]
    shell(text, tmp_path, now=7)
    assert shell(text, tmp_path, now=8) == "now +60.000000000 seconds"
    strobe = ClockStrobe((("a",),)).make(None, "a")  # type: ignore[arg-type]
    assert strobe.startswith("systemctl is-active --quiet etcdlab-strobe-clock-strobe-")


@pytest.mark.parametrize(
    ("seconds", "offset", "uncertainty", "shows"),
    [
        (1.0, 1.05, 0.01, True),
        (1.0, 0.0, 0.01, False),
        (1.0, 0.0, 0.9, False),
        (1.0, 0.25, 0.3, False),
        (1.0, 0.6, 0.5, False),
        (-1.0, -0.8, 0.1, True),
        (-1.0, 1.0, 0.1, False),
        (60.0, 59.2, 0.01, True),
        (60.0, 0.2, 0.01, False),
    ],
)
def test_a_jump_shows_only_where_no_clock_that_stayed_may_be(
    seconds: float, offset: float, uncertainty: float, shows: bool
) -> None:
    jump = ClockJump((("a",),), params={"seconds": seconds})
    assert jump.shows(Reading(offset, uncertainty, 0, 0)) is shows


@given(st.floats(1.0, 1e6), st.sampled_from((1, -1)), st.floats(-1, 1), st.floats(0, 10))
def test_a_clock_that_stayed_about_right_never_shows_a_jump(size: float, sign: int, part: float, open_: float) -> None:
    stayed = part * (ABOUT_SECONDS + open_)
    assert not ClockJump((("a",),), params={"seconds": sign * size}).shows(Reading(stayed, open_, 0, 0))


def test_no_two_clock_faults_share_a_node() -> None:
    assert {kind.occupies for kind in (ClockJump, ClockDrift, ClockStrobe)} == {"clock"}


class PaperGuest:
    """A guest whose clock is wrong, and which comes late by `lag` seconds with every step."""

    def __init__(self, offset: float, lag: float) -> None:
        self.offset, self.lag, self.steps = offset, lag, 0
        self.inside = SimpleNamespace(session=lambda _: self, run=self.run, forget=lambda _: None)

    def shell(self, node: str) -> str:
        return node

    def clock(self) -> Reading:
        return Reading(self.offset, 0.002, 100.0, 0)

    def run(self, _: object, script: str, __: float) -> None:
        self.steps += 1
        self.offset += int(script.partition(";")[0].removeprefix("by=")) / 1e9 - self.lag


@pytest.mark.parametrize(("offset", "lag"), [(3600.0, 0.0), (-2.5, 0.2), (0.3, 1.0)])
def test_a_clock_gets_right_however_late_the_guest_is(offset: float, lag: float) -> None:
    guest = PaperGuest(offset, lag)
    assert abs(clock.set_right(cast("Lab", guest), "a").offset) <= clock.RIGHT_SECONDS + 0.002
    assert guest.steps <= 3


class Guests:
    """Guests whose clocks stand somewhere, move as they are told, and may not answer at first."""

    def __init__(self, stand: dict[str, float], silent: int = 0) -> None:
        self.stand = stand
        self.silent = silent
        self.moves: list[str] = []
        self.inside = SimpleNamespace(session=lambda node: SimpleNamespace(clock=lambda: self._tell(node)),
                                      forget=lambda _: None)  # fmt: skip

    def _tell(self, node: str) -> Reading:
        if self.silent:
            self.silent -= 1
            raise LabError(f"Lost the shell in {node}")
        return Reading(self.stand[node], 0.01, 0, 0)

    def shell(self, node: str) -> Any:
        guests = self

        class Here(str):
            __slots__ = ()

            def run(self, script: str, seconds: float) -> None:  # noqa: ARG002 - as Shell.run is called
                guests.moves.append(node)
                guests.stand[node] += int(script.split(";", maxsplit=1)[0].removeprefix("by=")) / 1e9

        return Here(node)


def test_clocks_of_halted_machines_are_put_where_they_stood_and_no_other_is_touched() -> None:
    lab: Any = Guests({"a": -33.25, "b": 0.3, "c": 20.0}, silent=1)
    clock.restore(lab, {"a": 0.0, "b": 0.0, "c": 60.5})
    assert lab.stand == pytest.approx({"a": 0.0, "b": 0.3, "c": 60.5})
    assert lab.moves == ["a", "c"]


def test_of_no_nodes_no_clock_is_asked() -> None:
    assert clock.offsets(cast("Lab", None), []) == {}
