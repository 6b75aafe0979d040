"""Reading WAL files: frames, torn tails, damage, what is in force, what is committed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.checker.errors import WalError
from chaos.checker.raftlog.committed import merge
from chaos.checker.raftlog.wal_reader import Entry, Log, crc32c, first_index, needed, read_log
from tests.chaos.wal.written import Item, entry, of, snapshot, state, written


def log(member: str, *items: Item, room: int = 4096) -> Log:
    return read_log(member, [("0.wal", written(items, room=room)[0])])


def held(one: Log) -> list[tuple[int, int]]:
    return [(found.index, found.term) for found in one.entries]


def test_the_checksum_is_the_one_that_etcd_uses() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, B.4 and the usual check value
    assert crc32c(b"6789", crc32c(b"12345")) == crc32c(b"123456789")


def test_entries_and_state_come_out_over_several_files() -> None:
    first, crc, _ = written([snapshot(0, 0), of(entry(1)), state(1, 1), of(entry(2, data=b"x" * 700))])
    second, _, _ = written([state(1, 2), of(entry(3, 2, b"y")), state(2, 3)], before=crc, room=64)
    one = read_log("a", [("0.wal", first), ("1.wal", second)])
    assert held(one) == [(1, 1), (2, 1), (3, 2)]
    assert (one.term, one.commit) == (2, 3)
    assert one.entries[1].data == b"x" * 700
    assert held(read_log("a", [("1.wal", second)])) == [(3, 2)]  # begun in the middle


@given(st.lists(st.tuples(st.integers(1, 12), st.binary(max_size=40)), min_size=1, max_size=15))
def test_a_later_entry_replaces_its_index_and_all_after(writes: list[tuple[int, bytes]]) -> None:
    items: list[Item] = []
    model: list[Entry] = []
    for term, (index, data) in enumerate(writes, 1):
        at = min(index, len(model) + 1)
        model = [*model[: at - 1], entry(at, term, data)]
        items.append(of(model[-1]))
    assert log("a", *items).entries == model


@given(st.lists(st.binary(max_size=900), min_size=1, max_size=6), st.integers(0), st.integers(0, 2000))
def test_a_file_cut_anywhere_gives_what_was_whole(values: list[bytes], where: int, room: int) -> None:
    entries = [entry(n, data=value + b"!") for n, value in enumerate(values, 1)]
    data, _, ends = written([of(one) for one in entries])
    cut = where % (len(data) + 1)
    found = read_log("a", [("0.wal", data[:cut] + bytes(room))])
    whole = sum(end <= cut for end in ends)
    # empty padding that was cut off changes nothing
    assert found.entries in (entries[:whole], entries[: whole + 1])


@given(st.integers(0), st.integers(1, 255))
def test_damage_before_the_end_is_named_with_file_and_offset(where: int, change: int) -> None:
    data, _, ends = written([of(entry(n, data=b"value %d" % n)) for n in range(1, 6)], room=512)
    spoiled = bytearray(data)
    at = ends[1] - 1 - where % 12  # within the data of the second entry, or its padding
    spoiled[at] ^= change
    padding = data[ends[0] + 7] & 7  # the highest byte of the length
    if at >= ends[1] - padding:
        assert len(read_log("a", [("7.wal", bytes(spoiled))]).entries) == 5  # nothing was said by padding
        return
    with pytest.raises(WalError, match=rf"7\.wal, offset {ends[0]}\)"):
        read_log("a", [("7.wal", bytes(spoiled))])


def test_damage_at_the_end_of_a_file_that_others_follow_is_not_a_torn_tail() -> None:
    first, crc, ends = written([of(entry(1, data=b"abc"))])
    second = written([of(entry(2))], before=crc)[0]
    with pytest.raises(WalError, match=r"0\.wal, offset"):
        read_log("a", [("0.wal", first[: ends[0] - 8]), ("1.wal", second)])
    with pytest.raises(WalError, match=r"1\.wal, offset 0.*|does not go on"):
        read_log("a", [("0.wal", first), ("1.wal", written([of(entry(2))], before=crc ^ 1)[0])])


def test_a_leaders_snapshot_replaces_what_does_not_fit_it_and_an_own_one_nothing() -> None:
    mine = [of(entry(n, 2)) for n in range(1, 6)]
    assert held(log("a", *mine, snapshot(3, 2))) == [(n, 2) for n in range(1, 6)]
    assert held(log("a", *mine, snapshot(3, 3), of(entry(4, 3)))) == [(4, 3)]
    assert held(log("a", *mine, snapshot(9, 3), of(entry(10, 3)))) == [(10, 3)]


def test_files_are_chosen_by_the_index_in_their_names() -> None:
    names = ["0000000000000001-000000000000000a.wal", "0000000000000000-0000000000000000.wal"]
    assert first_index(names[0]) == 10
    assert needed(names, 9) == sorted(names)
    assert needed(names, 10) == names[:1]
    assert needed(names[:1], 2) == names[:1]


def entries(*terms: int, first: int = 1) -> list[Item]:
    return [of(entry(first + n, term, b"%d" % term)) for n, term in enumerate(terms)]


def test_a_noted_commit_is_enough_and_holds_for_whoever_has_the_same_entry() -> None:
    logs = [log("a", *entries(1, 1, 1), state(1, 2)), log("b", *entries(1, 1, 2), state(2, 0))]
    assert [one.index for one in merge(logs, 3).entries] == [1, 2]
    assert merge(logs, 3).whole_from == 1


def test_a_majority_counts_only_for_the_highest_term() -> None:
    newest = [log("a", *entries(1, 3, 3), state(3, 0)), log("b", *entries(1, 3), state(3, 0)), log("c", *entries(1, 2))]
    assert [(one.index, one.term) for one in merge(newest, 3).entries] == [(1, 1), (2, 3)]
    # raft's figure 8: entry 2 of term 2 is on a majority, and yet the member of term 3 may still replace it
    older = [log("a", *entries(1, 2)), log("b", *entries(1, 2)), log("c", *entries(1, 3))]
    assert merge(older, 3).entries == ()
    assert merge(newest[:1], 3).entries == (), "one of three is no majority"


def test_logs_that_differ_in_what_is_committed_are_an_error() -> None:
    with pytest.raises(WalError, match="different entries as committed"):
        merge([log("a", *entries(1, 1), state(1, 2)), log("b", *entries(1, 2), state(2, 2))], 3)


def test_what_is_missing_in_between_is_not_whole() -> None:
    late = log("b", snapshot(7, 1), *entries(1, first=8), state(1, 8))
    found = merge([log("a", *entries(1, 1), state(1, 2)), late], 3)
    assert ([one.index for one in found.entries], found.whole_from) == ([1, 2, 8], 8)
