"""Bipartite matching by augmenting paths (Kuhn 1955 as commonly written), with a cap on the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

WORK = 5_000_000
"""Edges looked at before giving up: a few seconds."""


class TooMuch(Exception):  # noqa: N818 - a limit, not an error
    """The cap on the work was reached."""


def match(places: Sequence[int], able: Callable[[int], Iterable[int]]) -> tuple[dict[int, int], int | None]:
    """Give each place one of those `able` to fill it, none twice: (place -> filler, first place left without).

    Fillers are tried in the order that `able` gives them. Raises TooMuch.
    """
    owner: dict[int, int] = {}
    work = 0
    for place in places:
        # breadth first over alternating paths; `via` remembers from which place a filler was reached
        via: dict[int, int] = {}
        queue, found = [place], None
        while queue and found is None:
            here = queue.pop()
            for filler in able(here):
                work += 1
                if filler in via:
                    continue
                via[filler] = here
                if filler not in owner:
                    found = filler
                    break
                queue.append(owner[filler])
            if work > WORK:
                raise TooMuch
        if found is None:
            return {place: filler for filler, place in owner.items()}, place
        held = {other: filler for filler, other in owner.items()} if via[found] != place else {}
        while True:
            here = via[found]
            before = held.get(here)
            owner[found] = here
            if here == place or before is None:
                break
            found = before
    return {place: filler for filler, place in owner.items()}, None
