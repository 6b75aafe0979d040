"""What faults share after which a member's data is not to be trusted: whom they may hit, how they are healed."""

from __future__ import annotations

from chaos.faults import records
from chaos.faults.base import Fault
from chaos.lab.lab import Lab
from chaos.member import replacement
from machine.errors import UsageError


def check_minority(fault: Fault, lab: Lab) -> None:
    """Raise UsageError when more members would be damaged than a quorum of the others can replace."""
    nodes = lab.manifest.nodes
    if len(fault.nodes) > len(nodes) - lab.manifest.quorum:
        raise UsageError(
            f"{fault.name} on {len(fault.nodes)} of {len(nodes)} members leaves no quorum to replace them from",
            where=f"--target {','.join(fault.nodes)}",
            next="Damage a minority; a lab of one node has none.",
        )


def replace_all(fault: Fault, lab: Lab) -> None:
    """Replace the member on each node, then forget the record: without it nobody replaces them once more."""
    for node in fault.nodes:
        replacement.replace(lab, node)
    records.remove(lab.paths, fault.id)
