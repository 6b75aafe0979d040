"""Steps that scenarios share: a background writer in calm, writes that go on, one put or get, a ledger, equal data."""

from __future__ import annotations

from chaos.harness.judging import in_time
from chaos.harness.scenario_run import ScenarioRun
from chaos.oracle import election_bound
from chaos.workload.availability import SLOW_SECONDS, Availability, measure, slow_limit
from chaos.workload.client import DEADLINE, WRITER_DEADLINE, Writer
from machine.errors import InconclusiveError, LabError
from machine.waiting import Pending, wait_until

CALM_PUTS = 15
"""Puts before a fault that tell how fast this machine is."""

LEDGER_SECONDS = 30.0
"""Of one read of all that a writer wrote: long, for a slow machine."""


def calm(play: ScenarioRun, writer: Writer) -> int:
    """Wait until the writer has made its calm puts; gives how many operations there were."""
    with play.precondition("background writer in calm", f"{CALM_PUTS} puts acknowledged") as step:
        more_writes(writer, CALM_PUTS, 30)
        step.observed(measure(writer.ops))
    return len(writer.ops)


def more_writes(writer: Writer, count: int, seconds: float) -> None:
    """Wait until `count` further puts have been acknowledged."""
    begun = len(writer.acknowledged)

    def probe() -> None:
        if writer.problem is not None:
            raise writer.problem
        got = len(writer.acknowledged) - begun
        if got < count:
            raise Pending(f"{got} more acknowledged")

    wait_until(probe, f"{count} acknowledged puts to {writer.node}", seconds=seconds, every=0.1)


def writes_go_on(
    play: ScenarioRun, writer: Writer, calm_ops: int, title: str = "writes go on", *, extra: float = 0.0
) -> Availability:
    """A step: more puts are acknowledged, with no gap longer than an election since the writer began.

    `extra` is what else may hold a write up, in seconds.
    """
    bound = election_bound(play.lab.manifest) + WRITER_DEADLINE + extra
    with play.step(title, f"no gap over {bound:.1f} s") as step:
        with play.patience():
            more_writes(writer, CALM_PUTS, 60)
        before, limit = writer.ops[:calm_ops], slow_limit(writer.ops[:calm_ops])
        found = measure(writer.ops, limit)
        play.metric("write_availability", found.as_metrics())
        step.observed(found)
        if found.longest > bound and (limit > SLOW_SECONDS or measure(before).longest > WRITER_DEADLINE):
            raise InconclusiveError(
                f"A gap of {found.longest:.1f} s on a machine that was slow before: {measure(before)}"
            )
        assert found.longest <= bound
    return found


def put_ok(play: ScenarioRun, node: str, key: str, value: str, title: str) -> None:
    """A step: this one put to a node is acknowledged."""
    with play.step(title, "OK") as step:
        done = play.client(node).put(key, value)
        step.observed(done)
        assert done.ok, done


def get_ok(play: ScenarioRun, node: str, key: str, value: str, title: str, *, deadline: float = DEADLINE) -> None:
    """A step: a linearizable read on a node gives this value."""
    with play.step(title, value) as step:
        got = play.client(node).get(key, deadline=deadline)
        step.observed(got)
        assert got.value == value


def ledger_everywhere(play: ScenarioRun, writer: Writer) -> None:
    """A step for every node: all that was acknowledged to the writer is read there, value and revision."""
    ledger = writer.acknowledged
    for node in play.lab.manifest.node_names:
        with play.step(f"ledger read on {node}", f"all {len(ledger)} acknowledged writes") as step:
            with play.patience():
                read = in_time(play.client(node).range(writer.prefix, deadline=LEDGER_SECONDS), LEDGER_SECONDS)
            stored = {key: (value, revision) for key, value, revision in read.values}
            lost = [key for key, op in ledger.items() if stored.get(key) != (op.value, op.revision)]
            step.observed(f"{len(ledger) - len(lost)} there, {len(lost)} lost")
            assert not lost, f"acknowledged and not there as written: {lost[:5]}"


def same_data(play: ScenarioRun) -> None:
    """A step: all members hold the same keys, by etcd's own hash."""

    def equal() -> dict[str, int]:
        revision = min(status.revision for status in play.lab.cluster.status() if status.ok)
        try:
            hashes = play.lab.cluster.hash_kv(revision, seconds=10)
        except LabError as error:
            raise Pending(str(error)) from error
        if len(set(hashes.values())) > 1:
            raise Pending(f"at revision {revision}: {hashes}")
        return hashes

    with play.step("data of the members", "equal by hash_kv") as step:
        with play.patience():
            hashes = wait_until(equal, "equal hashes of all members", seconds=30)
        step.observed(f"{len(hashes)} members, hash {next(iter(hashes.values()))}")
