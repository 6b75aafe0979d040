"""Two experiments with a written finding: terms through a partition (O3, O4), restarts by how peers are named (O5-O7).

And what the rules say of a leader cut off and of a write without quorum (O4, O8).

They adapt to the lab: its version, its pre-vote setting, its `peers`. bench/variants.py plays them on labs of several
kinds, one after the other.
"""

from __future__ import annotations

import time

import pytest

from chaos.harness.context import since
from chaos.harness.declare import scenario
from chaos.harness.judging import first_event, own_term, unseen
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.steps.leader_steps import CLOCK, SLOW_MACHINE
from chaos.measure.figures import leader_change
from chaos.oracle.timing import Timing
from machine.errors import DeadlineError
from machine.waiting import Pending, wait_until

ALONE = 6
"""Election timeouts that a member stays alone: without pre-vote it campaigns three times at least."""

BACK_SECONDS = 180.0

pytestmark = pytest.mark.oracle


@scenario("O3", "term growth: a follower cut off", "slow")
def test_term_of_a_cut_off_follower(scenario: ScenarioRun) -> None:
    """Its term still with pre-vote, growing without; the others' still, until a grown one comes back."""
    first, second, *_ = scenario.need_nodes(3)
    scenario.lead_from(first)
    grow(scenario, second, led=False)


@scenario("O4", "term growth: the leader cut off", "slow")
def test_term_when_the_leader_is_cut_off(scenario: ScenarioRun) -> None:
    """The majority elects in a new term; the old leader steps down, and grows its own term only without pre-vote."""
    first, *_ = scenario.need_nodes(3)
    scenario.lead_from(first)
    grow(scenario, first, led=True)


def grow(play: ScenarioRun, member: str, *, led: bool) -> None:
    """Cut a member off for ALONE election timeouts; hold every term that was sampled against the rules."""
    timing = Timing.of(play.lab.manifest)
    before = play.lab.terms()
    others = [name for name in before if name != member]
    fault = play.inject("partition", member)
    cut_ns, unsure = play.taken_hold()
    need = ALONE * timing.election

    def alone() -> dict[str, int]:
        if since(cut_ns) < need:
            raise Pending(f"{since(cut_ns):.1f} s of {need:g} s")
        found = play.lab.terms()
        if missing := sorted(set(before) - set(found)):
            raise Pending(f"no status from {', '.join(missing)}")
        return found

    with play.step(f"{member} alone", f"for {ALONE}T = {need:g} s") as step:
        with play.patience():
            during = wait_until(alone, f"{member} alone for {need:g} s", seconds=need + SLOW_MACHINE)
        during_ns = time.monotonic_ns()
        told = during[member]
        during[member] = own_term(play, member, cut_ns - round(unsure * 1e9), during_ns, told)
        step.observed(f"terms {before} became {during}, by campaigns in its log; its status says {told}")
    healed = play.heal(fault)
    with play.step("together again", "all healthy, in one term") as step:
        play.lab.cluster.wait_healthy(BACK_SECONDS)
        after = play.lab.terms()
        step.observed(f"terms {after}, {since(healed.started_ns):.1f} s after healing began")
    own, cluster = during[member] - before[member], max(during[name] - before[name] for name in others)
    back = max(after.values()) - max(during[name] for name in others)
    words = "with" if timing.pre_vote else "without"
    version = play.lab.manifest.etcd_version
    play.metric("terms", {"before": before, "during": during, "after": after})
    play.metric(
        "finding",
        f"etcd {version} {words} pre-vote, T = {timing.election:g} s: cut off for {(during_ns - cut_ns) / 1e9:.1f} s, "
        f"{'the leader' if led else 'a follower'} raised its own term by {own}, the majority meanwhile by {cluster}; "
        f"its return raised the cluster's by {back}.",
    )
    window, spent = (cut_ns, during_ns), (during_ns - cut_ns) / 1e9
    alone_rule = "term-alone" if timing.pre_vote else "term-alone-without-pre-vote"
    play.compare(alone_rule, own, window=window, alone=spent, led=led)
    play.compare("term-cluster", cluster, window=window, led=led)
    if led:
        succession(play, member, window)
    else:
        play.compare("term-after-heal", back, window=(cut_ns, time.monotonic_ns()))


def succession(play: ScenarioRun, leader: str, window: tuple[int, int]) -> None:
    """When the cut-off leader stepped down, and when the majority had another, by their logs."""
    cut_ns, unsure = play.taken_hold()
    down = first_event(play, "leader-lost", cut_ns, node=leader)
    won = first_event(play, "leader-elected", cut_ns, text="became leader")
    exact = unsure + CLOCK
    play.compare("step-down", (down.at_ns - cut_ns) / 1e9, window=window, resolution=exact)
    play.compare("election", (won.at_ns - cut_ns) / 1e9, window=window, resolution=exact)


@scenario("O8", "a write without quorum: the server's own request limit", "slow")
def test_server_gives_a_write_up_at_its_own_limit(scenario: ScenarioRun) -> None:
    """A put on a cut-off follower, from a client more patient than the server: 5 s + 2T, outcome unknown."""
    first, second, *_ = scenario.need_nodes(3)
    scenario.lead_from(first)
    limit = Timing.of(scenario.lab.manifest).request_limit
    scenario.inject("partition", second)
    begun_ns = time.monotonic_ns()
    with scenario.step(f"put on {second}", f"given up by the server after 5 s + 2T = {limit:g} s") as step:
        put = scenario.client(second).put("o8", "1", deadline=limit + SLOW_MACHINE)
        step.observed(put)
        assert put.outcome == "unknown"
        assert "timed out" in put.error or "leader" in put.error, put.error
    scenario.compare("request-limit", put.seconds, window=(begun_ns, time.monotonic_ns()), resolution=0.1)


@scenario("O5", "restart of one member and of all, names as they should be", "slow")
def test_restarts_with_names_in_order(scenario: ScenarioRun) -> None:
    """How long the cluster is degraded after a follower, then every member, is killed and starts again."""
    restarts(scenario, "")


@scenario("O6", "restart of one member and of all, the name service slow", "slow")
def test_restarts_with_a_slow_name_service(scenario: ScenarioRun) -> None:
    """As O5, every lookup late; where peers have addresses it says that no name service takes part."""
    restarts(scenario, "dns-slow")


@scenario("O7", "restart of one member and of all, the name service gone", "slow")
def test_restarts_without_a_name_service(scenario: ScenarioRun) -> None:
    """As O5, no lookup answered until the end."""
    restarts(scenario, "dns-gone")


def restarts(play: ScenarioRun, fault: str) -> None:
    """Restart a follower, then all, beside a fault of the name service; write down what was seen."""
    first, second, *_ = play.need_nodes(3)
    peers = play.lab.manifest.peers
    service = {"": "up", "dns-slow": "slow", "dns-gone": "gone"}[fault]
    if fault and peers != "dns":
        with play.step("name service", "used by the members") as step:
            step.observed(f"peers are given by {peers}, so a name service that is {service} changes nothing")
        play.metric("finding", f"peers by {peers}: no name service takes part in a restart; see O5 for its figures.")
        return
    play.require_ops(during=0)
    play.lead_from(first)
    told = [restarted(play, nodes, fault, service) for nodes in ((second,), play.lab.manifest.node_names)]
    play.metric("finding", f"peers by {peers}, name service {service}: {'; '.join(told)}.")


def restarted(play: ScenarioRun, nodes: tuple[str, ...], fault: str, service: str) -> str:
    """Kill these members, systemd starts them; tells how long the cluster was degraded, and what the logs say."""
    what = "all members" if len(nodes) > 1 else nodes[0]
    broken = play.inject(fault, "all") if fault else None
    kill = play.inject("kill", ",".join(nodes))
    begun_ns, _ = play.taken_hold()
    with play.step(f"{what} starts again", f"healthy, or not: the name service is {service}") as step:
        try:
            play.lab.cluster.wait_healthy(BACK_SECONDS / 3)
            well = f"all healthy {since(begun_ns):.1f} s after the kill"
        except DeadlineError as error:
            # with names gone, not coming back is the finding
            if service == "up":
                raise
            well = f"not healthy within {BACK_SECONDS / 3:g} s of the kill, last seen: {error.last}"
        ended_ns = time.monotonic_ns()
        seen = play.measures.collect() if play.measures else []
        said = [one for one in seen if begun_ns <= one.at_ns <= ended_ns]
        lookups = [one for one in said if "lookup" in one.text or "no such host" in one.text]
        change = leader_change(said, begun_ns, ended_ns)
        unknown = unseen(play)
        election = "an election" if change else "no election" if not unknown else f"an election or not{unknown}"
        text = f"{what} restarted: {well}, {election}, {len(lookups)} log lines of failed lookups"
        if lookups:
            text += f" (such as {lookups[0].text[:120]!r})"
        step.observed(text)
    if broken is not None:
        mended_ns = time.monotonic_ns()
        play.heal(broken)
        play.lab.cluster.wait_healthy(BACK_SECONDS)
        text += f"; all healthy {since(mended_ns):.1f} s after the name service was mended"
    play.heal(kill)
    return text
