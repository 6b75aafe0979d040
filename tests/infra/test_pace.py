"""Raft timing by measurement: what `auto` chooses, and that a lab that stands keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import raft_timing
from infra.manifest import Timeouts
from infra.settings import from_mapping
from machine.errors import SettingsError
from machine.paths import stack_paths
from tests.manifests import manifest


def test_an_idle_host_gets_the_accelerators_default() -> None:
    assert raft_timing.chosen("kvm", 0.0004) == Timeouts(heartbeat_ms=100, election_ms=1000)
    assert raft_timing.chosen("tcg", 0.0004) == Timeouts(heartbeat_ms=300, election_ms=3000)


def test_a_late_host_gets_a_heartbeat_no_shorter_than_its_delay() -> None:
    assert raft_timing.chosen("kvm", 0.163) == Timeouts(heartbeat_ms=200, election_ms=2000)


@given(st.floats(0, 1000), st.sampled_from(["kvm", "tcg"]))
def test_what_is_chosen_starts_etcd(delay: float, accelerator: str) -> None:
    found = raft_timing.chosen(accelerator, delay)  # type: ignore[arg-type]
    assert 5 * found.heartbeat_ms <= found.election_ms <= 50_000


def test_the_probe_is_bounded_and_never_negative() -> None:
    assert 0 <= raft_timing.wake_up_delay() < raft_timing.PROBE_SECONDS + 1


@pytest.mark.parametrize(
    ("given", "measured"),
    [
        ({}, False),
        ({"heartbeat-ms": "auto"}, True),
        ({"heartbeat-ms": "auto", "election-ms": "auto"}, True),
        ({"heartbeat-ms": "auto", "election-ms": "2000"}, False),
        ({"heartbeat-ms": 0}, False),
    ],
)
def test_auto_measures_where_no_number_says_otherwise(given: dict[str, object], measured: bool) -> None:
    settings = from_mapping(given)
    assert settings.measures_timeouts is measured


def test_auto_beside_a_number_is_ten_to_one() -> None:
    assert from_mapping({"heartbeat-ms": "auto", "election-ms": 2000}).timeouts("kvm").heartbeat_ms == 200


@pytest.mark.parametrize("value", ["-1", "automatic", "1.5"])
def test_other_words_and_negative_numbers_are_refused(value: str) -> None:
    with pytest.raises(SettingsError, match=r"heartbeat-ms.*auto"):
        from_mapping({"heartbeat-ms": value})


def test_a_standing_lab_keeps_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft_timing, "wake_up_delay", lambda: 0.4)
    settings, paths = from_mapping({"election-ms": "auto"}), stack_paths("lab", tmp_path)
    assert raft_timing.timeouts_for(settings, "tcg", paths).heartbeat_ms == 400
    manifest("a", heartbeat_ms=350).save(paths)
    assert raft_timing.timeouts_for(settings, "tcg", paths) == Timeouts(heartbeat_ms=350, election_ms=3500)
