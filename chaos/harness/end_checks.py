"""The checks at the end of a scenario: what the workload saw, all members' data, whether the cluster kept its word.

Each is a step of the report, with numbers. What contradicts a promise fails; what could not be looked at, or decided,
is inconclusive; all are made, whatever the first ones say.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from chaos.checker.errors import HistoryError
from chaos.checker.files import load_history, load_watch
from chaos.checker.hashkv import Hash, check_hashes
from chaos.checker.ledger import check_ledger, puts_under
from chaos.checker.log_evidence import watched_whole
from chaos.checker.model import History, Outcome
from chaos.checker.picture import draw
from chaos.checker.raftlog.copies import NAME, Copies
from chaos.checker.run import check_with_logs
from chaos.checker.verdict import Verdict
from chaos.checker.violation import Violation
from chaos.checker.watches import Event
from chaos.faults.registry import kind
from chaos.harness.context import ScenarioContext
from chaos.measure.raft_logs import collect
from chaos.report import Step, StepRun
from chaos.workload.plan import NONE, Plan
from chaos.workload.pool import Pool
from chaos.workload.workload import DURING_SECONDS, WAIT_SECONDS, Line, Window, WorkloadSession
from chaos.workload.workload import told as counted
from infra.cluster import EndpointStatus
from machine.errors import DeadlineError, InconclusiveError, LabError, ToolError
from machine.waiting import Pending, wait_until

FINAL_SECONDS = 20.0
"""Limit of a final read of everything a scenario wrote."""

INDEX_SECONDS = 30.0
"""How long members may take to have applied the same entries, once nobody writes."""

CHECK_SECONDS = 60.0
"""What the checker may take for one scenario."""

NO_WORKLOAD = "--workload none: no clients, no history, no checks; this says nothing of what clients were promised"

END = "z/end"
"""Under the prefix: the last key written; a watch that tells of it has told everything."""


def begin(play: ScenarioContext, pool: Pool, plan: Plan, profile: str = "") -> None:
    """Set the workload of a scenario to work, and wait until it does. `profile`: what the scenario itself asks for."""
    ident = play.recorder.scenario.id
    if plan.profile == NONE:
        play.metric("workload", {"plan": plan.as_json()})
        play.recorder.scenario.steps.append(
            Step(title="workload", expected="as asked for", observed=NO_WORKLOAD, verdict="pass")
        )
        return
    if profile:
        name, *words = profile.split(",")
        plan = plan.with_profile(name).with_words(words)
    with play.precondition("workload", f"{plan}; works on every member") as step:
        statuses = [status for status in play.lab.cluster.status() if status.ok]
        revision = min(status.revision for status in statuses)
        prefix = f"w/{ident}/{time.monotonic_ns()}/"
        session = WorkloadSession(pool, plan, prefix, play.recorder.evidence_dir, revision)
        session.base_index = min(status.raft_applied_index for status in statuses)
        session.begin()
        play.workload = session
        need = session.need
        found = session.wait_ok(session.begun_ns, need.before, everyone=need.everyone, seconds=WAIT_SECONDS)
        step.observed(f"{counted(found)}, from revision {revision} on")


def conclude(play: ScenarioContext, *, healthy: bool) -> None:
    """The checks, if there was a workload; those that ask members are left out when the cluster is not `healthy`."""
    if play.workload is not None:
        Checks(play, play.workload, healthy=healthy).run()


def settle(session: WorkloadSession, windows: list[Window]) -> None:
    """Before a fault is healed: give the side that should serve the time to have done what is asked of it."""
    need = session.need
    if need.during and windows and not session.stopped_ns:
        began = min(one.begin_ns for one in windows)
        try:
            session.wait_ok(began, need.during, side=need.side, seconds=DURING_SECONDS)
        except InconclusiveError:
            return  # said at the end, with the counts


class Checks:
    """The checks of one scenario."""

    def __init__(self, play: ScenarioContext, session: WorkloadSession, *, healthy: bool) -> None:
        self.play = play
        self.session = session
        self.healthy = healthy
        self.windows = windows(play)
        self.unpromised = sorted({one.name for one in play.recorder.scenario.faults if not kind(one.name).promised})
        self.stored: dict[str, Line] = {}
        self._trouble: list[BaseException] = []

    def run(self) -> None:
        """Make all; then raise what was worst: AssertionError (fail) before InconclusiveError."""
        quiesce(self.play, self.session)
        with self._kept():
            self._workload()
        if self.healthy:
            with self._kept():
                self._final()
            with self._kept():
                self._hashes()
        with self._kept():
            history = self._history()
            if self.healthy:
                with self._kept():
                    self._ledger(history)
            self._linearizable(history)
        wrong = [one for one in self._trouble if not isinstance(one, InconclusiveError)]
        if self._trouble:
            raise (wrong or self._trouble)[0]

    def _history(self) -> History:
        """What the clients recorded, as one history; one that cannot be read is a step that proves nothing."""
        try:
            return load_history(self.session.merge())
        except (LabError, OSError, ValueError) as error:
            with self.play.step("history", "every operation that the clients recorded"):
                raise InconclusiveError(
                    f"The history cannot be read, so nothing of it was checked: {error}",
                    where=str(self.session.directory),
                ) from error

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except (AssertionError, LabError) as error:
            self._trouble.append(error)

    @contextmanager
    def _step(self, title: str, expected: str) -> Iterator[StepRun]:
        """A check: what could not be looked at proves nothing, and fails nothing."""
        with self.play.step(title, expected) as step:
            try:
                yield step
            except InconclusiveError:
                raise
            except (LabError, HistoryError) as error:
                raise InconclusiveError(f"This could not be looked at: {error}") from error

    def _workload(self) -> None:
        session, need = self.session, self.session.need
        expected = f"at least {need.before} operations before"
        if self.windows:
            side = f" on {', '.join(need.side)}" if need.side else ""
            expected += f", {need.during} during{side}, {need.after} after the faults"
        with self._step("workload went on", expected) as step:
            phases = session.phases(self.windows)
            rate, reached = session.rate(self.windows)
            self.play.metric(
                "workload",
                {"plan": session.plan.as_json(), "phases": phases, "rate": round(rate, 2), "rate_reached": reached},
            )
            slower = "" if reached else f", less than the {session.plan.rate:g}/s asked for"
            counts = "; ".join(f"{name} {_counts(phases[name])}" for name in phases)
            step.observed(f"{counts}; {rate:.1f}/s each in calm{slower}")
            if session.lost:
                raise InconclusiveError(f"Workers failed: {'; '.join(session.lost.values())}")
            if missing := session.shortfall(self.windows):
                raise InconclusiveError(
                    f"The workload was idle: {missing}",
                    next="Where the majority is lost, the scenario says so: scenario.require_ops(during=0).",
                )

    def _final(self) -> None:
        """A last write, a read of everything on every member, and every event from the beginning on."""
        session, nodes = self.session, self.session.pool.nodes
        if session.plan.leases:
            self._leases()
        with self._step("final reads", "every member tells everything that was written, and every event") as step:
            first = next((node for node in nodes if node not in session.lost), nodes[0])
            end = session.do(first, {"op": "put", "key": session.prefix + END, "value": "end"}, FINAL_SECONDS)
            if end["outcome"] != "ok":
                raise InconclusiveError(f"The last write was not acknowledged: {end.get('error')}")
            for node in nodes:
                if node not in session.lost:
                    found = session.do(node, {"op": "range", "key": session.prefix}, FINAL_SECONDS)
                    if found["outcome"] != "ok":
                        raise InconclusiveError(f"{node} did not tell what it holds: {found.get('error')}")
                    self.stored[node] = found
            watched = session.read_all(session.prefix + END, FINAL_SECONDS)
            keys = ", ".join(f"{node} {len(found['kvs'])} keys" for node, found in self.stored.items())
            events = {node: one["events"] for node, one in watched.items() if isinstance(one, dict) and one["whole"]}
            step.observed(f"{keys}; events: {', '.join(f'{node} {count}' for node, count in events.items())}")
            if short := sorted(set(watched) - set(events)):
                raise InconclusiveError(f"A watch from the beginning did not come to its end on {', '.join(short)}")

    def _leases(self) -> None:
        session = self.session
        bound = 2 * max(session.plan.lease_ttl, 5) + 4 * self.play.lab.manifest.timeouts.election_ms / 1000 + 20
        with self._step("leases", f"keys of leases that nobody renews are gone within {bound:g} s") as step:
            began = time.monotonic_ns()

            def gone() -> None:
                node = next(node for node in session.pool.nodes if node not in session.lost)
                left: list[str] = []
                for part in ("e/", "x/lock"):
                    found = session.do(node, {"op": "range", "key": session.prefix + part}, FINAL_SECONDS)
                    if found["outcome"] != "ok":
                        raise Pending(str(found.get("error")))
                    left += [kv["key"] for kv in found["kvs"]]
                if left:
                    raise Pending(f"{len(left)} keys are still there, {left[0]} among them")

            try:
                wait_until(gone, "expiry of all leases", seconds=bound, every=0.5)
            except DeadlineError as error:
                raise AssertionError(f"lease outlived: {error}") from error
            step.observed(f"gone {(time.monotonic_ns() - began) / 1e9:.1f} s after the workload's end")

    def _hashes(self) -> None:
        with self._step("hash equality", "one applied index, and one hash of all data, on all members") as step:
            cluster = self.play.lab.cluster

            def same() -> tuple[list[Hash], int]:
                statuses = same_index(cluster.status())
                revision = min(status.revision for status in statuses)
                try:
                    answers = cluster.hashes(revision)
                except ToolError as error:
                    raise Pending(str(error)) from error
                hashes = [Hash(node, revision, one.compact_revision, one.hash) for node, one in answers.items()]
                if len(hashes) == 1:
                    return hashes, statuses[0].raft_applied_index  # a lab of one: nobody to differ from
                wrong, reason = check_hashes(hashes)
                if reason:
                    raise Pending(reason)
                if wrong is not None and not self.unpromised:
                    raise AssertionError(wrong.text())
                return hashes, statuses[0].raft_applied_index

            try:
                hashes, index = wait_until(same, "equal members", seconds=INDEX_SECONDS)
            except DeadlineError as error:
                raise InconclusiveError(f"The members cannot be compared: {error.what}") from error
            one = hashes[0]
            if len({other.hash for other in hashes}) > 1:
                step.observed(f"observed, after {', '.join(self.unpromised)}: members differ")
                return
            step.observed(
                f"hash {one.hash} at revision {one.revision} (compacted {one.compact_revision}), index {index}, "
                f"on {len(hashes)} members"
            )

    def _ledger(self, history: History) -> None:
        prefix = self.session.prefix + "l/"
        book = puts_under(history, prefix)
        if not len(book) or not self.stored:
            return
        acknowledged = int((book.outcome == Outcome.OK).sum())
        with self._step(
            "ledger", f"every one of {acknowledged} acknowledged writes, with its revision, on every member"
        ) as step:
            surplus = {}
            for node, found in self.stored.items():
                there = {kv["key"]: (kv["value"], kv["mod_revision"]) for kv in found["kvs"]}
                there = {key: cell for key, cell in there.items() if key.startswith(prefix)}
                wrong = check_ledger(book, there, found["revision"])
                if wrong is not None:
                    step.observed(f"{node}: {wrong.why}")
                    self._explain(step, history, wrong, "ledger")
                    return
                surplus[node] = len(there) - acknowledged
            more = max(surplus.values())
            step.observed(f"all on {', '.join(surplus)}; {more} more, of unknown outcome")
            self.play.metric("ledger", {"acknowledged": acknowledged, "unknown_found": more})

    def _linearizable(self, history: History) -> None:
        with self._step("linearizable", "one order explains every answer and every event") as step:
            watch = self.session.directory / "watch.jsonl"
            events = load_watch(watch) if watch.exists() else []
            settled = check_with_logs(history, events, lambda: self._logs(events), seconds=CHECK_SECONDS)
            report, found = settled.report, settled.found
            unknown = int((history.outcome == Outcome.UNKNOWN).sum())
            said = f", of these {settled.said()}" if settled.looked else ""
            size = (
                f"{report.operations} operations ({unknown} of unknown outcome, "
                f"{len(report.settled) + len(found.never)} settled{said}), {len(events)} events, {report.seconds:.2f} s"
            )
            counts = {"unknown": unknown, "settled": len(report.settled), "settled_by_log": found.settled}
            self.play.metric("check", report.data() | counts)
            step.observed(f"{report.verdict.value}: {size}")
            if report.violation is not None:
                self._explain(step, history, report.violation, "violation")
            if report.verdict == Verdict.UNKNOWN:
                raise InconclusiveError(
                    f"The checker cannot decide: {report.reason}", where=str(self.session.directory)
                )
            if not events and self._watched():
                raise InconclusiveError(
                    "No watch told of anything, though one was to be kept all through: events were not checked",
                    where=str(watch),
                )

    def _watched(self) -> bool:
        """Whether a worker was to watch all through."""
        return any(self.session.plan.watched(index) for index in range(len(self.session.pool.nodes)))

    def _logs(self, events: list[Event]) -> Copies | None:
        """The members' logs, where no watch told everything; None too where they are not to be trusted."""
        session = self.session
        # a disk that forgot what it had acknowledged has broken the rules by which logs are read
        asked = self.healthy and not self.unpromised
        if not asked or watched_whole(events, session.base_revision, session.prefix + END):
            return None
        return collect(self.play.lab, session.pool.nodes, session.base_index, session.directory / NAME)

    def _explain(self, step: StepRun, history: History, wrong: Violation, name: str) -> None:
        """Keep explanation and picture beside the history, and fail; unless a fault is one etcd does not outlive."""
        directory = self.session.directory
        (directory / f"{name}.txt").write_text(wrong.text() + "\n")
        (directory / f"{name}.svg").write_text(draw(history, wrong))
        if self.unpromised:
            self.play.metric(f"{name}_observed", wrong.data())
            step.observed(
                f"observed, as etcd does not promise to come through {', '.join(self.unpromised)}: {wrong.why}"
            )
            return
        raise AssertionError(f"{wrong.text()}\n  see {directory / name}.svg, ./lab check {directory}/history.jsonl")


def quiesce(play: ScenarioContext, session: WorkloadSession) -> None:
    """Stop the workload, once it has done what is asked of it after the faults."""
    if session.stopped_ns:
        return
    spans = windows(play)
    if spans and all(one.end_ns for one in spans):
        try:
            last, need = max(one.end_ns for one in spans), session.need
            session.wait_ok(last, need.after, everyone=need.everyone, seconds=WAIT_SECONDS)
        except InconclusiveError:
            pass  # said by the step on the workload, with the counts
    session.stop()


def windows(play: ScenarioContext) -> list[Window]:
    """When faults were in force."""
    return [Window(fault.injected_ns, fault.healed_ns) for fault in play.recorder.scenario.faults]


def same_index(statuses: list[EndpointStatus]) -> list[EndpointStatus]:
    """These, when all have applied the same entries; raises Pending."""
    missing = [f"{one.node}: {one.error}" for one in statuses if not one.ok]
    seen = {one.raft_applied_index for one in statuses}
    if missing or len(seen) > 1:
        raise Pending("; ".join(missing) or f"indexes {sorted(seen)}")
    return statuses


def _counts(phase: Line) -> str:
    """`12 ok, 1 unknown`."""
    return ", ".join(f"{phase[one]} {one}" for one in ("ok", "fail", "unknown") if phase.get(one)) or "nothing"
