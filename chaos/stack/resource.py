"""A fault as a Pulumi resource: create injects, delete heals, read observes. All else is the fault's own.

The provider runs in the engine's plugin process and opens the lab from its files. A fault that was made but did not
show is a resource all the same (`proved` is false), so that it can be healed; the caller reads the result.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, Resource

from chaos.faults import records
from chaos.faults.base import Fault, Result
from chaos.lab import shell_pool
from chaos.lab.lab import Lab
from chaos.stack import results
from chaos.stack.state import LIFT_ONLY, declared, read_declared, told
from infra.dynamic import Props, Provider, text
from infra.manifest import load
from machine.errors import InconclusiveError, NotBuiltError
from machine.paths import StackPaths


class FaultProvider(Provider):
    """Thin: everything is done by the fault."""

    inputs = ("fault", "lab_id")
    replacing = ("fault", "lab_id")

    def create(self, props: Props) -> CreateResult:
        """Inject."""
        fault, paths = _of(props)
        with results.errors_left(paths, "inject", fault.id), _lab(props, paths) as lab:
            result = fault.inject(lab)
        results.leave(paths, result)
        return CreateResult(fault.id, {**props, **_seen(fault, result)})

    def read(self, id_: str, props: Props) -> ReadResult:
        """Observe; a fault that holds no more stays declared, and says so."""
        fault, paths = _of(props)
        with results.errors_left(paths, "observe", fault.id), _lab(props, paths) as lab:
            result = fault.observe(lab)
        results.leave(paths, result)
        return ReadResult(id_, {**props, **_seen(fault, result)})

    def delete(self, _id: str, _props: Props) -> None:
        """Heal; raises InconclusiveError, and keeps the resource, when it is not seen to be gone."""
        fault, paths = _of(_props)
        with results.errors_left(paths, "heal", fault.id):
            try:
                opened = _lab(_props, paths)
            except NotBuiltError:
                return  # the lab is gone, and the fault with it
            with opened as lab:
                if os.environ.get(LIFT_ONLY):
                    fault.lift(lab)
                    records.remove(paths, fault.id)
                    return
                result = fault.heal(lab)
        results.leave(paths, result)
        if not result.proved:
            raise InconclusiveError(f"{told(fault)} is not seen to be gone: {result.missing}", next="Run ./lab heal.")


def _of(props: Props) -> tuple[Fault, StackPaths]:
    return read_declared(text(props, "fault")), StackPaths(Path(text(props, "checkout")), text(props, "stack"))


def _lab(props: Props, paths: StackPaths) -> Lab:
    """The lab from its files, when it is the one that was declared; NotBuiltError otherwise."""
    manifest = load(paths)
    if manifest.lab_id != text(props, "lab_id"):
        raise NotBuiltError(f"The fault was declared on the lab {props['lab_id']}, and this is {manifest.lab_id}")
    return Lab(manifest, paths, shell_pool.KEPT)


def _seen(fault: Fault, result: Result) -> dict[str, object]:
    state = "holds" if result.proved else f"NOT proved: {result.missing}"
    return {
        "told": f"{told(fault)}, at {result.place}: {state}",
        "proved": result.proved,
        "place": result.place,
        "proof": [str(proof) for proof in result.proof],
    }


class FaultResource(Resource, module="chaos", name="Fault"):
    """One fault in force."""

    told: pulumi.Output[str]
    """In plain words, with whether it showed."""
    proved: pulumi.Output[bool]

    def __init__(self, fault: Fault, lab_id: pulumi.Input[str], paths: StackPaths) -> None:
        props: Mapping[str, object] = {
            "fault": pulumi.Output.from_input(lab_id).apply(lambda known: declared(fault, known)),
            "lab_id": lab_id,
            "checkout": str(paths.checkout),
            "stack": paths.stack,
            "told": None,
            "proved": None,
            "place": None,
            "proof": None,
        }
        super().__init__(FaultProvider(), fault.id, dict(props))
