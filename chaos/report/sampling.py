"""Leaving out what the eye cannot see: of the points that fall on one pixel column, the lowest and the highest stay.

Every point kept is one that was measured, and no extreme is lost: of each bucket the least and the greatest value
are there (the idea of M4: Jugel et al., VLDB 2014, without its first and last point, which lines would need).
"""

from __future__ import annotations

from collections.abc import Sequence


def thin(times: Sequence[int], values: Sequence[float], buckets: int) -> list[tuple[int, int]]:
    """(index, stands for) of the points to draw, by time.

    `buckets` equal parts of the time from the first to the last point keep at most two points each, and each of them
    stands for all points of its bucket; where there are no more points than that, all are kept and stand for
    themselves. Raises ValueError unless `buckets` is positive.
    """
    if buckets < 1:
        raise ValueError(f"{buckets} buckets")
    if len(times) <= 2 * buckets:
        return [(index, 1) for index in sorted(range(len(times)), key=times.__getitem__)]
    first = min(times)
    length = max(times) - first + 1
    found: dict[int, list[int]] = {}
    """Per bucket: index of the lowest, of the highest, number of points."""
    for index, (time, value) in enumerate(zip(times, values, strict=True)):
        place = (time - first) * buckets // length
        bucket = found.get(place)
        if bucket is None:
            found[place] = [index, index, 1]
            continue
        if value < values[bucket[0]]:
            bucket[0] = index
        if value > values[bucket[1]]:
            bucket[1] = index
        bucket[2] += 1
    kept = [(index, count) for low, high, count in found.values() for index in {low, high}]
    return sorted(kept, key=lambda one: times[one[0]])
