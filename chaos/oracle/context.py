"""The case at hand, as the rules ask about it: the timing, the machine, and what was done to whom.

Sources are named as in chaos.oracle.rules: E = etcd-io/etcd.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chaos.oracle.delays import Machine
from chaos.oracle.timing import Timing

RTO_LEAST = 0.2
"""Least pause before TCP sends again, in seconds (Linux include/net/tcp.h, TCP_RTO_MIN)."""

RTO_MOST = 120.0
"""The pause doubles up to this (the same, TCP_RTO_MAX; RFC 6298, section 5.5)."""

STREAM_SILENCE = 5.0
"""Seconds without a message after which a stream is given up, in 3.4 (E rafthttp/peer.go, ConnReadTimeout)."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may ask about the case at hand; times in seconds."""

    timing: Timing
    machine: Machine = field(default_factory=Machine)
    rounds: int = 1
    """Campaigns of the member that needed most, as the logs show them; 1: the first one won."""
    alone: float = 0.0
    """How long a member was cut off."""
    led: bool = False
    """Whether the cut member was the leader."""
    ttl: int = 0
    """TTL that a client asked for."""
    deadline: float = 5.0
    """The client's own limit: etcdctl's command timeout (E etcdctl/ctlv3/ctl.go)."""
    resolution: float = 0.0
    """How coarsely the observed figure was measured; both ends are widened by it."""

    @property
    def T(self) -> float:  # noqa: N802 - the name that etcd's documents and our formulas use
        """Election timeout."""
        return self.timing.election

    @property
    def H(self) -> float:  # noqa: N802 - as T
        """Heartbeat."""
        return self.timing.heartbeat

    @property
    def delay(self) -> float:
        """What a vote costs beside the timers."""
        return self.machine.vote_delay

    @property
    def connected(self) -> float:
        """Seconds from the end of a cut of `alone` until what was open between two members goes on, at most."""
        trip = self.machine.round_trip
        first = trip + max(RTO_LEAST, 4 * trip)  # RFC 6298, section 2.2: the variation is no more than the trip
        again, dial = min(self.alone + first, RTO_MOST), 1 + self.T
        if self.timing.version < (3, 5):
            again = min(again, STREAM_SILENCE + dial)
        return max(again, dial)

    @property
    def granted(self) -> int:
        """TTL that the server grants."""
        return max(self.ttl, self.timing.least_ttl)
