"""What was measured of the machine, and whether T is long enough for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from chaos.oracle.timing import Timing

ROOM: Final = 10
"""T shall be ten times any one delay: the tuning guide asks it of the round trip (etcd.io/docs, tuning, "Time
parameters"). A late process or a slow flush holds a heartbeat up just as a slow link does, so the same room is asked
of them."""

DELAYS: Final[Mapping[str, str]] = {
    "round_trip": "round trip between members",
    "fsync": "flush of the log to disk (fsync)",
    "scheduling": "scheduling delay in the guest",
    "late_heartbeat": "a heartbeat that a leader sent late, by its own log,",
    "stuck": "a probe given up after 6 s, a delay",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """Delays in seconds, each the worst (or 99th percentile) of what was measured; 0 where nothing was."""

    round_trip: float = 0.0
    fsync: float = 0.0
    scheduling: float = 0.0
    late_heartbeat: float = 0.0
    """By how much a leader was late with a heartbeat, by its own log (E etcdserver/raft.go, processMessages)."""
    stuck: float = 0.0
    """Seconds after which a probe that should take two was given up."""
    put: float = 0.0
    """Median of an idle put."""
    get: float = 0.0

    @property
    def vote_delay(self) -> float:
        """What a vote costs beside the timers: one round trip, two flushes (candidate, voter), two late wake-ups."""
        return self.round_trip + 2 * self.fsync + 2 * self.scheduling

    def beside(self, other: Machine) -> Machine:
        """The worse of both, figure by figure."""
        return Machine(**{one.name: max(getattr(self, one.name), getattr(other, one.name)) for one in fields(self)})

    def too_slow_for(self, timing: Timing) -> list[str]:
        """The measurements that T does not hold, each as text; [] when there is room enough."""
        seen = asdict(self)
        return [
            f"{words} of {seen[name] * 1000:.0f} ms is more than T/{ROOM} = {timing.election / ROOM * 1000:.0f} ms"
            for name, words in DELAYS.items()
            if seen[name] * ROOM > timing.election
        ]

    def advice(self, timing: Timing) -> str:
        """What to set when T is too short for this machine; "" when it is not."""
        slow = self.too_slow_for(timing)
        if not slow:
            return ""
        if self.stuck:
            return f"{'; '.join(slow)}: the machine is overloaded, let it do less before judging anything."
        heartbeat, election = self.timeouts_ms()
        return f"{'; '.join(slow)}: set heartbeat-ms to {heartbeat} and election-ms to {election} or more."

    def timeouts_ms(self) -> tuple[int, int]:
        """Heartbeat and election timeout, in milliseconds, that this machine holds.

        Heartbeat: the worst delay, in steps of 50 ms, at least etcd's own 100 ms; election: ten heartbeats, etcd's own
        proportion; etcd's upper limit of 50 s is kept (E embed/config.go).
        """
        worst = max(self.round_trip, self.fsync, self.scheduling, self.late_heartbeat)
        heartbeat = min(5000, max(100, 50 * math.ceil(worst * 20)))
        return heartbeat, 10 * heartbeat

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Machine:
        """The fields that are there, as numbers."""
        return cls(**{one.name: float(data[one.name]) for one in fields(cls) if one.name in data})
