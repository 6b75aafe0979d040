"""Words become nodes: names, roles, groups."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.faults.network.flows import HOST
from chaos.faults.targets import WORDS, resolve
from infra.settings import RESERVED
from machine.errors import InconclusiveError, UsageError

THREE = ("etcd1", "etcd2", "etcd3")


def test_names_and_groups_are_taken_as_written_without_asking_for_the_leader() -> None:
    def nobody() -> str:
        raise AssertionError("the leader was asked for")

    assert resolve(("etcd2", "etcd3,etcd1"), THREE, nobody) == (("etcd2",), ("etcd3", "etcd1"))
    assert resolve(("all",), THREE, nobody) == (THREE,)


def test_roles_follow_the_leader_of_the_moment() -> None:
    assert resolve(("leader",), THREE, lambda: "etcd3") == (("etcd3",),)
    assert resolve(("follower",), THREE, lambda: "etcd3") == (("etcd2",),)
    assert resolve(("follower",), THREE, lambda: "etcd1") == (("etcd3",),)


@given(st.integers(3, 9), st.data())
def test_minority_and_majority_share_out_the_nodes_with_the_leader_in_the_majority(
    count: int, data: st.DataObject
) -> None:
    nodes = tuple(f"n{i}" for i in range(count))
    leader = data.draw(st.sampled_from(nodes))
    minority, majority = resolve(("minority", "majority"), nodes, lambda: leader)
    assert sorted((*minority, *majority)) == sorted(nodes)
    assert leader in majority
    assert len(minority) < count / 2 < len(majority)
    assert len(minority) == (count - 1) // 2


def test_unknown_and_missing_words_are_refused_with_what_would_be_right() -> None:
    with pytest.raises(UsageError, match=r"'etcd9' is no target.*etcd1, etcd2, etcd3 or leader"):
        resolve(("etcd9",), THREE, lambda: "etcd1")
    with pytest.raises(UsageError, match="No target"):
        resolve((), THREE, lambda: "etcd1")
    with pytest.raises(UsageError, match="'' is no target"):
        resolve(("etcd1,",), THREE, lambda: "etcd1")


def test_a_lab_of_one_has_no_follower_and_no_minority() -> None:
    for word in ("follower", "minority"):
        with pytest.raises(UsageError, match=f"A lab of 1 has no {word}"):
            resolve((word,), ("etcd1",), lambda: "etcd1")


def test_without_a_leader_nothing_can_be_said() -> None:
    with pytest.raises(InconclusiveError):
        resolve(("leader",), THREE, lambda: None)


def test_no_node_may_be_called_as_a_target_word_or_as_this_host() -> None:
    assert {*WORDS, HOST} <= RESERVED


@pytest.mark.parametrize("word", ["Leader", "ALL", "ETCD1", "", ",", "minority,"])
def test_words_in_odd_case_or_half_empty_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="is no target"):
        resolve((word,), THREE, lambda: "etcd1")


def test_a_lab_of_two_has_no_minority_and_all_of_it_is_the_majority() -> None:
    with pytest.raises(UsageError, match="A lab of 2 has no minority"):
        resolve(("minority",), ("a", "b"), lambda: "a")
    assert resolve(("majority",), ("a", "b"), lambda: "a") == (("a", "b"),)
