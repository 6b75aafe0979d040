"""What a verification stack declares and says, out of the engine's state; needs neither engine nor SDK."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from chaos.faults import records
from chaos.faults.base import Fault, describe
from chaos.faults.registry import from_record
from machine.engine_state import Deployment

TYPE: Final = "chaos:Fault"
"""End of the type token of a fault's resource."""

LIFT_ONLY: Final = "ETCD_LAB_LIFT_ONLY"
"""In the engine's environment: heal without waiting for proof, since the lab goes as a whole."""

NOTHING: Final = "none: nothing is broken"
"""Output `faults` while none is in force."""

NOT_YET: Final = {"verdict": "no run yet", "counts": {}, "report": "", "ended": ""}
"""Outputs about the last run while there was none."""


@dataclass(frozen=True, slots=True)
class DeclaredState:
    """The faults that a stack declares, and its outputs."""

    faults: tuple[Fault, ...] = ()
    outputs: Mapping[str, object] = field(default_factory=dict)


def standing(deployment: Deployment | None) -> DeclaredState:
    """What the state says; nothing when there is no stack."""
    if deployment is None:
        return DeclaredState()
    found = [one for one in deployment.resources if one.type.endswith(TYPE)]
    return DeclaredState(tuple(read_declared(str(one.outputs["fault"])) for one in found), deployment.outputs)


def foreign(deployment: Deployment | None, lab_id: str) -> str:
    """Id of the other lab that the stack speaks of; "" when it is this one, or nothing was declared yet.

    Its faults tell too: an update that was killed has made them, and written no outputs.
    """
    if deployment is None:
        return ""
    faults = (one for one in deployment.resources if one.type.endswith(TYPE))
    said = [deployment.outputs.get("lab", ""), *(one.outputs.get("lab_id", "") for one in faults)]
    return next((str(one) for one in said if one not in ("", lab_id)), "")


def outputs_with(present: Mapping[str, object], found: Mapping[str, object] | None) -> dict[str, object]:
    """The outputs about the last run: what was `found`, else as they are, else that there was none."""
    return {name: (found or {}).get(name, present.get(name, value)) for name, value in NOT_YET.items()}


def emptied_outputs(present: Mapping[str, object]) -> dict[str, object]:
    """Outputs of a stack with no fault any more."""
    return {**present, "faults": NOTHING}


def told(fault: Fault) -> str:
    """A fault in plain words: `partition on etcd1 | etcd2,etcd3`, with what was set."""
    given = ", ".join(f"{name} {value}" for name, value in sorted(fault.params.items()))
    return f"{fault.name} on {describe(fault.groups)}" + (f" ({given})" if given else "")


def declared(fault: Fault, lab_id: str) -> str:
    """The fault as text that the engine keeps as it is: its record without what belongs to one process."""
    record = asdict(fault.record(lab_id, ""))
    for name in ("written_ns", "boot_id", "pid"):
        del record[name]
    return json.dumps(record, sort_keys=True)


def read_declared(said: str) -> Fault:
    """The fault that `declared` wrote."""
    data: dict[str, Any] = json.loads(said)
    groups = tuple(tuple(group) for group in data.pop("groups"))
    words = tuple(data.pop("words"))
    return from_record(records.Record(**data, groups=groups, words=words, written_ns=0, boot_id="", pid=os.getpid()))
