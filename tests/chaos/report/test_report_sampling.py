"""Down-sampling: extremes stay, points are real, and the number of them is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.report.sampling import thin

POINTS = st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**9)), min_size=1, max_size=400)


@given(POINTS, st.integers(1, 40))
def test_every_buckets_least_and_greatest_stay_and_nothing_is_made_up(
    points: list[tuple[int, int]], buckets: int
) -> None:
    times, values = [at for at, _ in points], [value for _, value in points]
    kept = [index for index, _ in thin(times, values, buckets)]
    assert len(set(kept)) == len(kept)
    assert [times[index] for index in kept] == sorted(times[index] for index in kept)
    if len(points) <= 2 * buckets:
        assert sorted(kept) == list(range(len(points)))
        return
    assert len(kept) <= 2 * buckets
    begin, length = min(times), max(times) - min(times) + 1
    for bucket in range(buckets):
        inside = [index for index, at in enumerate(times) if (at - begin) * buckets // length == bucket]
        drawn = [values[index] for index in kept if index in set(inside)]
        if inside:
            assert min(drawn) == min(values[index] for index in inside)
            assert max(drawn) == max(values[index] for index in inside)
        else:
            assert drawn == []


@given(POINTS, st.integers(1, 40))
def test_a_point_says_how_many_it_stands_for(points: list[tuple[int, int]], buckets: int) -> None:
    times, values = [at for at, _ in points], [value for _, value in points]
    begin, length = min(times), max(times) - min(times) + 1
    places = [(at - begin) * buckets // length for at in times]
    for index, stands in thin(times, values, buckets):
        assert stands == (1 if len(points) <= 2 * buckets else places.count(places[index]))


def test_no_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="0 buckets"):
        thin([1], [1], 0)
