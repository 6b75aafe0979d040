"""What etcd promises, by version and settings (sources: etcd's own, quoted per function)."""

from __future__ import annotations

from infra.manifest import Manifest

REQUEST_SECONDS = 5.0
"""Constant part of the server's request limit (E server/config/config.go, ReqTimeout)."""


def minor(version: str) -> tuple[int, int]:
    """Major and minor of an etcd version.

    >>> minor("3.6.16")
    (3, 6)
    """
    major, minor_part, *_ = version.lstrip("v").split(".")
    return int(major), int(minor_part)


def pre_vote(manifest: Manifest) -> bool:
    """Whether a cut-off member keeps its term still: on by default from 3.5 (E embed/config.go)."""
    return bool(manifest.etcd_extra.get("pre-vote", minor(manifest.etcd_version) >= (3, 5)))


def election_bound(manifest: Manifest) -> float:
    """Seconds within which a majority has elected a leader after it lost one, when no vote is split.

    Followers wait T to 2T (E raft.go, randomized election timeout); one more T for the vote itself.
    """
    return 3 * manifest.timeouts.election_ms / 1000


def request_bound(manifest: Manifest) -> float:
    """Seconds after which the server itself gives a request up: 5 s + 2T (E server/config/config.go)."""
    return REQUEST_SECONDS + 2 * manifest.timeouts.election_ms / 1000


def step_down_bound(manifest: Manifest) -> float:
    """Seconds within which a member that was cut off knows no leader any more.

    A follower waits at most 2T; a leader steps down at its second quorum check, T to 2T (E raft.go, CheckQuorum).
    """
    return 2 * manifest.timeouts.election_ms / 1000
