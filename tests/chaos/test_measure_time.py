"""Guest time on the host's line, and etcd's log as events: lines that etcd 3.6 and 3.4 really wrote."""

from __future__ import annotations

import json
import re
import shlex
import socket
import threading
import time
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.lab.guest_shell import REMOTE, Session
from chaos.measure.clocks import ClockMap, Reading, read_clock
from chaos.measure.events import Event, fetch, kind_of, late_heartbeat, parse, read_events, rounds, write_events
from chaos.measure.measures import power_events, unavailability
from chaos.measure.observer_relay import Relay
from chaos.report import FaultEntry
from machine.process import Completed
from machine.ssh import Shell

BOOT = "d8e292098f9b4b968b2ced374ab26884"


def reading(guest: float, host: float, boot: str = BOOT) -> Reading:
    return Reading("etcd1", boot, guest, round(host * 1e9), 0.01, 0.01)


def line(message: str, guest: float, real: float = 0.0, boot: str = BOOT) -> str:
    return json.dumps(
        {
            "MESSAGE": message,
            "__MONOTONIC_TIMESTAMP": str(round(guest * 1e6)),
            "__REALTIME_TIMESTAMP": str(round(real * 1e6)),
            "_BOOT_ID": boot,
        }
    )


def test_a_clock_is_read_in_a_shell_that_is_open_there() -> None:
    shell = Session.start(["bash", "-c", shlex.join(REMOTE)], "here")
    try:
        seen = read_clock(shell)
    finally:
        shell.close()
    uptime, now = float(Path("/proc/uptime").read_text().split()[0]), time.monotonic()
    assert seen.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    assert abs(seen.offset - (now - uptime)) <= seen.within + 0.02
    assert seen.within < 1
    assert 0 <= time.time() - seen.wall < 30


@given(st.floats(0, 1e5), st.floats(0, 1e6), st.floats(0, 1e5), st.floats(-0.2, 0.2))
def test_a_clock_that_runs_through_keeps_distances(guest: float, host: float, later: float, drift: float) -> None:
    clock = ClockMap([reading(guest, host), reading(guest + later, host + later + drift)])
    middle = clock.host_ns(BOOT, guest + later / 2)
    assert middle is not None
    assert abs(middle / 1e9 - (host + later / 2)) <= abs(drift) + 1e-3


def test_a_pause_in_between_moves_only_what_came_after_it() -> None:
    """Readings at 10 and at 20 guest seconds; paused at host second 105 for 30 s."""
    clock = ClockMap([reading(10, 100), reading(20, 140)], stops=[round(105 * 1e9)])
    assert clock.host_ns(BOOT, 14.0) == pytest.approx(104e9)
    assert clock.host_ns(BOOT, 16.0) == pytest.approx(136e9)


def test_each_boot_has_its_own_line_and_an_unread_one_has_none() -> None:
    clock = ClockMap([reading(1000, 500), reading(5, 600, "other")])
    assert clock.host_ns(BOOT, 999) == pytest.approx(499e9)
    assert clock.host_ns("other", 7) == pytest.approx(602e9)
    assert clock.host_ns("third", 7) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("8940be0d6c5ac573 is starting a new election at term 2", "election"),
        ("8940be0d6c5ac573 became pre-candidate at term 2", "election"),
        ("8940be0d6c5ac573 became leader at term 3", "leader-elected"),
        ("raft.node: bf483b26e59cb5a6 elected leader c425f34c00158a2e at term 8", "leader-elected"),
        ("raft.node: bf483b26e59cb5a6 lost leader 8940be0d6c5ac573 at term 8", "leader-lost"),
        ("c425 stepped down to follower since quorum is not active", "leader-lost"),
        ("apply request took too long took=313.2ms", "slow-apply"),
        ("prober detected unhealthy status round-tripper-name=ROUND_TRIPPER_SNAPSHOT", "health"),
        ("peer became inactive (message send to peer failed)", "health"),
        ("Started etcd.service - etcd, member etcd2.", "process"),
        ("closed etcd server", "process"),
        # 3.4, capnslog
        ("raft2020/01/30 10:00:00 INFO: 8e9e05c52164694d became leader at term 2", "leader-elected"),
        ("saved snapshot", None),
    ],
)
def test_messages_have_their_kind(text: str, kind: str | None) -> None:
    assert kind_of(text) == kind


def test_a_line_is_placed_when_etcd_wrote_it_not_when_journald_had_it() -> None:
    said = '{"level":"warn","ts":"2026-11-22T14:09:16.000000Z","msg":"raft.node: a lost leader b at term 2"}'
    wrote = 1795356556.0
    clock = ClockMap([reading(10, 100)])
    (event,) = parse("etcd1", line(said, guest=12.5, real=wrote + 0.5), clock)
    assert event.at_ns == pytest.approx(102e9)
    assert (event.kind, event.term) == ("leader-lost", 2)
    (event,) = parse("etcd1", line(said, guest=12.5, real=wrote + 3600), clock)
    assert event.at_ns == pytest.approx(102.5e9), "a clock that was set is not believed"


def test_what_is_known_of_a_log_is_not_asked_for_again() -> None:
    asked: list[str] = []
    first = '{"__CURSOR": "s=1;i=a"}\n{"__CURSOR": "s=1;i=b"}\n'

    class Node:
        said = first

        def run(self, script: str, **_: object) -> Completed:
            asked.append(script)
            return Completed((), 0, self.said, "")

    node = Node()
    shell = cast(Shell, node)
    assert fetch(shell, 17.4) == first
    node.said = '{"__CURSOR": "s=1;i=c"}\n'
    whole = fetch(shell, 17.4, first)
    assert whole == first + node.said
    node.said = ""
    assert fetch(shell, 17.4, whole) == whole
    fetch(shell, 17.4, "a line that was cut o")
    starts = [re.search(r"--(since|after-cursor)=(\S+)", script) for script in asked]
    assert [found and found[0] for found in starts] == [
        "--since=@17",
        "--after-cursor='s=1;i=b'",
        "--after-cursor='s=1;i=c'",
        "--since=@17",
    ]


def test_noise_is_left_out_and_warnings_are_kept() -> None:
    clock = ClockMap([reading(10, 100)])
    lines = [
        "no json",
        line('{"level":"info","ts":"x","msg":"saved snapshot"}', 11),
        line('{"level":"warn","ts":"x","msg":"ignored out-of-date read index response"}', 12),
        line("raft.node: a lost leader b at term 2", 13, boot="unknown"),
    ]
    assert [event.kind for event in parse("etcd1", "\n".join(lines), clock)] == ["other"]


def test_rounds_are_campaigns_of_one_member_and_late_heartbeats_count() -> None:
    def campaign(node: str, at: int) -> Event:
        return Event(at, node, "election", "x is starting a new election at term 2")

    late = "leader failed to send out heartbeat on time to=b exceeded-duration="
    seen = [
        campaign("a", 5),
        campaign("b", 6),
        campaign("b", 9),
        campaign("b", 99),
        Event(1, "a", "health", late + "2s"),
    ]
    assert rounds(seen, 0, 50) == 2
    assert rounds([], 0, 50) == 1
    assert late_heartbeat([*seen, Event(7, "a", "health", late + "352.5ms")], 3, 50) == pytest.approx(0.3525)


def test_events_are_kept_in_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "scenarios" / "X" / "events.jsonl"
    written = write_events(path, [Event(9, "b", "other", "late"), Event(3, "a", "power", "early")])
    assert [event.at_ns for event in written] == [3, 9]
    assert read_events(path) == written


def test_power_faults_are_events_of_their_nodes() -> None:
    entry = FaultEntry(name="power-off", target="a,b", place="", injected_ns=5, healed_ns=9)
    cut = FaultEntry(name="partition", target="a | b", place="", injected_ns=5)
    assert [(event.node, event.at_ns) for event in power_events([entry, cut])] == [
        ("a", 5),
        ("a", 9),
        ("b", 5),
        ("b", 9),
    ]


def test_unavailability_is_told_per_member_with_its_resolution() -> None:
    def put(at: float, ok: bool, member: str) -> dict[str, object]:
        ends = round((at + 0.1) * 1e9)
        return {"op": "put", "invoke_ns": round(at * 1e9), "return_ns": ends, "outcome": "ok" if ok else "fail",
                "member": member}  # fmt: skip

    ops = [put(at / 4, not (10 <= at < 20), "a") for at in range(40)] + [put(1, True, "b")]
    told = unavailability(ops)
    assert told["b"]["seconds"] == 0  # type: ignore[index]
    (gap,) = told["a"]["intervals"]  # type: ignore[index]
    assert gap["seconds"] == pytest.approx(2.6, abs=0.3)
    assert told["a"]["resolution_seconds"] == 0.25  # type: ignore[index]


def test_a_relay_carries_bytes_both_ways_from_a_port_of_observers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen: list[int] = []

        def serve() -> None:
            near, (_, port) = server.accept()
            seen.append(port)
            near.sendall(near.recv(5).upper())
            near.close()

        thread = threading.Thread(target=serve)
        thread.start()
        relay = Relay("127.0.0.1", server.getsockname()[1])
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(relay.name)
            client.sendall(b"hello")
            assert client.recv(5) == b"HELLO"
            assert client.recv(5) == b""
        thread.join()
        relay.close()
    assert 20000 <= seen[0] < 30000
