"""Checks are data; the doctor runs them, mends, looks again; preflight stops at the first hard failure."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from machine import capacity, checks, doctor, kvm, netns, orphans
from machine.checks import CHECKS, Check, Plan, Result
from machine.errors import LabError, RequirementError, ToolError
from machine.log import Say
from machine.paths import StackPaths


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Plan(
        paths=StackPaths(tmp_path, "lab"),
        nodes=3,
        memory_mib=512,
        subnet=IPv4Network("192.168.93.0/24"),
        kind="embedded",
        uri="qemu:///system",
        etcd_version="3.6.16",
        image="build",
        image_sha256=None,
        lab_id=None,
    )


def by_id(name: str) -> Check:
    return next(check for check in CHECKS if check.id == name)


def test_every_check_says_what_why_and_how() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.what
        assert check.why
        assert check.how


def test_the_checks_that_were_promised_are_there() -> None:
    """Issue 3 lists them."""
    promised = {"packages", "rights", "libvirt", "kvm", "memory", "disk", "subnet", "mkisofs", "xsltproc", "go"}
    parts = {"pulumi", "pulumi-language-python", "pulumi-language-python-exec", "pulumi-resource-pulumi-python"}
    rest = {"pulumi-resource-libvirt", "leftovers", "passphrase"}

    assert promised | parts | rest <= {check.id for check in CHECKS}


def test_nodes_that_do_not_fit_into_memory_stop_before_anything_is_made(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kvm, "last", lambda: kvm.Probe("kvm", "it works"))
    monkeypatch.setattr(capacity, "available_memory_mib", lambda: 4000)
    large = replace(plan, nodes=9, memory_mib=4096)

    assert checks.look(by_id("memory"), plan).level == "ok"
    result = checks.look(by_id("memory"), large)
    assert result.level == "fail"
    assert "4000 MiB available" in result.found


def test_machines_that_run_already_need_no_memory_again(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "available_memory_mib", lambda: 800)
    assert checks.look(by_id("memory"), plan).level == "fail"

    monkeypatch.setattr(capacity, "running_machines", lambda _netns, _lab_id: 3)
    assert checks.look(by_id("memory"), plan).level == "ok"


def test_emulated_machines_need_memory_for_their_translated_code(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "last", lambda: kvm.Probe("tcg", "no device"))
    monkeypatch.setattr(capacity, "available_memory_mib", lambda: 4000)

    assert checks.look(by_id("memory"), plan).level == "fail"


def test_running_machines_of_another_size_are_replaced_and_must_fit_anew(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kvm, "last", lambda: kvm.Probe("kvm", "it works"))
    monkeypatch.setattr(capacity, "available_memory_mib", lambda: 4000)
    monkeypatch.setattr(capacity, "running_machines", lambda _netns, _lab_id: 3)
    grown = replace(plan, lab_id="0badcafe", built_memory_mib=512)

    assert checks.look(by_id("memory"), replace(grown, memory_mib=4096)).level == "fail"
    assert checks.look(by_id("memory"), replace(grown, memory_mib=1024)).level == "ok"
    assert checks.look(by_id("memory"), grown).level == "ok"


def test_a_full_disk_is_told_with_its_place(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "free_disk_mib", lambda _path: 100)

    result = checks.look(by_id("disk"), plan)

    assert result.level == "fail"
    assert str(plan.paths.dir) in result.found


def test_a_subnet_that_the_host_uses_clashes_only_on_the_hosts_own_network(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "routed_networks", lambda: [(IPv4Network("192.168.0.0/16"), "wlan0")])

    assert checks.look(by_id("subnet"), plan).level == "ok"
    result = checks.look(by_id("subnet"), replace(plan, kind="system"))
    assert result == Result("fail", "192.168.93.0/24 overlaps the network of wlan0")


def test_the_labs_own_bridge_is_no_clash(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "routed_networks", lambda: [(plan.subnet, "el0badcafe")])

    assert checks.look(by_id("subnet"), replace(plan, kind="system", lab_id="0badcafe")).level == "ok"


def test_a_hypervisor_that_does_not_answer_is_a_failure(plan: Plan, tmp_path: Path) -> None:
    away = replace(plan, kind="system", uri=f"qemu+unix:///system?socket={tmp_path}/nothing")

    result = checks.look(by_id("libvirt"), away)

    assert result.level == "fail"
    assert "nothing" in result.found


def test_who_is_not_root_cannot_have_an_embedded_hypervisor(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert checks.look(by_id("rights"), plan).level == "fail"
    assert checks.look(by_id("rights"), replace(plan, kind="system")).level == "ok"


def test_a_passphrase_that_others_may_read_is_a_failure(plan: Plan) -> None:
    path = plan.paths.checkout / ".lab" / "passphrase"
    path.parent.mkdir()
    path.write_text("secret-word")
    path.chmod(0o644)

    result = checks.look(by_id("passphrase"), plan)

    assert result.level == "fail"
    assert "secret-word" not in result.found


def broken(level: checks.Level, fixes: list[str], *, mends: bool, hard: bool = True) -> Check:
    def look(_plan: Plan) -> Result:
        return Result("ok" if mends and fixes else level, "looked")

    def fix(_plan: Plan, _say: Say) -> None:
        fixes.append("fixed")

    return Check("x", "X", "because", "Do it", look, fix, hard)


def test_the_doctor_only_looks_unless_asked(plan: Plan) -> None:
    fixes: list[str] = []

    (finding,) = doctor.examine(plan, print, checks=(broken("fail", fixes, mends=True),))

    assert finding.level == "fail"
    assert fixes == []


def test_a_mended_requirement_is_looked_at_again(plan: Plan) -> None:
    fixes: list[str] = []

    (finding,) = doctor.examine(plan, print, fix=True, checks=(broken("fail", fixes, mends=True),))

    assert (finding.level, finding.mended, fixes) == ("ok", True, ["fixed"])


def test_a_mending_that_does_not_help_is_not_told_as_one(plan: Plan) -> None:
    findings = doctor.examine(plan, print, fix=True, checks=(broken("fail", [], mends=False),))

    assert not doctor.healthy(findings)
    assert not findings[0].mended


def test_a_mending_that_fails_does_not_stop_the_others(plan: Plan) -> None:
    def fix(_plan: Plan, _say: Say) -> None:
        raise ToolError("apt-get could not install the packages")

    stuck = replace(broken("fail", [], mends=False), fix=fix)
    findings = doctor.examine(plan, print, fix=True, checks=(stuck, broken("warn", [], mends=True)))

    assert "apt-get could not" in findings[0].found
    assert findings[1].level == "ok"


def test_preflight_stops_at_a_hard_failure_with_the_remedy(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    soft = replace(broken("fail", [], mends=False), hard=False)
    monkeypatch.setattr(checks, "CHECKS", (soft, broken("warn", [], mends=False)))
    checks.preflight(plan)

    monkeypatch.setattr(checks, "CHECKS", (soft, broken("fail", [], mends=False)))
    with pytest.raises(RequirementError) as refused:
        checks.preflight(plan)
    assert str(refused.value).startswith("X: looked. Do it")
    assert refused.value.exit_code == 2


def test_memory_is_what_the_control_group_leaves(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       8388608 kB\nMemAvailable:   4194304 kB\n")
    assert capacity.available_memory_mib(meminfo, tmp_path) == 4096

    (tmp_path / "memory.max").write_text(f"{2 << 30}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 30}\n")
    assert capacity.available_memory_mib(meminfo, tmp_path) == 1024

    (tmp_path / "memory.max").write_text("max\n")
    assert capacity.available_memory_mib(meminfo, tmp_path) == 4096


def test_sockets_without_a_namespace_are_a_leftover_and_can_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "run_root", lambda: tmp_path)
    monkeypatch.setattr(netns, "NETNS_DIR", tmp_path / "no-netns")
    (tmp_path / "0badcafe").mkdir()
    (tmp_path / "feedbeef").mkdir()

    (found,) = orphans.find(own={"etcdlab-feedbeef"})
    orphans.remove(found)

    assert found.id == "etcdlab-0badcafe"
    assert [path.name for path in tmp_path.iterdir()] == ["feedbeef"]


@pytest.fixture
def of_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A namespace of somebody, as one sees it whose processes these are not."""
    monkeypatch.setattr(orphans, "run_root", lambda: tmp_path / "run")
    monkeypatch.setattr(netns, "NETNS_DIR", tmp_path / "netns")
    monkeypatch.setattr(netns, "exists", lambda _name: True)
    (tmp_path / "netns").mkdir()
    (tmp_path / "netns" / "etcdlab-0badcafe").touch()
    return tmp_path


def test_a_namespace_whose_processes_may_not_be_looked_at_is_somebody_elses(
    plan: Plan, of_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user without root, and root without the right to trace: what may not be looked at is not gone."""
    real = Path.stat

    def stat(path: Path, **words: bool) -> os.stat_result:
        if str(path).startswith("/proc/"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **words)

    monkeypatch.setattr(Path, "stat", stat)
    (found,) = orphans.find()
    assert found.unknown
    with pytest.raises(LabError, match="somebody else's"):
        orphans.remove(found)
    check = by_id("leftovers")
    result = checks.look(check, plan)
    assert result.level == "ok"
    assert "none of ours; etcdlab-0badcafe: somebody else's" in result.found
    assert check.fix is not None
    check.fix(plan, lambda _line: None)
    assert (of_root / "netns" / "etcdlab-0badcafe").exists()


def test_a_user_who_does_not_even_see_the_processes_cannot_judge(
    of_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc mounted with hidepid=2."""
    monkeypatch.setattr(netns, "all_processes", lambda: iter(()))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert [one.unknown for one in orphans.find()] == [True]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert [one.unknown for one in orphans.find()] == [False], "root sees all, and nothing runs in it"


def test_a_hypervisor_that_answers_is_alive_though_no_process_of_it_is_seen(
    of_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/run is shared with another container, whose processes have their own numbers."""
    monkeypatch.setattr(netns, "all_processes", lambda: iter(()))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (of_root / "run" / "0badcafe").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as libvirt:
        monkeypatch.chdir(of_root / "run" / "0badcafe")
        libvirt.bind("libvirt-sock")
        libvirt.listen()
        assert [one.unknown for one in orphans.find()] == [True]
    assert [one.unknown for one in orphans.find()] == [False]
