"""`./lab sweep`: list what libvirt has and no state knows, and remove it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from machine.engine_state import Deployment
    from machine.paths import StackPaths


@dataclass(frozen=True, slots=True)
class Found:
    """One leftover with its place: which stack's hypervisor, and how it is removed."""

    stack: str
    label: str
    where: str
    ours: bool
    remove: Callable[[], None]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def sweep(
        yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
        stack: Annotated[str | None, typer.Option("--stack", metavar="NAME", help="Only this lab's.")] = None,
    ) -> None:
        """List, and after a question remove, what libvirt has and no state of this checkout knows."""
        from cli.terminal import confirm, is_interactive, line, table

        found = [one for one in leftovers() if stack in {None, one.stack}]
        if not found:
            line("Nothing is left over.")
            return
        foreign = "no, perhaps another checkout's"
        rows = [[one.stack, one.label, one.where, "yes" if one.ours else foreign] for one in found]
        table(["STACK", "WHAT", "WHERE", "OURS"], rows)
        ours = [one for one in found if one.ours]
        if not ours or not (yes or (is_interactive() and confirm(f"Remove the {len(ours)} that are ours?"))):
            line("Nothing was removed." + (" ./lab sweep --yes removes what is ours." if ours else ""))
            return
        for one in ours:
            one.remove()
            line(f"Removed {one.label}.")


def leftovers() -> Iterator[Found]:
    """What every hypervisor of this checkout has beyond its state."""
    from machine.paths import CHECKOUT, StackPaths, stack_paths

    stacks_dir = stack_paths().dir.parent
    names = {path.name for path in stacks_dir.iterdir() if path.is_dir()} if stacks_dir.is_dir() else set()
    for name in sorted(names):
        yield from _of_stack(StackPaths(CHECKOUT, name))
    yield from _of_deleted_checkouts(names)
    if not any(_has_embedded(StackPaths(CHECKOUT, name)) for name in names):
        yield from _of_system(stack_paths())


def _of_stack(paths: StackPaths) -> Iterator[Found]:
    from cli.engine import Engine
    from cli.lab import embedded

    hypervisor = embedded(paths)
    if hypervisor.state() == "absent":
        return
    deployment = Engine(paths).deployment()
    if deployment is None or not deployment.resources:
        where = str(paths.hypervisor)
        yield Found(paths.stack, f"hypervisor {hypervisor.id}", where, ours=True, remove=hypervisor.stop)
        return
    if hypervisor.state() == "running":
        yield from _listed(paths, hypervisor.uri, [deployment], private=True)


def _of_system(paths: StackPaths) -> Iterator[Found]:
    """The system's libvirt, where there is one that this user may use."""
    from cli.engine import Engine
    from machine.engine_state import PROJECT, stacks
    from machine.errors import LabError
    from machine.paths import StackPaths

    backend = Engine(paths).backend
    names = stacks(backend, PROJECT) if backend else [paths.stack]
    states = [Engine(StackPaths(paths.checkout, name)).deployment() for name in names]
    try:
        yield from _listed(paths, "qemu:///system", [one for one in states if one], private=False)
    except LabError:
        return  # no libvirt there, so nothing is left in it


def _listed(paths: StackPaths, uri: str, states: Sequence[Deployment], *, private: bool) -> Iterator[Found]:
    from cli.leftovers import find
    from machine.libvirt_api import connect

    with connect(uri) as connection:
        for one in find(connection, states, paths, private=private):
            yield Found(paths.stack, one.label, uri, one.ours, one.remove)


def _has_embedded(paths: StackPaths) -> bool:
    from cli.lab import embedded

    return embedded(paths).state() != "absent"


def _of_deleted_checkouts(names: set[str]) -> Iterator[Found]:
    """Embedded hypervisors whose checkout was deleted while they ran, or that died half."""
    from machine import orphans
    from machine.paths import CHECKOUT, StackPaths

    own = {StackPaths(CHECKOUT, name).hypervisor_id for name in names}
    for one in orphans.find(own):
        yield Found("-", f"hypervisor {one.id}", one.why, ours=not one.unknown, remove=partial(orphans.remove, one))
