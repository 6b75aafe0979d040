"""`./lab health [--from NODE]`: health of the members, as this host or as a node sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_STACK, StackOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.cluster import MemberHealth
    from infra.manifest import Manifest


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def health(
        viewer: Annotated[str | None, typer.Option("--from", metavar="NODE", help="As this node sees it.")] = None,
        stack: StackOption = DEFAULT_STACK,
    ) -> None:
        """Health of each member, with the reason. Exit 0 only when all are healthy."""
        from cli.lab import open_lab
        from cli.terminal import line, table

        lab = open_lab(stack)
        if viewer is None:
            found = list(lab.cluster().health())
        else:
            from infra.view import view_from

            lab.manifest.node(viewer)
            found = list(view_from(lab.manifest, lab.paths, viewer).members)
        rows = [[m.node, "healthy" if m.healthy else "unhealthy", f"{m.seconds:.2f} s", m.reason] for m in found]
        table(["NODE", "HEALTH", "TOOK", "REASON"], rows)
        line(f"cluster is {verdict(lab.manifest, found)}{f' as {viewer} sees it' if viewer else ''}")
        if not all(member.healthy for member in found):
            raise typer.Exit(1)


def verdict(manifest: Manifest, members: Sequence[MemberHealth]) -> str:
    """healthy: all members are; degraded: a quorum is; unavailable: less than that.

    The words of etcd's v2 `cluster-health`, which the source article used.
    """
    healthy = sum(member.healthy for member in members)
    if healthy == len(manifest.nodes):
        return "healthy"
    return "degraded" if healthy >= manifest.quorum else "unavailable"
