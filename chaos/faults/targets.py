"""Whom a fault hits: words to node names."""

from __future__ import annotations

from collections.abc import Callable

from machine.errors import InconclusiveError, UsageError

Groups = tuple[tuple[str, ...], ...]
"""Node names, by group."""

WORDS = ("leader", "follower", "minority", "majority", "all")


def named(groups: Groups) -> tuple[str, ...]:
    """Every node in some groups, once each, in their order."""
    return tuple(dict.fromkeys(name for group in groups for name in group))


def resolve(words: tuple[str, ...], nodes: tuple[str, ...], leader: Callable[[], str | None]) -> Groups:
    """Each word is one group: node names or target words, separated by commas.

    `leader` is asked at most once, and only when a word needs it. `follower` is the last node in order that does
    not lead, `minority` as many of those as the cluster may lose, `majority` all but that minority.

    Raises UsageError for no word, an unknown word or an empty group; InconclusiveError when there is no leader now.

    >>> resolve(("leader", "etcd2,etcd3"), ("etcd1", "etcd2", "etcd3"), lambda: "etcd1")
    (('etcd1',), ('etcd2', 'etcd3'))
    """
    if not words:
        raise UsageError("No target", where="--target", next=f"Name a node ({', '.join(nodes)}) or {', '.join(WORDS)}.")
    known: list[str] = []

    def led_by() -> str:
        if not known:
            found = leader()
            if found is None:
                raise InconclusiveError("The cluster has no leader to aim at", next="Look at ./lab status.")
            known.append(found)
        return known[0]

    return tuple(_group(word, nodes, led_by) for word in words)


def _group(word: str, nodes: tuple[str, ...], leader: Callable[[], str]) -> tuple[str, ...]:
    chosen: list[str] = []
    for part in word.split(","):
        chosen += _part(part.strip(), word, nodes, leader)
    return tuple(dict.fromkeys(chosen))


def _part(part: str, word: str, nodes: tuple[str, ...], leader: Callable[[], str]) -> list[str]:
    if part in nodes:
        return [part]
    if part == "all":
        return list(nodes)
    if part == "leader":
        return [leader()]
    if part not in WORDS:
        raise UsageError(
            f"{part!r} is no target", where=f"--target {word}", next=f"Use {', '.join(nodes)} or {', '.join(WORDS)}."
        )
    followers = [name for name in nodes if name != leader()]
    lose = (len(nodes) - 1) // 2
    minority = followers[len(followers) - lose :]
    if part == "majority":
        return [name for name in nodes if name not in minority]
    chosen = minority if part == "minority" else followers[-1:]
    if not chosen:
        raise UsageError(
            f"A lab of {len(nodes)} has no {part}", where=f"--target {word}", next="Build one with three nodes."
        )
    return chosen
