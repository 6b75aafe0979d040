"""What a scenario holds in its hands: steps, faults, figures. The fixture `scenario` gives one to each test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from chaos import checks
from chaos.faults.base import Action, Fault, Result
from chaos.faults.parameters import Param
from chaos.faults.registry import kind
from chaos.lab import Lab
from chaos.measure.expect import expect, patience
from chaos.measure.session import Measures
from chaos.measure.sources import Missing, without_fault
from chaos.oracle.judge import Judgement
from chaos.oracle.machine import Machine
from chaos.report import FaultEntry, ScenarioRecorder, Step, StepRun
from chaos.workload.session import WorkloadSession
from machine.errors import InconclusiveError, LabError

if TYPE_CHECKING:
    from chaos.stacks import Verification

Test = TypeVar("Test", bound=Callable[..., object])

SCENARIO_SECONDS = 420
"""Limit of one scenario with its mending: two cold starts of all machines under TCG."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What `@scenario` says about a test."""

    id: str
    title: str
    workload: str = ""
    """Profile of the clients that work all through; "": the run's own."""


def scenario(scenario_id: str, title: str, *marks: str, workload: str = "") -> Callable[[Test], Test]:
    """Make a test the scenario `scenario_id`: its id in pytest's ids and marks, a limit, and further `marks`.

    `workload` asks for another profile of clients than the run's own, such as "lease" (chaos.workload.plan).
    """

    def decorate(test: Test) -> Test:
        declared = Declared(scenario_id, title, workload)
        decorated: Any = pytest.mark.parametrize("scenario", [pytest.param(declared, id=scenario_id)], indirect=True)(
            test
        )
        for name in (scenario_id, *marks):
            decorated = getattr(pytest.mark, name)(decorated)
        result: Test = pytest.mark.timeout(SCENARIO_SECONDS)(decorated)
        return result

    return decorate


class Play:
    """One scenario under way on a lab."""

    def __init__(self, lab: Lab, recorder: ScenarioRecorder, stack: Verification) -> None:
        self.lab = lab
        self.stack = stack
        self.recorder = recorder
        self.machine = Machine()
        """What calibration measured; until then nothing."""
        self.missing: Sequence[Missing] = ()
        """Sources of evidence that this lab lacks, known before the run."""
        self.measures: Measures | None = None
        """Samples and events of this scenario, while it is measured."""
        self._in_force: list[tuple[Fault, FaultEntry]] = []
        self.workload: WorkloadSession | None = None
        """The clients at work; None with `--workload none`."""

    # -- telling --------------------------------------------------------------------------------------------

    @contextmanager
    def step(self, title: str, expected: str) -> Iterator[StepRun]:
        """A step of the scenario; see chaos.report.ScenarioRecorder.step."""
        with self.recorder.step(title, expected) as run:
            yield run

    @contextmanager
    def precondition(self, title: str, expected: str) -> Iterator[StepRun]:
        """A step that must hold for the scenario to mean anything: when it fails, nothing is proved."""
        with self.recorder.step(title, expected) as run:
            try:
                yield run
            except LabError as error:
                raise InconclusiveError(f"A precondition does not hold: {error.what}", where=error.where) from error

    def metric(self, name: str, value: object) -> None:
        """Keep a figure in the report."""
        self.recorder.metric(name, value)

    def compare(self, rule: str, observed: float, *, window: tuple[int, int] | None = None, **case: Any) -> Judgement:  # noqa: ANN401
        """Hold a figure (in the rule's unit) against a rule of chaos.oracle.rules; a step of the report.

        `case` names fields of chaos.oracle.context.Context (`resolution`, `led`, `alone`, `ttl`, …); `window` are the
        ns between which etcd's logs tell the rounds of an election. Raises AssertionError when it is outside of what
        is allowed, InconclusiveError when the machine was too slow to tell.
        """
        return expect(self, rule, observed, window=window, **case)

    def patience(self) -> AbstractContextManager[None]:
        """Around a wait that allows seconds for a slow machine; see chaos.measure.expect.patience."""
        return patience(self)

    def taken_hold(self) -> tuple[int, float]:
        """When the latest fault took hold, as ns of CLOCK_MONOTONIC, and how exactly that is known, in seconds."""
        entry = self.recorder.scenario.faults[-1]
        begun = entry.started_ns or entry.injected_ns
        return (begun + entry.injected_ns) // 2, (entry.injected_ns - begun) / 2e9

    # -- the lab's shape ------------------------------------------------------------------------------------

    def need_nodes(self, count: int) -> tuple[str, ...]:
        """Names of the nodes; skips the scenario where there are fewer than `count`."""
        names = self.lab.manifest.node_names
        if len(names) < count:
            reason = f"needs {count} nodes, the lab has {len(names)}"
            self.recorder.scenario.steps.append(
                Step(title="enough nodes", expected=f"{count} nodes", observed=reason, verdict="skipped")
            )
            pytest.skip(reason)
        return names

    def lead_from(self, node: str) -> None:
        """Put the leader on `node`, so that the outcome is determined."""
        with self.precondition(f"leader on {node}", f"{node} leads") as step:
            self.lab.lead_from(node)
            leader = self.lab.leader()
            step.observed(f"{leader} leads in term {self.lab.terms().get(node)}")
            if leader != node:
                raise InconclusiveError(f"{leader} leads, not {node}")

    # -- the workload ---------------------------------------------------------------------------------------

    def require_ops(
        self,
        *,
        before: int | None = None,
        during: int | None = None,
        side: Sequence[str] | None = None,
        after: int | None = None,
    ) -> None:
        """Least numbers of operations that must succeed before, during (on `side`, those that should serve) and after.

        None leaves the default (chaos.workload.session.Need). Where the majority is lost, `during` is 0.
        """
        if self.workload is not None:
            self.workload.require(before=before, during=during, side=side, after=after)

    def quiesce(self) -> None:
        """Stop the workload for good: what follows (one index on all members) is to be seen without writers."""
        if self.workload is not None:
            checks.quiesce(self, self.workload)

    # -- faults ---------------------------------------------------------------------------------------------

    def inject(self, name: str, *words: str, **params: Param) -> Fault:
        """Inject a fault and require its proof; it is healed at the end at the latest.

        Raises InconclusiveError, with nothing touched, where the evidence is missing that its proof rests on.
        """
        if gone := without_fault(self.missing, name, self.lab.manifest.node_names):
            with self.step(f"inject {name} on {' | '.join(words)}", "the fault is in force, and shows"):
                raise InconclusiveError(f"{name} cannot be proved, so it was not injected: {gone}")
        fault = kind(name).declare(self.lab, words, params, others=[other for other, _ in self._in_force])
        if self.measures is not None and not self.recorder.scenario.faults:
            self.measures.phase_ends("before")
        with self.step(f"inject {name} on {' | '.join(words)}", "the fault is in force, and shows") as step:
            # from the start: a proof may take longer than the lease
            self.lab.keeper.hold(fault.id, lambda: fault.renew(self.lab))
            try:
                found = self.stack.set([*(other for other, _ in self._in_force), fault])
                result = self._result_of("inject", fault, found)
            except BaseException:
                self.lab.keeper.release(fault.id)
                raise
            self._in_force.append((fault, self.recorder.fault_injected(result)))
            step.observed(self._told(result))
            result.require()
        return fault

    def heal(self, fault: Fault) -> Result:
        """Heal a fault and require the proof that it is gone."""
        if self.workload is not None:
            checks.settle(self.workload, checks.windows(self))
        if self.measures is not None and [other for other, _ in self._in_force] == [fault]:
            self.measures.phase_ends("during")
        with self.step(f"heal {fault.name} on {', '.join(fault.nodes)}", "the fault is gone") as step:
            lost = self._lost(fault)
            self.lab.keeper.release(fault.id)
            found = self.stack.set([other for other, _ in self._in_force if other != fault])
            result = self._result_of("heal", fault, found)
            for other, entry in self._in_force:
                if other == fault:
                    self.recorder.fault_healed(entry, result)
            step.observed(self._told(result))
            result.require()
            self._in_force = [(other, entry) for other, entry in self._in_force if other != fault]
            if lost:
                raise InconclusiveError(f"{fault.name} had ended before it was healed: {lost}")
        return result

    def _lost(self, fault: Fault) -> str:
        """Why a fault holds no more whose lease was not renewed; "" when it was, or when it holds all the same."""
        problem = self.lab.keeper.problems.get(fault.id)
        seen = fault.observe(self.lab) if problem else None
        return f"{problem} {seen.missing}" if seen and not seen.proved else ""

    def heal_all(self) -> None:
        """Heal what is still in force, last first; the first error is raised after all were tried."""
        errors: list[LabError] = []
        for fault, _ in reversed(self._in_force.copy()):
            try:
                self.heal(fault)
            except LabError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    @staticmethod
    def _result_of(action: Action, fault: Fault, found: Sequence[Result]) -> Result:
        """Its result; an update may also have healed what an interrupted scenario left declared."""
        for result in found:
            if (result.action, result.id) == (action, fault.id):
                return result
        raise InconclusiveError(f"The verification stack says nothing of {fault.name}", next="Run ./lab heal.")

    @staticmethod
    def _told(result: Result) -> str:
        change = (result.applied_ns - result.started_ns) / 1e9
        proof = (result.ended_ns - result.applied_ns) / 1e9
        if result.proved:
            hold = "1 proof holds" if len(result.proof) == 1 else f"{len(result.proof)} proofs hold"
            return f"{hold}; change {change:.2f} s, proof {proof:.2f} s"
        return f"not proved after {proof:.2f} s"  # what is missing follows, with the error


def election_seconds(lab: Lab) -> float:
    """Election timeout of the lab's members, in seconds: T of the bounds in the scenarios."""
    return lab.manifest.timeouts.election_ms / 1000


def since(started_ns: int) -> float:
    """Seconds from a monotonic time until now."""
    return (time.monotonic_ns() - started_ns) / 1e9
