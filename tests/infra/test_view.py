"""Health as a node sees it: from what the node printed to a verdict with a reason per member."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.view import View, go_seconds, parse, script

ADDRESSES = {"10.0.0.11": "etcd1", "10.0.0.12": "etcd2", "10.0.0.13": "etcd3"}

CUT_OFF = """\
tcp 10.0.0.12 0
tcp 10.0.0.11 124
[{"endpoint":"https://10.0.0.12:2379","health":false,"took":"5.01s","error":"context deadline exceeded"},\
{"endpoint":"https://10.0.0.11:2379","health":false,"took":"5s","error":"context deadline exceeded"},\
{"endpoint":"https://10.0.0.13:2379","health":false,"took":"5s","error":"context deadline exceeded"}]
tcp 10.0.0.13 124
"""


def view(text: str) -> View:
    return View("etcd2", 2, parse(text, ADDRESSES))


def printed(healthy: set[str]) -> str:
    lines = [f"tcp {address} {0 if name in healthy else 124}" for address, name in ADDRESSES.items()]
    items = [
        {"endpoint": f"https://{address}:2379", "health": name in healthy, "took": "9ms"}
        for address, name in ADDRESSES.items()
    ]
    return "\n".join([*lines, json.dumps(items)])


def test_a_cut_off_member_finds_itself_unhealthy_and_the_others_unreachable() -> None:
    seen = view(CUT_OFF)
    assert seen.verdict == "unavailable"
    assert seen.member("etcd2").reason.startswith("unhealthy: context deadline exceeded")
    for other in ("etcd1", "etcd3"):
        assert seen.member(other).reason.startswith("unreachable")
    assert seen.member("etcd2").seconds == pytest.approx(5.01)


@pytest.mark.parametrize(
    ("healthy", "verdict"),
    [
        ({"etcd1", "etcd2", "etcd3"}, "healthy"),
        ({"etcd1", "etcd3"}, "degraded"),
        ({"etcd1"}, "unavailable"),
        (set[str](), "unavailable"),
    ],
)
def test_the_verdict_counts_against_the_quorum(healthy: set[str], verdict: str) -> None:
    assert view(printed(healthy)).verdict == verdict


def test_an_answer_that_leaves_a_member_out_is_no_answer() -> None:
    with pytest.raises(ValueError, match="etcd3"):
        parse(printed({"etcd1"}).replace("tcp 10.0.0.13", "udp 10.0.0.13"), ADDRESSES)
    with pytest.raises(ValueError, match="etcd1, etcd2, etcd3"):
        parse("sh: etcdctl: not found", ADDRESSES)


def test_endpoints_are_named_one_by_one_as_a_cut_off_member_cannot_list_them() -> None:
    text = script(list(ADDRESSES))
    assert "ETCDCTL_ENDPOINTS=https://10.0.0.11:2379,https://10.0.0.12:2379,https://10.0.0.13:2379" in text
    assert "--cluster" not in text


@given(st.integers(0, 3), st.integers(0, 59), st.integers(0, 59_999))
def test_durations_of_go_are_read_back(hours: int, minutes: int, milliseconds: int) -> None:
    text = f"{hours}h{minutes}m{milliseconds / 1000}s"
    assert go_seconds(text) == pytest.approx(hours * 3600 + minutes * 60 + milliseconds / 1000)


@pytest.mark.parametrize(("text", "seconds"), [("9.3ms", 0.0093), ("850µs", 0.00085), ("5s", 5.0), ("0s", 0.0)])
def test_short_durations(text: str, seconds: float) -> None:
    assert go_seconds(text) == pytest.approx(seconds)
