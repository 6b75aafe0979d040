"""`./lab health [--from NODE]`: health of the members, as this host or as a node sees it."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_STACK, StackOption


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def health(
        viewer: Annotated[str | None, typer.Option("--from", metavar="NODE", help="As this node sees it.")] = None,
        stack: StackOption = DEFAULT_STACK,
    ) -> None:
        """Health of each member, with the reason, and what does not belong. Exit 0 only when all are healthy."""
        from cli.lab import open_lab
        from cli.status import show_findings
        from cli.terminal import line, table
        from infra.findings import observe
        from infra.view import View, view_from

        lab = open_lab(stack)
        cluster = lab.cluster()
        if viewer is None:
            view = View("this host", lab.manifest.quorum, tuple(cluster.health()))
        else:
            view = view_from(lab.manifest, lab.paths, viewer)
        seen = observe(cluster)
        view = view.beside(lab.manifest, seen)
        rows = [[m.node, "healthy" if m.healthy else "unhealthy", f"{m.seconds:.2f} s", m.reason] for m in view.members]
        table(["NODE", "HEALTH", "TOOK", "REASON"], rows)
        line(f"cluster is {view.verdict}, seen from {view.viewer}")
        if show_findings(lab.manifest, seen) or view.verdict != "healthy":
            raise typer.Exit(1)
