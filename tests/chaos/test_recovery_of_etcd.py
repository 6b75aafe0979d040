"""Healing real clusters on loopback: what is safe is repaired, what is not is said at once and not waited for.

The cluster, its members and their data are real; the machines' shells are played: a script of ours is recognised, and
done to the process that stands for the machine's etcd.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.conftest import steady_state
from chaos.heal import recovery
from chaos.heal.recovery import Recovery, Repair
from chaos.lab.lab import Lab
from chaos.member import join, journal, replacement
from infra.cluster import Alarm
from infra.findings import examine, observe
from machine.errors import LabError
from machine.process import Completed
from machine.versions import ETCD_DEFAULT
from machine.waiting import Pending, wait_until
from tests.etcd_cluster import Members, cluster, kept_versions

pytestmark = pytest.mark.integration

KNOWING_SECONDS = 10.0
"""How long heal may go on once it can know that the lab is beyond it."""


class Machines:
    """The lab around the members: shells whose scripts act on processes here."""

    def __init__(self, members: Members) -> None:
        self.members = members
        self.manifest, self.paths, self.cluster = members.manifest, members.paths, members.cluster
        self.inside = SimpleNamespace(run=lambda shell, script, _seconds, **_more: shell.run(script))
        self.unit: dict[str, Callable[[], str]] = {}
        """What systemctl and the journal say of a node, where a test wants to say it."""
        self.done: list[Repair] = []

    def running(self) -> list[str]:
        return list(self.manifest.node_names)

    def shell(self, node: str) -> Any:
        return SimpleNamespace(run=lambda script, **more: self._run(node, script, **more))

    def etcdctl(self, node: str, *words: str, **_more: object) -> Completed:
        return self.members.etcdctl(*words, node=node)

    def _run(self, node: str, script: str, stdin: str = "", **_more: object) -> Completed:
        members = self.members
        out = ""
        if script == join.WIPE:
            if node in members.running:
                members.kill(node)
            members.wipe(node)
        elif script == join.JOIN:
            lines = (line.partition(": ") for line in stdin.splitlines())
            members.start_with(node, {key: json.loads(value) for key, _, value in lines})
        elif script.startswith("cat "):
            out = "".join(f"{key}: {json.dumps(value)}\n" for key, value in members.settings(node).items())
        elif script == journal.SCRIPT:
            out = self.unit[node]() if node in self.unit else self._unit(node)
        elif "journalctl" in script:
            alive = self._alive(node)
            empty = "" if (members.data(node) / "member" / "wal").exists() else "-empty"
            lines_said = "" if alive else "\n".join(members.log(node).splitlines()[-60:])
            out = f"{'active' if alive else 'failed'}{empty}\n{lines_said}"
        return Completed((script,), 0, out, "")

    def _alive(self, node: str) -> bool:
        process = self.members.running.get(node)
        return process is not None and process.poll() is None

    def _unit(self, node: str) -> str:
        state = "active" if self._alive(node) else "failed"
        return (
            f"ActiveState={state}\nSubState=x\nResult=success\nNRestarts=0\nJob=0\n\n{self.members.log(node)[-9000:]}"
        )

    def heal(self) -> list[Repair]:
        """As `./lab heal` does once the machines run."""
        self.done = []
        Recovery(cast(Lab, self), self.done.append, lambda _text: None, lambda: None).run()
        return self.done

    def says_within(self, seconds: float) -> str:
        """The error with which healing ends, soon enough."""
        started = time.monotonic()
        with pytest.raises(LabError) as caught:
            self.heal()
        assert time.monotonic() - started < seconds
        assert "within 0 s" not in str(caught.value)
        return str(caught.value)

    def kinds(self) -> list[str]:
        return [one.kind for one in examine(self.manifest, observe(self.cluster))]


@contextlib.contextmanager
def machines(directory: Path, version: str, *names: str) -> Iterator[Machines]:
    with cluster(directory, version, *names) as members:
        yield Machines(members)


@pytest.fixture(params=kept_versions())
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machines]:
    with machines(tmp_path, request.param) as made:
        yield made


@pytest.fixture
def one_lab(tmp_path: Path) -> Iterator[Machines]:
    with machines(tmp_path, ETCD_DEFAULT) as made:
        yield made


def add(lab: Machines, *words: str, node: str = "") -> None:
    """`member add` as a user does, until etcd takes it."""

    def asked() -> None:
        done = lab.members.etcdctl("member", "add", *words, node=node)
        if not done.ok:
            raise Pending(done.stderr)

    wait_until(asked, "member add", seconds=30)


def test_foreign_members_that_never_started_and_wrong_peer_urls_are_repaired(lab: Machines) -> None:
    foreign = ["foreign member"]
    add(lab, "extra", f"--peer-urls=https://{lab.members.net}.99:2380")
    if not lab.manifest.etcd_version.startswith("3.4."):  # which adds no learner while a member has not started
        add(lab, "more", "--learner", f"--peer-urls=https://{lab.members.net}.98:2380")
        foreign = ["foreign learner", "foreign member"]
    own = lab.cluster.status()[1].member_id
    lab.cluster.update_member(own, f"https://{lab.members.net}.97:2380")
    assert sorted(lab.kinds()) == [*foreign, "peer URL"]
    items = lab.heal()
    assert all(item.ok for item in items)
    assert sorted(item.done for item in items) == ["corrected", *["removed" for _ in foreign]]
    assert lab.kinds() == []


def test_a_steady_state_with_a_foreign_member_is_refused_with_the_command(one_lab: Machines) -> None:
    assert "3 healthy" in steady_state(cast(Lab, one_lab))
    add(one_lab, "extra", f"--peer-urls=https://{one_lab.members.net}.99:2380")
    started = time.monotonic()
    with pytest.raises(LabError, match=r"not a node of this lab.*member remove"):
        steady_state(cast(Lab, one_lab))
    assert time.monotonic() - started < 5
    one_lab.members.enable_auth()
    one_lab.heal()
    assert "authentication is on" in steady_state(cast(Lab, one_lab))


def test_a_foreign_member_that_runs_is_left_and_said(one_lab: Machines) -> None:
    one_lab.members.join("extra")
    wait_until(lambda: started(one_lab), "the member", seconds=30)
    (item,) = one_lab.heal()
    assert not item.ok
    assert "left as it is; ./lab ctl" in item.done
    assert one_lab.kinds() == ["foreign member"]


def started(lab: Machines) -> None:
    if not all(one.name for one in lab.cluster.members()):
        raise Pending("not all have started")


def test_alarms_whose_cause_is_gone_are_disarmed(lab: Machines) -> None:
    own = lab.cluster.status()[1].member_id
    raise_alarms(lab, (own, "CORRUPT"), (77, "CORRUPT"), (77, "NOSPACE"), (own, "NOSPACE"))
    started = time.monotonic()
    items = lab.heal()
    assert time.monotonic() - started < 30
    assert all(item.ok for item in items)
    assert {item.done for item in items} == {
        "disarmed, as that member is gone",
        "disarmed, as the data of all members is the same",
        "room made, disarmed",
    }
    assert lab.kinds() == []
    lab.members.ok("put", "a", "b")


def raise_alarms(lab: Machines, *alarms: tuple[int, str]) -> None:
    for member_id, kind in alarms:
        body = {"action": "ACTIVATE", "memberID": str(member_id), "alarm": kind}
        lab.cluster.call("etcd1", "maintenance/alarm", body, 5)


def test_under_corrupt_the_member_that_differs_from_the_majority_is_replaced_and_the_alarm_goes_with_it(
    lab: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = lab.cluster.status()[2].member_id
    raise_alarms(lab, (own, "CORRUPT"))
    real = lab.cluster.hash_of

    def differing(node: str, revision: int = 0, seconds: float = 2.0) -> Any:
        found = real(node, revision, seconds)
        still = {one.node: one.member_id for one in lab.cluster.status()}.get("etcd3") == own
        return type(found)(found.hash ^ 1, found.compact_revision) if node == "etcd3" and still else found

    monkeypatch.setattr(lab.cluster, "hash_of", differing)
    items = lab.heal()
    assert [item.what for item in items] == ["the member of etcd3"]
    assert lab.kinds() == []
    assert lab.cluster.status()[2].member_id != own


def test_data_on_which_no_majority_agrees_is_not_waited_for(one_lab: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_alarms(one_lab, (one_lab.cluster.status()[2].member_id, "CORRUPT"))
    real = one_lab.cluster.hash_of
    monkeypatch.setattr(
        one_lab.cluster,
        "hash_of",
        lambda node, *more: type(real(node))(real(node, *more).hash ^ ord(node[-1]), 0),
    )
    said = one_lab.says_within(KNOWING_SECONDS)
    assert "no majority agrees" in said
    assert "./lab destroy" in said


def test_a_sound_member_that_is_down_beside_a_killed_peer_is_not_wiped(lab: Machines) -> None:
    """Its last words are full of `unexpected EOF`."""
    ids = [one.member_id for one in lab.cluster.status()]
    lab.members.kill("etcd1")
    wait_until(lambda: eof(lab), "the streams' end", seconds=20)
    lab.members.kill("etcd3")
    assert replacement.needs_replacing(cast(Lab, lab)) == []
    lab.members.start("etcd1", "etcd3")
    assert lab.heal() == []
    assert [one.member_id for one in lab.cluster.status()] == ids


def eof(lab: Machines) -> None:
    if "unexpected EOF" not in lab.members.log("etcd3"):
        raise Pending("no EOF yet")


def damage(lab: Machines, *nodes: str) -> None:
    lab.members.kill(*nodes)
    for node in nodes:
        db = lab.members.data(node) / "member" / "snap" / "db"
        db.write_bytes(bytes(byte ^ 0x5A for byte in db.read_bytes()[:8192]) + db.read_bytes()[8192:])
    lab.members.start(*nodes)
    for node in nodes:
        lab.members.ended(node)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "SETTLE_SECONDS", 1.0)


@pytest.mark.usefixtures("hurried")
def test_a_member_with_a_damaged_database_is_replaced(lab: Machines) -> None:
    damage(lab, "etcd2")
    assert replacement.needs_replacing(cast(Lab, lab)) == ["etcd2"]
    (item,) = lab.heal()
    assert (item.what, item.ok) == ("the member of etcd2", True)
    assert lab.kinds() == []


@pytest.mark.usefixtures("hurried")
def test_two_of_five_are_both_removed_before_one_is_added(tmp_path: Path) -> None:
    """3.4 adds none while another is listed that is down."""
    version = kept_versions()[0]
    with machines(tmp_path, version, *(f"etcd{number}" for number in range(1, 6))) as five:
        damage(five, "etcd2", "etcd4")
        items = five.heal()
        assert [(item.what, item.ok) for item in items] == [
            ("the member of etcd2", True),
            ("the member of etcd4", True),
        ]
        assert five.kinds() == []


@pytest.mark.usefixtures("hurried")
def test_a_lost_quorum_is_said_and_not_waited_for(one_lab: Machines) -> None:
    damage(one_lab, "etcd2", "etcd3")
    said = one_lab.says_within(KNOWING_SECONDS + recovery.LOOK_EVERY)
    assert "The quorum is lost: 2 of 3 voting members are needed" in said
    assert "1 can run (etcd1; not etcd2, etcd3)" in said
    assert all((one_lab.members.data(node) / "member").exists() for node in ("etcd2", "etcd3")), "nothing is wiped"


def failing(lab: Machines, node: str, said: str) -> None:
    """Let the node's unit end again and again with these words."""
    count = iter(range(100))
    lab.members.kill(node)
    lab.unit[node] = lambda: (
        f"ActiveState=activating\nSubState=auto-restart\nResult=exit-code\nNRestarts={next(count)}\nJob=9\n\n"
        f"Starting etcd.service - etcd, member {node}...\n{said}\n"
    )


EXEC = "etcd.service: Failed at step EXEC spawning /usr/local/bin/etcd: Permission denied"


def test_a_unit_that_does_not_start_is_said_with_the_reason_and_not_waited_for(one_lab: Machines) -> None:
    failing(one_lab, "etcd3", EXEC)
    said = one_lab.says_within(2 * recovery.LOOK_EVERY + KNOWING_SECONDS)
    assert "etcd on etcd3 does not start: /usr/local/bin/etcd: Permission denied" in said
    assert "./lab ssh etcd3 chmod 755 /usr/local/bin/etcd" in said


def test_with_a_foreign_member_and_one_that_does_not_start_the_quorum_is_that_of_four(one_lab: Machines) -> None:
    add(one_lab, "extra", f"--peer-urls=https://{one_lab.members.net}.99:2380")
    failing(one_lab, "etcd3", EXEC)
    said = one_lab.says_within(2 * recovery.LOOK_EVERY + KNOWING_SECONDS + recovery.CONFIRM_SECONDS)
    assert "3 of 4 voting members are needed" in said
    assert "1 of them" in said
    assert "Permission denied" in said


def test_a_member_of_another_cluster_is_said_and_its_data_stays(one_lab: Machines) -> None:
    one_lab.members.kill("etcd1")
    one_lab.members.wipe("etcd1")
    alone = one_lab.members.settings("etcd1")
    alone |= {"initial-cluster": f"etcd1={alone['initial-advertise-peer-urls']}", "initial-cluster-token": "other"}
    one_lab.members.start_with("etcd1", alone)
    wait_until(lambda: other(one_lab), "the other cluster", seconds=20)
    said = one_lab.says_within(KNOWING_SECONDS)
    assert "etcd on etcd1 belongs to another cluster" in said
    assert (one_lab.members.data("etcd1") / "member").exists()


def other(lab: Machines) -> None:
    if "other cluster" not in lab.kinds():
        raise Pending(str(lab.kinds()))


@pytest.mark.usefixtures("hurried")
def test_a_member_that_was_removed_joins_again(lab: Machines) -> None:
    own = lab.cluster.status()[2].member_id
    wait_until(lambda: removed(lab, own), "member remove", seconds=30)
    lab.members.ended("etcd3")
    (item,) = lab.heal()
    assert (item.what, item.ok) == ("the member of etcd3", True)
    assert lab.kinds() == []


def removed(lab: Machines, own: int) -> None:
    done = lab.members.etcdctl("member", "remove", f"{own:x}")
    if not done.ok:
        raise Pending(done.stderr)


def test_the_alarm_type_that_is_disarmed_is_the_one_that_was_meant(one_lab: Machines) -> None:
    raise_alarms(one_lab, (77, "CORRUPT"), (77, "NOSPACE"))
    one_lab.cluster.disarm(Alarm(77, "CORRUPT"))
    assert [alarm.kind for alarm in one_lab.cluster.alarms()] == ["NOSPACE"]
