"""The verification stack of a lab: the faults in force, declared, and what the last run found.

Project `etcd-lab-chaos`, one stack per lab, of the same name. Its program declares a set of faults; an update injects
what is missing and heals what is no longer declared. The stack's outputs say in plain words what is broken now and
what was found last: `pulumi stack output -s organization/etcd-lab-chaos/lab`.

An update costs about a second beside what the faults take, as all that is not needed is left out: no preview, no
refresh, no language host (the program runs in this process), no reading back by further commands (decision 9).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pulumi
from pulumi import automation

from chaos.faults.base import Fault, Result
from chaos.lab.lab import Lab
from chaos.lab.probes import linked
from chaos.stack import results, updates
from chaos.stack.provider import ProviderProcess
from chaos.stack.resource import FaultResource
from chaos.stack.state import NOTHING, DeclaredState, foreign, outputs_with, standing
from infra.manifest import Manifest
from machine import passphrase
from machine.engine import Engine
from machine.engine_state import CHAOS_PROJECT, PROJECT
from machine.errors import LabError
from machine.log import Say, say
from machine.process import tail

Program = Callable[[], None]

CUTTING = ("power", "link")
"""Faults that take these end the connections which this process keeps open to their nodes."""


class Verification:
    """The verification stack of one lab. Callers hold chaos.lab.lock.exclusive_use."""

    def __init__(self, lab: Lab, say: Say = say, provider: ProviderProcess | None = None) -> None:
        """The stack of `lab`; `provider` is one that was started already, and is ended with the lab."""
        self._lab = lab
        self._say = say
        self._engine = Engine(lab.paths, project=CHAOS_PROJECT, say=say)
        self._stack: updates.Stack | None = None
        self._provider = provider
        lab.kept.callback(self._end_provider)
        self.last: tuple[Result, ...] = ()
        """Results of the last update, also when it raised."""

    def set(self, faults: Sequence[Fault]) -> list[Result]:
        """Make `faults` the faults in force: inject what is missing, heal what is no longer among them, at once.

        Gives a result for each fault injected or healed; one that did not show is among them, for the caller to judge.
        Where a new fault takes what an old one has (`occupies`), the old one is healed first. Raises the first error of
        a fault, after all others were done; what its injection left has a record, and is for `./lab heal`.
        """
        wanted = {fault.id: fault for fault in faults}
        present = {fault.id: fault for fault in self.standing().faults}
        leaving = [fault for name, fault in present.items() if name not in wanted]
        coming = [fault for name, fault in wanted.items() if name not in present]
        for fault in (*leaving, *coming):
            if fault.occupies in CUTTING:
                for node in fault.nodes:
                    self._lab.forget(node)
        if any(_clash(old, new) for old in leaving for new in coming):
            healed = self._update([present[name] for name in present if name in wanted], leaving)
            return [*healed, *self._update(faults, coming)]
        return self._update([present.get(name, fault) for name, fault in wanted.items()], [*leaving, *coming])

    def refresh(self) -> list[Result]:
        """Observe every fault that is declared; results in the order of their ids."""
        results.clear(self._lab.paths)
        observed = self.standing().faults
        return self._run(
            observed, lambda stack: stack.refresh(color="never", suppress_progress=True, run_program=False)
        )

    def destroy(self) -> list[Result]:
        """Heal all; the stack stays, with what the last run found."""
        return self.set(())

    def standing(self) -> DeclaredState:
        """What the stack declares and says of this lab now, read from its state.

        Nothing while it speaks of a lab that is gone: whoever keeps what is declared would make those faults here.
        """
        deployment = self._engine.deployment()
        return DeclaredState() if foreign(deployment, self._lab.manifest.lab_id) else standing(deployment)

    def outputs(self) -> Mapping[str, object]:
        """The stack's outputs, read from its state."""
        return self.standing().outputs

    def finish(self, verdict: str, counts: Mapping[str, int], report: Path) -> None:
        """Write down what a run found."""
        found = {"verdict": verdict, "counts": dict(counts), "report": str(report), "ended": _now()}
        self._update(self.standing().faults, (), found)

    # -- the engine -----------------------------------------------------------------------------------------

    def _update(
        self, faults: Sequence[Fault], changing: Sequence[Fault], found: Mapping[str, object] | None = None
    ) -> list[Result]:
        results.clear(self._lab.paths)
        self._discard_foreign()
        kept = outputs_with(self.standing().outputs, found)
        program = self._program(faults, kept)
        return self._run(
            changing,
            lambda stack: stack.up(program=program, color="never", suppress_progress=True, continue_on_error=True),
        )

    def _program(self, faults: Sequence[Fault], kept: Mapping[str, object]) -> Program:
        paths = self._lab.paths

        def program() -> None:
            built = pulumi.StackReference(f"organization/{PROJECT}/{paths.stack}").require_output("manifest")
            lab_id = built.apply(lambda text: Manifest.model_validate_json(str(text)).lab_id)
            told = [FaultResource(fault, lab_id, paths).told for fault in faults]
            pulumi.export("lab", lab_id)
            pulumi.export("faults", pulumi.Output.all(*told).apply(lambda texts: texts or NOTHING) if told else NOTHING)
            for name, value in kept.items():
                pulumi.export(name, value)

        return program

    def _run(self, faults: Sequence[Fault], act: Callable[[updates.Stack], object]) -> list[Result]:
        """Let the engine act on `faults`, and take what the providers told."""
        failure: automation.CommandError | None = None
        try:
            self._prepare(faults)
            stack = self._opened()
            act(stack)
        except automation.CommandError as error:
            failure = error
            self._end_provider()  # where the engine was killed, it would go on
        except BaseException:  # Ctrl-C, or the limit of a test: what it is at would go on beside whoever mends
            self._end_provider()
            raise
        told = results.take(self._lab.paths)
        self.last = told.results
        for failed in told.failed.values():
            raise failed
        unhealed = any(result.action == "heal" and not result.proved for result in told.results)  # fails its deletion
        if failure is not None and passphrase.SIGN in str(failure):
            raise passphrase.wrong(self._engine.paths.stack, self._engine.paths.checkout)
        if failure is not None and not unhealed:
            raise LabError(
                f"The engine failed: {tail(str(failure), 12)}",
                where=self._engine.name,
                next="./lab heal mends what is left and clears the stack.",
            )
        return list(told.results)

    def prepare(self) -> ProviderProcess:
        """Start the provider, unless there is one, and return at once."""
        if self._provider is not None and not self._provider.alive:
            self._end_provider()
        if self._provider is None:
            self._provider = ProviderProcess.start(self._engine)
        return self._provider

    def _prepare(self, faults: Sequence[Fault]) -> None:
        """Have the provider open the shells that it will need, in guests that are reached, while the engine starts."""
        provider, nodes = self.prepare(), self._lab.manifest.node_names
        wanted = {shell for fault in faults for shell in fault.shells(nodes)}
        up: list[str] = []
        with contextlib.suppress(LabError):  # the provider meets it again, and tells, where it matters
            up = linked(self._lab) if wanted else []
        with contextlib.suppress(LabError):  # as above
            provider.open(shell for shell in wanted if shell[0] in up)

    def _opened(self) -> updates.Stack:
        if self._stack is None:
            self._engine.recover()
            self._stack = updates.Stack(self._engine, {**self._engine.environment, **self.prepare().environment})
        return self._stack

    def _end_provider(self) -> None:
        self._stack = None
        if self._provider is not None:
            self._provider.close()
            self._provider = None

    def _discard_foreign(self) -> None:
        """Forget a stack that was declared on a lab that is gone."""
        if other := foreign(self._engine.deployment(), self._lab.manifest.lab_id):
            self._say(f"The verification stack spoke of the lab {other}, which is gone; discarding it.")
            self._engine.recover()
            self._engine.remove_stack(force=True)
            self._end_provider()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _clash(old: Fault, new: Fault) -> bool:
    return bool(old.occupies) and old.occupies == new.occupies and bool(set(old.nodes) & set(new.nodes))
