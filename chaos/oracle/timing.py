"""H, T and what follows from them, as etcd computes them from its two settings.

Sources: E = etcd-io/etcd; `ElectionTicks`, `ReqTimeout` and `ElectionTimeout` in server/config/config.go (before 3.5:
etcdserver/config.go), the same arithmetic in all of 3.4 to 3.7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from infra.manifest import Manifest

REQUEST_SECONDS = 5.0
"""Constant part of the server's request limit (E server/config/config.go, ReqTimeout)."""

VERSIONS = ((3, 4), (3, 7))
"""First and last minor version that the rules were checked against."""


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


@dataclass(frozen=True, slots=True)
class Timing:
    """One cluster's raft timing, in seconds."""

    heartbeat: float
    """H: the leader's heartbeat, and the length of one raft tick."""
    election: float
    """T: as etcd uses it, a whole number of ticks."""
    pre_vote: bool
    version: tuple[int, int]

    @classmethod
    def of(cls, manifest: Manifest) -> Timing:
        """Timing of a lab's members."""
        return cls.from_ms(
            manifest.timeouts.heartbeat_ms,
            manifest.timeouts.election_ms,
            pre_vote=pre_vote(manifest),
            version=minor(manifest.etcd_version),
        )

    @classmethod
    def from_ms(cls, heartbeat_ms: int, election_ms: int, *, pre_vote: bool, version: tuple[int, int]) -> Timing:
        """From the two settings: etcd counts T in whole ticks and drops the rest (E embed/config.go, ElectionTicks).

        >>> Timing.from_ms(101, 521, pre_vote=True, version=(3, 6)).election
        0.505
        """
        ticks = election_ms // heartbeat_ms
        return cls(heartbeat_ms / 1000, ticks * heartbeat_ms / 1000, pre_vote, version)

    @property
    def ticks(self) -> int:
        """T in ticks."""
        return round(self.election / self.heartbeat)

    @property
    def request_limit(self) -> float:
        """Seconds after which the server gives a request up: 5 s + 2T (E server/config/config.go, ReqTimeout)."""
        return REQUEST_SECONDS + 2 * self.election

    @property
    def least_ttl(self) -> int:
        """The shortest lease, in seconds: 3/2 T in whole ticks, rounded up to seconds (E etcdserver/server.go, minTTL).

        >>> Timing.from_ms(100, 1000, pre_vote=True, version=(3, 6)).least_ttl
        2
        """
        return math.ceil(round(3 * self.ticks // 2 * self.heartbeat, 9))
