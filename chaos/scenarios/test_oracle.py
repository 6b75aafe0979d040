"""What the oracle says against what clients and etcd's own log say of the same outage (O1, O2)."""

from __future__ import annotations

import time

import pytest

from chaos.harness.declare import scenario
from chaos.harness.judging import unseen
from chaos.harness.scenario_run import ScenarioRun
from chaos.measure.figures import LeaderChange, leader_change
from chaos.oracle.timing import Timing
from chaos.workload.availability import Availability, measure, slow_limit
from chaos.workload.client import WRITER_DEADLINE, WRITER_PERIOD, Writer
from machine.errors import InconclusiveError
from machine.waiting import Pending, wait_until

CALM_PUTS = 10
"""Puts before the fault that tell how fast this machine is."""

RECOVERY_SECONDS = 60.0

CLOCK = 0.05
"""Seconds by which a guest's clock may be placed wrongly on ours (chaos.measure.clocks, Reading.within)."""

REPEATS = 3

pytestmark = pytest.mark.oracle


@scenario("O1", "unavailability by clients and by etcd's own log agree")
def test_clients_and_log_agree_on_the_outage(scenario: ScenarioRun) -> None:
    """Power off the leader: the gap of a writer on a follower lies around lost-to-elected in the followers' logs."""
    first, second, *_ = scenario.need_nodes(3)
    lose_leader(scenario, first, second)


@scenario("O2", "leader power-off, three times: the spread is T's randomness", "slow")
def test_recovery_times_spread_as_far_as_the_election_timeout_does(scenario: ScenarioRun) -> None:
    """Followers draw from [T, 2T) anew each time, so repeated recoveries may differ by T and what a vote costs."""
    first, second, *_ = scenario.need_nodes(3)
    timing = Timing.of(scenario.lab.manifest)
    found = [lose_leader(scenario, first, second) for _ in range(REPEATS)]
    spread = max(found) - min(found)
    allowed = timing.election + 2 * timing.heartbeat + scenario.machine.vote_delay
    scenario.metric(
        "repeated_elections",
        {"seconds": [round(one, 3) for one in found], "spread": round(spread, 3), "allowed_spread": round(allowed, 3)},
    )
    with scenario.step(
        "the spread", f"at most T + 2H + delay = {allowed:.2f} s, as followers draw from [T, 2T)"
    ) as step:
        told = f"{', '.join(f'{one:.2f} s' for one in found)}: spread {spread:.2f} s"
        step.observed(told)
        if spread > allowed:
            # every single one was inside its own interval, or the scenario would have ended there
            raise InconclusiveError(f"{told}: a further round or a slow machine, see the judgements")


def lose_leader(play: ScenarioRun, leader: str, other: str) -> float:
    """Power off the leader under a writer on another member; hold all that was seen together; power on again.

    Gives the seconds from the loss of power to the new leader, by etcd's log.
    """
    play.lead_from(leader)
    with play.writer(other) as writer:
        with play.precondition("background writer in calm", f"{CALM_PUTS} puts acknowledged") as step:
            acknowledged(writer, CALM_PUTS, 30, since_ns=time.monotonic_ns())
            step.observed(measure(writer.ops))
        calm = slow_limit(writer.ops)
        begun_ns = time.monotonic_ns()
        off = play.inject("power-off", leader)
        with play.step(f"writes through {other} go on", "after an election") as step:
            acknowledged(writer, CALM_PUTS, RECOVERY_SECONDS, since_ns=begun_ns)
            found = measure(writer.ops, calm)
            step.observed(found)
        ended_ns = time.monotonic_ns()
    off_ns, unsure = play.taken_hold()
    assert play.measures is not None
    change = leader_change(play.measures.collect(), begun_ns, ended_ns)
    with play.precondition("etcd's log", "tells of a leader lost and another elected") as step:
        if change is None or change.elected_ns is None:
            raise InconclusiveError(f"the logs of the followers show {change}{unseen(play)}")
        step.observed(
            f"lost {_after(off_ns, change.lost_ns):.2f} s and elected {_after(off_ns, change.elected_ns):.2f} s after "
            f"the power went (known to {unsure:.2f} s), term {change.term}, {change.rounds} round(s)"
        )
    elected = _after(off_ns, change.elected_ns)
    agree(play, found, change, begun_ns)
    window = (begun_ns, ended_ns)
    play.compare("election", elected, window=window, resolution=unsure + CLOCK)
    gap_end = next(gap.end_ns for gap in found.gaps if gap.end_ns >= change.elected_ns)
    play.compare(
        "first-write",
        _after(off_ns, gap_end),
        window=window,
        deadline=WRITER_DEADLINE,
        resolution=unsure + WRITER_PERIOD,
    )
    play.heal(off)
    play.lab.cluster.wait_healthy(180)
    return elected


def agree(play: ScenarioRun, found: Availability, change: LeaderChange, begun_ns: int) -> None:
    """The writer's gap begins before the log's loss and ends after its election, by no more than its resolution."""
    assert change.elected_ns is not None
    # a put that was under way when the leader came waits for its own limit, is followed by the next after the period,
    # and that one takes as long as a slow put may
    late = WRITER_DEADLINE + WRITER_PERIOD + found.slow_seconds + play.machine.vote_delay
    with play.step(
        "the two sources", f"one gap around it all; it ends at most {late:.2f} s after the election in the log"
    ) as step:
        gaps = [gap for gap in found.gaps if gap.end_ns >= begun_ns]
        told = ", ".join(
            f"{_after(begun_ns, gap.begin_ns):.2f} to {_after(begun_ns, gap.end_ns):.2f} s" for gap in gaps
        )
        lost, elected = _after(begun_ns, change.lost_ns), _after(begun_ns, change.elected_ns)
        step.observed(f"clients without writes from {told}; log: lost {lost:.2f} s, elected {elected:.2f} s")
        around = [gap for gap in gaps if gap.begin_ns <= change.lost_ns and gap.end_ns >= change.elected_ns]
        assert around, f"no gap of the clients lies around the election: {told}"
        over = _after(change.elected_ns, around[0].end_ns)
        play.metric("gap_end_after_election_seconds", round(over, 3))
        if over > late and (slow := play.machine.too_slow_for(Timing.of(play.lab.manifest))):
            raise InconclusiveError(f"{over:.2f} s after the election, on a slow machine: {'; '.join(slow)}")
        assert over <= late


def acknowledged(writer: Writer, count: int, seconds: float, *, since_ns: int) -> None:
    """Wait until `count` puts that were asked for after `since_ns` have been acknowledged."""

    def probe() -> None:
        if writer.problem is not None:
            raise writer.problem
        done = sum(op.ok and op.invoke_ns >= since_ns for op in writer.ops)
        if done < count:
            raise Pending(f"{done} acknowledged")

    wait_until(probe, f"{count} acknowledged puts to {writer.node}", seconds=seconds, every=0.1)


def _after(begin_ns: int, end_ns: int) -> float:
    return (end_ns - begin_ns) / 1e9
