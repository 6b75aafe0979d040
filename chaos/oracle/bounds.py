"""Upper bounds of a lab, in seconds, for waits and for steps that need no interval."""

from __future__ import annotations

from chaos.oracle.timing import Timing
from infra.manifest import Manifest


def election_bound(manifest: Manifest) -> float:
    """Seconds within which a majority has elected a leader after it lost one, when no vote is split.

    Followers wait T to 2T (E raft.go, randomized election timeout); one more T for the vote itself.
    """
    return 3 * Timing.of(manifest).election


def request_bound(manifest: Manifest) -> float:
    """Seconds after which the server itself gives a request up: 5 s + 2T (E server/config/config.go)."""
    return Timing.of(manifest).request_limit


def step_down_bound(manifest: Manifest) -> float:
    """Seconds within which a member that was cut off knows no leader any more.

    A follower waits at most 2T; a leader steps down at its second quorum check, T to 2T (E raft.go, CheckQuorum).
    """
    return 2 * Timing.of(manifest).election
