"""Raft timing by measurement: how late this host wakes a process up, asked before anything is built.

What a member needs is that a heartbeat arrives in time; before there are machines, the one part of that which can be
asked is the host's scheduling delay (a busy or overcommitted host delays guests as it delays us). Emulation's own share
stands in the accelerator's defaults, which are the least that is chosen; links and disks are measured on the built lab
(chaos.measure.calibration), which says when the timeouts should be longer.
"""

from __future__ import annotations

import time
from typing import Final

from infra.manifest import Timeouts, load
from infra.settings import DEFAULT_TIMEOUTS, ELECTION_PER_HEARTBEAT, MAX_ELECTION_MS, Accelerator, LabSettings
from machine.errors import NotBuiltError
from machine.paths import StackPaths

SLEEP: Final = 0.005
SLEEPS: Final = 100
"""Half a second on an idle host; PROBE_SECONDS at most on any."""
PROBE_SECONDS: Final = 2.0
STEP_MS: Final = 50
"""Heartbeats are chosen in steps, so that two measurements of the same host agree."""


def timeouts_for(settings: LabSettings, accelerator: Accelerator, paths: StackPaths) -> Timeouts:
    """Timing of the lab: as configured, by accelerator, or measured where the config says `auto`.

    A lab that stands keeps what was measured for it: another choice at every `up` would restart its members.
    """
    if not settings.measures_timeouts:
        return settings.timeouts(accelerator)
    try:
        return load(paths).timeouts
    except NotBuiltError:
        return chosen(accelerator, wake_up_delay())


def chosen(accelerator: Accelerator, delay: float) -> Timeouts:
    """Timing for a host that wakes processes up to `delay` seconds late.

    The heartbeat is no shorter than the delay, and T ten of them, as the tuning guide asks (etcd.io/docs, tuning: T at
    least ten round trips); never below the accelerator's default, nor above what etcd takes.
    """
    least = DEFAULT_TIMEOUTS[accelerator]
    heartbeat = max(least.heartbeat_ms, -(-round(delay * 1000) // STEP_MS) * STEP_MS)
    heartbeat = min(heartbeat, MAX_ELECTION_MS // (2 * ELECTION_PER_HEARTBEAT))
    return Timeouts(heartbeat_ms=heartbeat, election_ms=10 * heartbeat)


def wake_up_delay() -> float:
    """Seconds by which short sleeps end late on this host: the worst but one, at most PROBE_SECONDS in all."""
    late = [0.0, 0.0]
    begun = time.monotonic()
    while len(late) < SLEEPS and time.monotonic() - begun < PROBE_SECONDS:
        at = time.monotonic()
        time.sleep(SLEEP)
        late.append(time.monotonic() - at - SLEEP)
    return max(0.0, sorted(late)[-2])
