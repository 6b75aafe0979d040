"""The gate between restarts, against a cluster of a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy.gate import Gate

NAMES = ("etcd1", "etcd2", "etcd3")


@dataclass(frozen=True)
class Member:
    node: str
    healthy: bool
    reason: str = ""


@dataclass
class Fake:
    """A cluster whose ill members are named."""

    leads: str | None = "etcd1"
    ill: set[str] = field(default_factory=set)
    moves: list[str] = field(default_factory=list)

    def health(self) -> Sequence[Member]:
        return [Member(name, name not in self.ill, "no leader") for name in NAMES]

    def leader(self) -> str | None:
        return self.leads

    def move_leader(self, to: str) -> None:
        self.moves.append(to)
        self.leads = to


def gate(cluster: Fake, seconds: float = 5) -> Gate:
    return Gate(cluster, NAMES, seconds=seconds, say=lambda _: None)


def test_a_follower_restarts_without_moving_the_leader() -> None:
    cluster = Fake()
    shut = gate(cluster)
    assert shut.before("etcd2")
    assert shut.after("etcd2")
    assert cluster.moves == []


def test_the_leader_hands_over_to_a_member_that_has_its_restart_behind_it() -> None:
    cluster = Fake(leads="etcd3")
    opened = gate(cluster)
    for name in ("etcd1", "etcd2"):
        assert opened.before(name)
        assert opened.after(name)
    assert opened.before("etcd3")
    assert cluster.moves == ["etcd2"]


def test_shut_while_another_member_is_ill() -> None:
    shut = gate(Fake(ill={"etcd3"}), seconds=0.5)
    assert not shut.before("etcd1")
    assert "etcd3: no leader" in shut.failures["etcd1"]


def test_its_own_illness_is_no_reason_not_to_restart_a_member() -> None:
    assert gate(Fake(ill={"etcd1"}, leads="etcd2")).before("etcd1")


def test_stays_shut_after_a_member_did_not_come_back() -> None:
    cluster = Fake()
    shut = gate(cluster, seconds=0.5)
    assert shut.before("etcd2")
    cluster.ill.add("etcd2")
    assert not shut.after("etcd2")
    cluster.ill.clear()
    assert not shut.before("etcd3")
    assert "etcd2" in shut.failures["etcd3"]
