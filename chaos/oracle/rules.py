"""The table of rules: what is allowed, from H, T and the measured delays, each with its source.

Sources: E = etcd-io/etcd, R = its raft package (raft/raft.go up to 3.5, go.etcd.io/raft from 3.6). The formulas name
H, T, `delay` (chaos.oracle.delays.Machine.vote_delay), `rounds` (campaigns of one member, from its log) and what
the context gives (chaos.oracle.context). docs/oracle.md shows the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from chaos.oracle.context import Context
from chaos.oracle.timing import VERSIONS

EXPIRY_CHECK = 0.5
"""Seconds between two looks of the leader for leases that ran out (E lease/lessor.go, runLoop)."""

NO_LEADER_CHECKS = 3
"""Checks, one every T, without a leader after which an open require-leader stream ends (E v3rpc/interceptor.go)."""

INDEX_AGAIN = 0.5
"""Seconds after which a linearizable read asks for the index again (E v3_server.go, readIndexRetryTime)."""


Formula = Callable[[Context], float]


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise: the interval an observed figure must lie in."""

    name: str
    title: str
    formula: str
    low: Formula
    high: Formula
    source: str
    unit: Literal["s", "terms", "leases"] = "s"
    early: Literal["better", "outside"] = "better"
    """What less than the interval means."""
    excused: tuple[Literal["low", "high"], ...] = ("high",)
    """Which end a machine too slow for T may miss; what raft guarantees at any speed has none."""
    versions: tuple[tuple[int, int], tuple[int, int]] = VERSIONS
    """First and last minor version that it was checked for."""

    def holds_for(self, version: tuple[int, int]) -> bool:
        """Whether it was checked for this version; later ones are taken for like the last."""
        return version >= self.versions[0]


def _first_round(c: Context) -> float:
    return c.T - c.H


def _last_round(c: Context) -> float:
    return 2 * c.T + c.H + c.delay + 2 * c.T * (c.rounds - 1)


def _fewest_campaigns(c: Context) -> float:
    """Campaigns that a member cut off for `alone` seconds has made at least, without pre-vote."""
    late = 2 * c.T + c.H + c.delay  # until it campaigns for the first time; a leader first steps down
    left = c.alone - late * (2 if c.led else 1)
    return 0 if left < 0 else 1 + math.floor(left / (2 * c.T + c.H + c.delay))


def _most_campaigns(c: Context) -> float:
    left = c.alone - (c.T - c.H) * (2 if c.led else 1)
    return 0 if left < 0 else 1 + math.floor(left / (c.T - c.H))


_RULES: Final = (
    Rule(
        "election",
        "a majority that lost its leader has a new one",
        "[T - H + (rounds - 1) T, 2T + H + delay + (rounds - 1) 2T]",
        lambda c: _first_round(c) + c.T * (c.rounds - 1),
        _last_round,
        "R raft.go: electionTimeout + rand(electionTimeout) ticks since the last heartbeat, which was up to H earlier; "
        "a vote without winner is repeated after another [T, 2T)",
    ),
    Rule(
        "first-write",
        "the first write after the leader was lost",
        "[T - H, election + client's deadline + delay]",
        _first_round,
        lambda c: _last_round(c) + c.deadline + c.delay + c.machine.put,
        "as election; a write sent to the lost leader is not repeated by the server, so its client waits for its own "
        "limit first (E etcdserver/v3_server.go, processInternalRaftRequestOnce)",
    ),
    Rule(
        "step-down",
        "a leader without quorum steps down",
        "[T - H, 2T + H + delay]",
        _first_round,
        lambda c: 2 * c.T + c.H + c.delay,
        "R raft.go, tickHeartbeat and MsgCheckQuorum: a check every T whether a quorum was heard since the last; "
        "CheckQuorum is on in every version (E etcdserver/raft.go, bootstrap.go)",
    ),
    Rule(
        "leader-lost",
        "a follower that was cut off knows no leader",
        "[T - H, 2T + H + delay]",
        _first_round,
        lambda c: 2 * c.T + c.H + c.delay,
        "R raft.go, tickElection; becomePreCandidate and becomeCandidate forget the leader",
    ),
    Rule(
        "rejoin",
        "all members are healthy again after a cut between them was healed",
        "[0, C + 2T + H + 0.5 s + delay + (rounds - 1) 2T], C = cut + RTO, 1 s + T at least, 120 s at most "
        "(3.4: 6 s + T at most)",
        lambda _: 0.0,
        lambda c: c.connected + INDEX_AGAIN + _last_round(c),
        "members keep their TCP connections through a cut, and each goes on when its kernel sends again: the pause "
        "doubles each time (RFC 6298, 5.5), so after a cut it is no longer than the cut and one RTO. From 3.5 nothing "
        "ends a stream sooner: its read timeout is given to Transport.Dial, and net/http takes DialContext "
        "(E client/pkg/transport/timeout_transport.go, transport.go); in 3.4 it ends after 5 s (E rafthttp/peer.go, "
        "ConnReadTimeout). A dial is given up after 1 s + T (E config.go, PeerDialTimeout). Then an election at worst "
        "(as election), and a read that asks again after 0.5 s (E v3_server.go, readIndexRetryTime)",
    ),
    Rule(
        "handover",
        "a leader that is stopped hands over before it ends",
        "[0, T + delay]",
        lambda _: 0.0,
        lambda c: c.T + c.delay,
        "E etcdserver/server.go, Stop: transfers the leadership first; R raft.go gives a transfer up after T",
    ),
    Rule(
        "cold-start",
        "members that started together have a leader",
        "[0, 2T + H + delay + (rounds - 1) 2T]",
        lambda _: 0.0,
        _last_round,
        "R raft.go; E etcdserver/server.go, adjustTicks: a start may skip up to T - 2H, so there is no lower end",
    ),
    Rule(
        "request-limit",
        "the server gives a request up that it cannot serve",
        "[5 s + 2T, 5 s + 2T + delay]",
        lambda c: c.timing.request_limit,
        lambda c: c.timing.request_limit + c.delay,
        "E server/config/config.go, ReqTimeout (before 3.5: etcdserver/config.go)",
    ),
    Rule(
        "client-deadline",
        "a client gives a request up",
        "[deadline, deadline + delay]",
        lambda c: min(c.deadline, c.timing.request_limit),
        lambda c: c.deadline + c.delay,
        "the client's own limit; etcdctl: 5 s (E etcdctl/ctlv3/ctl.go), shorter than the server's",
    ),
    Rule(
        "stream-cancelled",
        "an open require-leader stream ends after the leader was lost",
        "[3T - H, 5T + H + delay]",
        lambda c: c.T - c.H + (NO_LEADER_CHECKS - 1) * c.T,
        lambda c: 2 * c.T + c.H + NO_LEADER_CHECKS * c.T + c.delay,
        "E etcdserver/api/v3rpc/interceptor.go, monitorLeader: maxNoLeaderCnt = 3 checks, one every T",
    ),
    Rule(
        "term-alone",
        "growth of a cut-off member's term, with pre-vote",
        "0",
        lambda _: 0,
        lambda _: 0,
        "R raft.go, campaign: asking for a pre-vote leaves the term alone; on by default from 3.5 (E embed/config.go)",
        unit="terms",
        early="outside",
        excused=(),
    ),
    Rule(
        "term-alone-without-pre-vote",
        "growth of a cut-off member's term, without pre-vote",
        "first campaign after [T - H, 2T + H + delay], a leader's after twice that; then one every [T, 2T)",
        _fewest_campaigns,
        _most_campaigns,
        "R raft.go, becomeCandidate: every campaign is a new term; pre-vote is off by default in 3.4 "
        "(E embed/config.go); E#9333, E#14893",
        unit="terms",
        early="outside",
        excused=("low",),
    ),
    Rule(
        "term-cluster",
        "growth of the majority's term while a member is cut off",
        "the cut member led: 1 or more; else 0",
        lambda c: 1 if c.led else 0,
        lambda c: math.inf if c.led else 0,
        "R raft.go: a term begins with a campaign only; losing a follower starts none",
        unit="terms",
        early="outside",
    ),
    Rule(
        "term-after-heal",
        "growth of the cluster's term when a cut-off follower returns",
        "pre-vote: 0; else 1 or more",
        lambda c: 0 if c.timing.pre_vote else 1,
        lambda c: 0 if c.timing.pre_vote else math.inf,
        "R raft.go, Step: a message of a higher term makes the leader step down; E#9333, E#8499",
        unit="terms",
        early="outside",
    ),
    Rule(
        "term-return",
        "growth of the cluster's term when a member that was without power returns",
        "0",
        lambda _: 0,
        lambda _: 0,
        "R raft.go: a restarted follower hears the leader before its timer ends; E etcdserver/server.go, adjustTicks",
        unit="terms",
        early="outside",
    ),
    Rule(
        "lease-granted",
        "TTL that the server grants",
        "max(asked, ceil(3/2 T))",
        lambda c: c.granted,
        lambda c: c.granted,
        "E lease/lessor.go, Grant; E etcdserver/server.go, minTTL",
        early="outside",
        excused=(),
    ),
    Rule(
        "lease-life",
        "life of a lease from its last renewal, under one leader",
        "[TTL, TTL + 0.5 s + delay]",
        lambda c: c.granted,
        lambda c: c.granted + EXPIRY_CHECK + c.delay,
        "E lease/lessor.go, refresh and runLoop",
        early="outside",
    ),
    Rule(
        "lease-life-new-leader",
        "life of a lease from the election of a new leader",
        "[TTL + T, TTL + T + 0.5 s + delay]",
        lambda c: c.granted + c.T,
        lambda c: c.granted + c.T + EXPIRY_CHECK + c.delay,
        "E lease/lessor.go, Promote, called with T by etcdserver/raft.go; checkpoints of the rest are off by default; "
        "E#9395, E#13294",
        early="outside",
    ),
    Rule(
        "lease-no-quorum",
        "leases that expire without quorum",
        "0",
        lambda _: 0.0,
        lambda _: 0.0,
        "E etcdserver/server.go, revokeExpiredLeases: revoking is a proposal; E lease/lessor.go, Demote",
        unit="leases",
        early="outside",
        excused=(),
    ),
)

RULES: Final = {rule.name: rule for rule in _RULES}
"""Every rule by name."""


def rule(name: str) -> Rule:
    """The rule of this name; raises ValueError, naming those there are, if there is none."""
    if name not in RULES:
        raise ValueError(f"no rule {name!r}; there are {', '.join(RULES)}")
    return RULES[name]
