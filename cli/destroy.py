"""`./lab destroy`: nothing is left, from whatever state it starts."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING

import typer

from cli.options import DEFAULT_STACK, StackOption

if TYPE_CHECKING:
    from cli.engine import Engine
    from machine.engine_state import Deployment
    from machine.paths import StackPaths


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def destroy(stack: StackOption = DEFAULT_STACK) -> None:
        """Remove the lab and all that belongs to it; its configuration stays."""
        from cli.engine import Engine
        from cli.lab import wake_hypervisor
        from machine.log import say
        from machine.paths import stack_paths

        paths = stack_paths(stack)
        started = time.monotonic()
        if never_built(paths):
            say(f"There is no lab {stack!r} here; nothing to destroy.")
            return
        engine = Engine(paths)
        engine.recover()
        deployment = engine.deployment()
        if (deployment is None or not deployment.resources) and not paths.dir.exists() and not paths.faults.exists():
            say(f"There is no lab {stack!r} here; nothing to destroy.")
            return
        from chaos.lab.lock import exclusive_use  # late: it needs all libraries, and what was never built needs none

        # what a run has under way is killed below, so there must be no run
        with exclusive_use(paths, "destroy it"):
            uri = _libvirt_uri(paths)
            for chaos in _chaos_stacks(engine):
                say(f"Destroying the verification stack {chaos.paths.stack!r} first.")
                _destroy_chaos(chaos)
            if deployment is not None and deployment.resources:
                wake_hypervisor(paths, deployment)
                _destroy(engine, own_hypervisor=bool(deployment.ids("EmbeddedHypervisor")))
            _clear(paths, uri, deployment)
        say(f"The lab {stack!r} is gone: {time.monotonic() - started:.1f} s.")


def never_built(paths: StackPaths) -> bool:
    """Whether there are neither files nor state of the lab; told without the tool chain, which may not be there yet."""
    from machine.engine_state import stack_file
    from machine.environment import has_own_login

    if paths.dir.exists() or paths.faults.exists() or has_own_login(paths.checkout):
        return False
    return not stack_file(paths.checkout / ".lab" / "state", paths.stack).exists()


def _chaos_stacks(engine: Engine) -> list[Engine]:
    """Verification stacks that declare faults on this lab: they are named like it, or begin with its name.

    Where the user's own login keeps the states, the one that chaos.stack.verification makes: named like the lab.
    """
    from cli.engine import Engine
    from machine.engine_state import CHAOS_PROJECT, stacks
    from machine.errors import LabError
    from machine.log import say
    from machine.paths import StackPaths

    own = engine.paths.stack
    if engine.backend is None:
        chaos = Engine(engine.paths, project=CHAOS_PROJECT)
        try:
            return [chaos] if chaos.deployment() is not None else []
        except LabError as error:
            say(f"Whether there is a verification stack could not be asked: {error}")
            return []
    names = [name for name in stacks(engine.backend, CHAOS_PROJECT) if name == own or name.startswith(f"{own}.")]
    return [Engine(StackPaths(engine.paths.checkout, name), project=CHAOS_PROJECT) for name in names]


def _destroy_chaos(chaos: Engine) -> None:
    """Lift the faults without waiting for proof, as the lab goes next; what cannot be lifted goes with it."""
    from chaos.stack.state import LIFT_ONLY
    from machine.errors import LabError
    from machine.log import say

    chaos.end_orphans()
    try:
        deployment = chaos.deployment()
    except LabError as error:
        say(f"The verification stack is discarded as it is, and its faults go with the lab. {error.what}")
        chaos.discard()
        return
    if deployment is not None and (deployment.built or deployment.pending):
        try:
            chaos.recover()
            chaos.update("destroy", extra={LIFT_ONLY: "1"})
        except LabError as error:
            say(f"{error} The faults go with the lab.")
    chaos.remove_stack(force=True)


def _destroy(engine: Engine, *, own_hypervisor: bool) -> None:
    """Destroy; when that fails look at what is really there, and destroy once more.

    What still fails is given up where the hypervisor is the lab's own: it goes as a whole.
    """
    from machine.errors import LabError
    from machine.log import say

    try:
        engine.update("destroy")
    except LabError:
        say("Destroying failed; comparing the state with what is there, then trying once more.")
        try:
            engine.update("refresh")
            engine.update("destroy")
        except LabError as error:
            if not own_hypervisor:
                raise
            say(f"{error} The hypervisor belongs to this lab alone, so it is removed as a whole.")
            engine.remove_stack(force=True)


def _clear(paths: StackPaths, uri: str | None, before: Deployment | None) -> None:
    """Remove what the engine does not know: libvirt's leftovers, the hypervisor, files, sockets, fault records."""
    from cli.lab import embedded
    from cli.leftovers import remove_unknown
    from machine.errors import LabError
    from machine.log import say

    hypervisor = embedded(paths)
    if hypervisor.state() != "absent":
        hypervisor.stop()
    elif uri is not None:
        try:
            remove_unknown(paths, uri, _identity_of(before), private=False)
        except LabError as error:
            say(f"What libvirt may still have could not be listed: {error}")
    for directory in (paths.dir, paths.faults, paths.run_dir):
        shutil.rmtree(directory, ignore_errors=True)
    for parent in (paths.run_dir.parent, paths.dir.parent, paths.faults.parent):
        with contextlib.suppress(OSError):  # not empty: other labs
            parent.rmdir()


def _identity_of(before: Deployment | None) -> Deployment | None:
    """What tells the lab's things in a shared libvirt; nothing else of it is in a state any more."""
    from machine.engine_state import Deployment

    return before and Deployment(tuple(one for one in before.resources if one.type.endswith(":Identity")))


def _libvirt_uri(paths: StackPaths) -> str | None:
    """URI of the system's libvirt that the lab is on, from its manifest, else from its configuration.

    None where the hypervisor is the lab's own: that one goes as a whole.
    """
    from infra.manifest import load
    from infra.settings import from_stack_file
    from machine.errors import LabError

    try:
        hypervisor = load(paths).hypervisor
        return hypervisor.uri if hypervisor.kind == "system" else None
    except LabError:
        pass
    try:
        settings = from_stack_file(paths.checkout / f"Pulumi.{paths.stack}.yaml")
    except LabError:
        return None
    return settings.system_uri if settings.kind == "system" else None
