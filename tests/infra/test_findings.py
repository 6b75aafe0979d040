"""What is not as the lab describes it: each kind, what is said of it, and whether heal may repair it. On paper."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infra.cluster import Alarm, EndpointStatus, Member
from infra.findings import Finding, Observed, alarms_of, compare, examine, graves, home_of
from tests.manifests import manifest

LAB = manifest()


def entry(number: int, name: str, host: str, *, learner: bool = False) -> Member:
    return Member(number, name, (f"https://{host}:2380",), (f"https://{host}:2379",) if name else (), learner)


OURS = tuple(entry(number, f"etcd{number}", f"192.168.93.{10 + number}") for number in (1, 2, 3))
STATUSES = tuple(
    EndpointStatus(f"etcd{number}", ok=True, member_id=number, cluster_id=7, version="3.6.16", leader_id=1)
    for number in (1, 2, 3)
)
WHOLE = Observed(STATUSES, OURS)


def found(seen: Observed) -> list[tuple[str, bool]]:
    return [(one.kind, one.by_heal) for one in examine(LAB, seen)]


def only(seen: Observed) -> Finding:
    (one,) = examine(LAB, seen)
    return one


def down(*nodes: str, leader: int = 0) -> tuple[EndpointStatus, ...]:
    return tuple(
        EndpointStatus(one.node, ok=False, error="refused") if one.node in nodes else replace(one, leader_id=leader)
        for one in STATUSES
    )


def test_a_lab_as_described_has_nothing_to_say() -> None:
    assert examine(LAB, WHOLE) == []


def test_members_that_are_down_alone_are_no_finding() -> None:
    assert examine(LAB, Observed(down("etcd3", leader=1), OURS)) == []


@pytest.mark.parametrize(
    ("member", "kind", "by_heal", "said"),
    [
        (
            entry(9, "", "192.168.93.99"),
            "foreign member",
            True,
            "never started and votes, which makes the quorum 3 of 4",
        ),
        (entry(9, "extra", "192.168.93.99"), "foreign member", False, "it votes, which makes the quorum 3 of 4"),
        (entry(9, "", "192.168.93.99", learner=True), "foreign learner", True, "never started and is a learner"),
        (entry(9, "extra", "192.168.93.99", learner=True), "foreign learner", False, "it is a learner"),
    ],
)
def test_a_member_that_is_none_of_the_labs(member: Member, kind: str, by_heal: bool, said: str) -> None:
    one = only(replace(WHOLE, members=(*OURS, member)))
    assert (one.kind, one.by_heal, one.member_id, one.grave) == (kind, by_heal, 9, True)
    assert said in one.what
    assert one.command == "./lab ctl etcd1 member remove 9 removes it"


def test_ids_are_in_hex_and_the_command_goes_to_a_node_that_answers() -> None:
    stranger = entry(0x8211F1D0F64F3269, "", "192.168.93.99")
    one = only(Observed(down("etcd1", leader=2), (*OURS, stranger)))
    assert one.command == "./lab ctl etcd2 member remove 8211f1d0f64f3269 removes it"


def test_a_learner_of_the_labs_own_is_heals() -> None:
    half = Member(3, "", ("https://192.168.93.13:2380",), (), learner=True)
    statuses = down("etcd3", leader=1)
    assert found(Observed(statuses, (*OURS[:2], half))) == [("learner", True)]


def test_a_node_that_the_list_lacks_was_removed() -> None:
    one = only(Observed(down("etcd3", leader=1), OURS[:2]))
    assert (one.kind, one.node, one.by_heal) == ("missing member", "etcd3", True)


def test_another_peer_url_than_the_manifests_is_named_with_the_right_one() -> None:
    moved = replace(OURS[1], peer_urls=("https://192.168.93.98:2380",))
    one = only(replace(WHOLE, members=(OURS[0], moved, OURS[2])))
    assert (one.kind, one.node, one.by_heal) == ("peer URL", "etcd2", True)
    assert "member update 2 --peer-urls=https://192.168.93.12:2380" in one.command


def test_peers_that_are_named_by_host_have_their_names_in_the_list() -> None:
    named = LAB.model_copy(update={"peers": "hosts"})
    hosts = tuple(replace(one, peer_urls=(f"https://{one.name}:2380",)) for one in OURS)
    assert examine(named, replace(WHOLE, members=hosts)) == []
    assert [one.kind for one in examine(named, WHOLE)] == ["peer URL"] * 3


def test_a_stranger_of_the_same_name_is_the_stranger_and_not_the_node() -> None:
    twin = entry(9, "etcd2", "192.168.93.99")
    for members in ((twin, *OURS), (*OURS, twin)):
        for statuses in (STATUSES, down("etcd2", leader=1)):
            assert found(Observed(statuses, members)) == [("foreign member", False), ("duplicate name", False)]
            assert compare(LAB, members, statuses).foreign == (twin,)


@pytest.mark.parametrize(
    ("text", "alarm"),
    [
        ("memberID:2 alarm:NOSPACE ", Alarm(2, "NOSPACE")),
        ("memberID:2  alarm:CORRUPT", Alarm(2, "CORRUPT")),  # 3.7, by the build
        ("alarm:NOSPACE ", Alarm(0, "NOSPACE")),
    ],
)
def test_an_alarm_is_read_from_a_status_as_every_version_spells_it(text: str, alarm: Alarm) -> None:
    statuses = tuple(replace(one, errors=(text, "etcdserver: no leader")) for one in STATUSES)
    assert alarms_of(statuses) == [alarm]
    assert found(replace(WHOLE, statuses=statuses)) == [("alarm", True)]


def test_an_alarm_says_whose_it_is_and_whether_that_member_is_gone() -> None:
    def said(text: str) -> str:
        return only(replace(WHOLE, statuses=tuple(replace(one, errors=(text,)) for one in STATUSES))).what

    assert said("memberID:2 alarm:NOSPACE ") == "alarm NOSPACE of etcd2: writes are refused"
    assert said("memberID:77 alarm:CORRUPT ") == (
        "alarm CORRUPT of member 4d, which is in the member list no more: reads and writes are refused"
    )


def test_mixed_versions_are_ups() -> None:
    statuses = (*STATUSES[:2], replace(STATUSES[2], version="3.5.34"))
    one = only(replace(WHOLE, statuses=statuses))
    assert (one.kind, one.by_heal) == ("versions", False)
    assert "etcd3 3.5.34" in one.what
    assert one.command.startswith("./lab up")


def test_a_member_of_another_cluster_is_left_to_the_user() -> None:
    stray = replace(STATUSES[0], cluster_id=8, member_id=5, leader_id=5)
    assert home_of((stray, *STATUSES[1:])) == 7
    one = only(replace(WHOLE, statuses=(stray, *STATUSES[1:])))
    assert (one.kind, one.node, one.by_heal) == ("other cluster", "etcd1", False)
    # also where the others have removed it meanwhile: its data is not ours to wipe
    assert found(Observed((stray, *STATUSES[1:]), OURS[1:])) == [("other cluster", False)]


@pytest.mark.parametrize(
    ("strangers", "silent", "lost"),
    [(0, ["etcd3"], False), (0, ["etcd2", "etcd3"], True), (1, ["etcd3"], True), (1, [], False), (3, [], True)],
)
def test_the_quorum_is_that_of_the_members_there_are(strangers: int, silent: list[str], lost: bool) -> None:
    others = tuple(entry(20 + number, "", f"192.168.93.{90 + number}") for number in range(strangers))
    seen = Observed(down(*silent), (*OURS, *others))
    assert ("no quorum" in [one.kind for one in examine(LAB, seen)]) is lost


def test_a_leader_is_proof_of_a_quorum() -> None:
    others = tuple(entry(20 + number, "x", f"192.168.93.{90 + number}") for number in range(3))
    kinds = [one.kind for one in examine(LAB, Observed(STATUSES, (*OURS, *others)))]
    assert "no quorum" not in kinds


def test_authentication_is_said_and_not_grave() -> None:
    one = only(replace(WHOLE, auth=True))
    assert one.kind == "authentication"
    assert "auth disable" in one.command
    assert graves([one]) == []


def test_nothing_is_said_of_members_where_nobody_gives_a_list() -> None:
    statuses = down("etcd1", "etcd2", "etcd3")
    assert examine(LAB, Observed(statuses, None)) == []
