"""What etcd says when it does not run, of each version: damage of its own disk, and all that only looks like it.

`journals/` holds the telling lines of real members on loopback (3.4.23, 3.5.34, 3.6.16, 3.7.3) that were damaged,
removed from their cluster, kept from starting, or sound beside a peer that was killed.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from chaos.member import journal
from chaos.member.journal import Unit, damage, inconsistent, read, trouble

VERSIONS = ("3.4", "3.5", "3.6", "3.7")


def excerpts(version: str) -> dict[str, str]:
    """The recorded lines of a version, by what was done to the member."""
    text = (Path(__file__).parent / "journals" / f"{version}.txt").read_text()
    parts = (part.partition("\n") for part in text.split("== ") if part)
    return {name: lines for name, _, lines in parts}


RECORDED = [
    pytest.param(lines, name, id=f"{version}-{name}")
    for version in VERSIONS
    for name, lines in sorted(excerpts(version).items())
]


def test_every_version_has_both_kinds() -> None:
    for version in VERSIONS:
        kinds = {name.partition("-")[0] for name in excerpts(version)}
        assert kinds == {"damaged", "removed", "sound", "start"}


@pytest.mark.parametrize(("lines", "name"), RECORDED)
def test_a_sign_of_damage_is_one_of_the_members_own_disk(lines: str, name: str) -> None:
    assert bool(damage(lines)) == name.startswith(("damaged", "removed")), damage(lines)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_member_whose_peer_was_killed_says_unexpected_eof_and_is_sound(version: str) -> None:
    said = excerpts(version)["sound-peer-killed"]
    assert "unexpected EOF" in said
    assert damage(said) == ""


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_a_health_page_that_finds_no_corruption_is_no_sign_of_it(version: str) -> None:
    said = excerpts(version)["sound-readyz"]
    assert "[+]data_corruption ok" in said
    assert damage(said) == ""


def test_a_file_that_ends_too_early_is_damage_when_it_ends_the_process() -> None:
    line = '{"level":"%s","caller":"%s","msg":"failed","error":"unexpected EOF"}'
    assert damage(line % ("fatal", "etcdmain/etcd.go:204"))
    assert not damage(line % ("error", "etcdmain/etcd.go:204"))
    assert not damage(line % ("warn", "rafthttp/stream.go:421"))


def test_data_that_differs_from_a_peers_is_no_sign_against_the_one_that_says_so() -> None:
    said = '{"level":"fatal","caller":"etcdmain/etcd.go:204","msg":"discovery failed","error":"found data inconsistency with peers"}'  # noqa: E501 - as etcd writes it
    assert damage(said) == ""
    assert inconsistent(said)


def test_what_a_member_said_before_its_last_two_starts_does_not_count() -> None:
    started = "Starting etcd.service - etcd, member etcd1..."
    old = excerpts("3.6")["damaged-wal"]
    assert damage(f"{started}\n{old}")
    assert damage(f"{started}\n{old}\n{started}\n")
    assert not damage(f"{started}\n{old}\n{started}\n{started}\n")


def stopped(text: str, **how: object) -> Unit:
    usual = {"active": "activating", "sub": "auto-restart", "result": "exit-code", "restarts": 4, "queued": True}
    return Unit(journal=text, **(usual | how))  # type: ignore[arg-type]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "reason", "remedy"),
    [
        ("start-port", "bind: address already in use", "ss -ltnp"),
        ("start-noconfig", "failed to verify flags: open ", "./lab up"),
        ("start-badchoice", 'unknown auto-compaction-mode "x"', "./lab up"),
        ("start-badtype", "cannot unmarshal number", "./lab up"),
        ("start-immutable", "operation not permitted", "lsattr"),
    ],
)
def test_why_a_unit_does_not_start_is_said_in_etcds_words(version: str, name: str, reason: str, remedy: str) -> None:
    found = trouble(stopped(excerpts(version)[name]), "etcd3")
    assert found is not None
    assert reason in found.reason
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("said", "reason", "remedy"),
    [
        (
            "etcd.service: Failed to locate executable /usr/local/bin/etcd: Permission denied",
            "/usr/local/bin/etcd: Permission denied",
            "./lab ssh etcd3 chmod 755 /usr/local/bin/etcd",
        ),
        (
            "etcd.service: Failed at step EXEC spawning /usr/local/bin/etcd: No such file or directory",
            "/usr/local/bin/etcd: No such file or directory",
            "./lab up",
        ),
    ],
)
def test_why_a_unit_does_not_start_is_said_in_systemds_words(said: str, reason: str, remedy: str) -> None:
    text = f"Starting etcd.service - etcd, member etcd3...\n{said}\netcd.service: Failed with result 'exit-code'.\n"
    found = trouble(stopped(text), "etcd3")
    assert found is not None
    assert found.reason == reason
    assert remedy in found.remedy


def test_systemds_lines_about_one_start_come_in_any_order() -> None:
    """As systemd 252 wrote them on a node: the child's own lines now and then before the one that begins the start."""
    text = """\
etcd.service: Scheduled restart job, restart counter is at 16.
Stopped etcd.service - etcd, member etcd3.
etcd.service: Failed to locate executable /usr/local/bin/etcd: Permission denied
etcd.service: Failed at step EXEC spawning /usr/local/bin/etcd: Permission denied
Starting etcd.service - etcd, member etcd3...
etcd.service: Main process exited, code=exited, status=203/EXEC
etcd.service: Failed with result 'exit-code'.
Failed to start etcd.service - etcd, member etcd3.
etcd.service: Scheduled restart job, restart counter is at 17.
Stopped etcd.service - etcd, member etcd3.
"""
    twice = text + text.replace("is at 17", "is at 18")
    found = trouble(stopped(twice), "etcd3")
    assert found is not None
    assert found.reason == "/usr/local/bin/etcd: Permission denied"


def test_a_unit_that_runs_or_says_nothing_has_no_trouble() -> None:
    said = excerpts("3.6")["start-port"]
    assert trouble(stopped(said, active="active", sub="running"), "etcd1") is None
    assert trouble(stopped(said, sub="start"), "etcd1") is None
    assert trouble(stopped("", result="success"), "etcd1") is None
    failed = trouble(stopped("", result="timeout"), "etcd1")
    assert failed is not None
    assert failed.reason == "systemd says timeout"
    off = trouble(stopped("", active="inactive", sub="dead", result="success", restarts=0, queued=False), "etcd1")
    assert off is not None
    assert off.reason == "systemd leaves it inactive"
    needs = "Dependency failed for etcd.service - etcd, member etcd1."
    off = trouble(stopped(needs, active="inactive", result="success", restarts=0, queued=False), "etcd1")
    assert off is not None
    assert off.reason == needs
    assert trouble(stopped("", active="inactive", result="success", restarts=0), "etcd1") is None, (
        "it is about to start"
    )


def test_what_the_node_prints_is_read() -> None:
    text = "Job=0\nActiveState=activating\nSubState=auto-restart\nResult=exit-code\nNRestarts=7\n\n{}\npanic: x\n"
    assert read(text) == Unit("activating", "auto-restart", "exit-code", 7, queued=False, journal="{}\npanic: x\n")
    with pytest.raises(ValueError, match="systemctl"):
        read("Connection to bus lost\n")


def test_the_nodes_filter_drops_stack_traces_behind_which_a_panic_would_be_out_of_sight() -> None:
    found = re.search(r"grep -aE '([^']+)'", journal.LINES)
    assert found is not None
    kept = ["panic: assertion failed: Page", '{"level":"fatal"}', "etcd.service: Failed with result 'exit-code'."]
    kept += ["Starting etcd.service - etcd, member etcd1...", "2026-11-30 09:17:57 E | etcdmain: error verifying flags"]
    lines = [kept[0], "goroutine 1 [running]:", "\tgo.etcd.io/x.go:1 +0x1", *kept[1:]]
    words = ["grep", "-aE", found.group(1)]
    done = subprocess.run(words, input="\n".join(lines), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == kept
