"""What a scenario holds in its hands: steps, faults, figures. The fixture `scenario` gives one to each test."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from chaos.evidence.sources import without_fault
from chaos.faults.base import Action, Fault, Result, describe
from chaos.faults.parameters import Param
from chaos.faults.registry import kind
from chaos.harness import end_checks
from chaos.harness.context import ScenarioContext
from chaos.harness.judging import expect, patience
from chaos.harness.lab_run import LabRun
from chaos.oracle.judge import Judgement
from chaos.report import FaultEntry, ScenarioRecorder
from machine.errors import InconclusiveError, LabError

if TYPE_CHECKING:  # it loads the engine's SDK, which collecting and scenarios without faults do without
    from chaos.stack.verification import Verification


class ScenarioRun(ScenarioContext):
    """One scenario under way on a lab: its context, and the faults that it injects and heals."""

    def __init__(self, run: LabRun, recorder: ScenarioRecorder, stack: Verification) -> None:
        super().__init__(run, recorder)
        self.stack = stack
        self._in_force: list[tuple[Fault, FaultEntry]] = []

    def compare(self, rule: str, observed: float, *, window: tuple[int, int] | None = None, **case: Any) -> Judgement:  # noqa: ANN401
        """Hold a figure (in the rule's unit) against a rule of chaos.oracle.rules; a step of the report.

        `case` names fields of chaos.oracle.context.Context (`resolution`, `led`, `alone`, `ttl`, …); `window` are the
        ns between which etcd's logs tell the rounds of an election. Raises AssertionError when it is outside of what
        is allowed, InconclusiveError when the machine was too slow to tell.
        """
        return expect(self, rule, observed, window=window, **case)

    def patience(self) -> AbstractContextManager[None]:
        """Around a wait that allows seconds for a slow machine; see chaos.harness.judging.patience."""
        return patience(self)

    # -- the lab's shape ------------------------------------------------------------------------------------

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

        None leaves the default (chaos.workload.workload.Need). Where the majority is lost, `during` is 0.
        """
        if self.workload is not None:
            self.workload.require(before=before, during=during, side=side, after=after)

    def quiesce(self) -> None:
        """Stop the workload for good: what follows (one index on all members) is to be seen without writers."""
        if self.workload is not None:
            end_checks.quiesce(self, self.workload)

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
            self.run.keeper.hold(fault.id, lambda: fault.renew(self.lab))
            try:
                found = self.stack.set([*(other for other, _ in self._in_force), fault])
                result = self._result_of("inject", fault, found)
            except BaseException:
                self.run.keeper.release(fault.id)
                raise
            self._in_force.append((fault, self.recorder.fault_injected(entry_of(result))))
            step.observed(self._told(result))
            result.require()
        return fault

    def heal(self, fault: Fault) -> Result:
        """Heal a fault and require the proof that it is gone."""
        if self.workload is not None:
            end_checks.settle(self.workload, end_checks.windows(self))
        if self.measures is not None and [other for other, _ in self._in_force] == [fault]:
            self.measures.phase_ends("during")
        with self.step(f"heal {fault.name} on {', '.join(fault.nodes)}", "the fault is gone") as step:
            lost = self._lost(fault)
            self.run.keeper.release(fault.id)
            found = self.stack.set([other for other, _ in self._in_force if other != fault])
            result = self._result_of("heal", fault, found)
            for other, entry in self._in_force:
                if other == fault:
                    self.recorder.fault_healed(
                        entry,
                        lifted_ns=result.applied_ns,
                        proved_ns=result.ended_ns if result.proved else 0,
                        proof=result.proof,
                    )
            step.observed(self._told(result))
            result.require()
            self._in_force = [(other, entry) for other, entry in self._in_force if other != fault]
            if lost:
                raise InconclusiveError(f"{fault.name} had ended before it was healed: {lost}")
        return result

    def _lost(self, fault: Fault) -> str:
        """Why a fault holds no more whose lease was not renewed; "" when it was, or when it holds all the same."""
        problem = self.run.keeper.problems.get(fault.id)
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


def entry_of(result: Result) -> FaultEntry:
    """An injection as the report has it, proved or not."""
    return FaultEntry(
        name=result.name,
        target=describe(result.groups),
        place=result.place,
        injected_ns=result.applied_ns,
        started_ns=result.started_ns,
        proved_ns=result.ended_ns if result.proved else 0,
        proof=[str(proof) for proof in result.proof],
    )
