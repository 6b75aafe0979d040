"""`./lab status`: the endpoint table, as `etcdctl endpoint status -w table --cluster` draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cli.options import DEFAULT_STACK, StackOption

if TYPE_CHECKING:
    from infra.cluster import EndpointStatus
    from infra.findings import Observed
    from infra.manifest import Manifest

COLUMNS = (
    "NODE",
    "ENDPOINT",
    "ID",
    "VERSION",
    "DB SIZE",
    "IS LEADER",
    "IS LEARNER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ERRORS",
)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def status(stack: StackOption = DEFAULT_STACK) -> None:
        """Status of each member, and what does not belong. Exit 0 when all answer and the members are the lab's."""
        from cli.lab import open_lab
        from cli.terminal import table
        from infra.findings import observe

        lab = open_lab(stack)
        seen = observe(lab.cluster())
        table(COLUMNS, [row(lab.manifest, one) for one in seen.statuses])
        if show_findings(lab.manifest, seen) or not all(one.ok for one in seen.statuses):
            raise typer.Exit(1)


def show_findings(manifest: Manifest, seen: Observed) -> bool:
    """Say what is not as the lab describes it, each with the command that repairs it; whether something is grave."""
    from cli.terminal import line
    from infra.findings import examine, graves

    found = examine(manifest, seen)
    for one in found:
        line(f"{'!' if one.grave else '-'} {one}")
    return bool(graves(found))


def row(manifest: Manifest, one: EndpointStatus) -> list[str]:
    """One member's cells; a member that does not answer has its reason in the last."""
    node = manifest.node(one.node)
    endpoint = f"{node.address}:2379"
    if not one.ok:
        return [one.node, endpoint, *["-"] * 8, one.error]
    return [
        one.node,
        endpoint,
        f"{one.member_id:x}" if isinstance(one.member_id, int) else str(one.member_id),
        one.version,
        size(one.db_size),
        yes_no(one.leader),
        yes_no(one.learner),
        str(one.raft_term),
        str(one.raft_index),
        str(one.raft_applied_index),
        ", ".join(one.errors),
    ]


def yes_no(value: bool) -> str:
    """As etcdctl writes it."""
    return "true" if value else "false"


def size(count: int) -> str:
    """Bytes as etcdctl writes them: powers of ten, two digits.

    >>> size(20480), size(999), size(5_300_000)
    ('20 kB', '999 B', '5.3 MB')
    """
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if value < 10 and unit != "B" else f"{value:.0f} {unit}"
