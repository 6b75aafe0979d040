"""`./lab up`: preflight, `pulumi up`, also after an update that was killed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import typer

from cli.options import DEFAULT_STACK, StackOption

if TYPE_CHECKING:
    from cli.engine import Engine
    from infra.settings import LabSettings


SETTLE_SECONDS: Final = 8.0
"""What members get to answer after an update that found nothing to wait for, beside the time of an election: as long as
one call for health may take (infra.cluster)."""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def up(stack: StackOption = DEFAULT_STACK) -> None:
        """Build the lab, or bring it to what its configuration says."""
        from machine.paths import stack_paths

        build(stack_paths(stack).stack)


def build(stack: str) -> float:
    """Bring the lab `stack` up; seconds that it took. LabError when a member is not healthy in the end.

    Nothing is touched when configuration or machine are wrong, nor while a run plays on the lab (UsageError). Tools,
    etcd and image are got first, so that their progress is seen and their time is not the lab's.
    """
    from cli.engine import Engine
    from cli.preflight import check
    from cli.setup import prepare
    from deploy import trial
    from machine import etcd_binaries, image
    from machine.log import say
    from machine.paths import stack_paths

    paths = stack_paths(stack)
    settings = check(paths)
    prepare(stack)
    etcd = etcd_binaries.ensure(settings.etcd_version, say)
    trial.check(etcd, settings.etcd_extra, say, where=f"Pulumi.{paths.stack}.yaml")  # the program warns
    image.ensure_image(settings.image, settings.image_sha256, say)
    from chaos.lab.lock import exclusive_use  # late: it needs the libraries that were got just now

    started = time.monotonic()
    # what a run has under way would be taken for what a killed update left, and its machines for ones to revive
    with exclusive_use(paths, "build it or change it"):
        engine = Engine(paths)
        engine.select()
        half_made = engine.recover()
        _clear_leftovers(engine, settings, half_made=half_made)
        booting = _revive(engine)
        engine.update("up")
        _see_healthy(engine, booting=booting)
    seconds = time.monotonic() - started
    say(f"The lab {stack!r} is up: {seconds:.1f} s. Try ./lab status, ./lab ctl NODE get KEY, ./lab verify.")
    return seconds


def _clear_leftovers(engine: Engine, settings: LabSettings, *, half_made: bool) -> None:
    """Wake a dead embedded hypervisor; remove what libvirt has and the state does not know, and the other way round."""
    from cli.lab import embedded, wake_hypervisor
    from cli.leftovers import lost_machines, remove_unknown
    from machine.log import say

    paths = engine.paths
    deployment = engine.deployment()
    wake_hypervisor(paths, deployment)
    hypervisor = embedded(paths)
    private = hypervisor.state() == "running"  # all that it has is this lab's
    uri = hypervisor.uri if private else settings.system_uri
    if private or (half_made and settings.kind == "system"):
        remove_unknown(paths, uri, deployment, private=private)
    if deployment and (lost := lost_machines(uri, deployment)):
        say(f"libvirt has no {', '.join(lost)} any more; comparing the whole state with what is there.")
        engine.update("refresh")


def _revive(engine: Engine) -> bool:
    """What is built already must run and answer before it is updated; whether machines were switched on for that."""
    from cli.lab import open_lab
    from cli.revive import revive
    from machine.errors import NotBuiltError

    deployment = engine.deployment()
    if deployment is None or not deployment.ids("Domain"):
        return False
    try:
        lab = open_lab(engine.paths.stack)
    except NotBuiltError:
        return False
    return revive(lab, deployed=bool(deployment.ids("EtcdCluster")))


def _see_healthy(engine: Engine, *, booting: bool) -> None:
    """Ask every member; where one is not healthy though the engine is done, have it look at the nodes and repair them.

    The engine compares with what it saw last, and does not see what happened since. Raises LabError naming those
    members that are still not healthy.
    """
    from cli.lab import open_lab
    from cli.revive import HEALTHY_SECONDS, settle
    from machine.errors import DeadlineError, LabError
    from machine.log import say

    lab = open_lab(engine.paths.stack)
    # a leader that was just lost is replaced within two election timeouts, if the first vote does not fail
    patience = SETTLE_SECONDS + 4 * lab.manifest.timeouts.election_ms / 1000
    try:
        settle(lab, HEALTHY_SECONDS if booting else patience)
        return
    except DeadlineError as error:
        say(f"Not healthy: {error.last}. Comparing the state with what is on the nodes.")
    engine.update("up", "--refresh")
    lab = open_lab(engine.paths.stack)
    try:
        settle(lab, patience)
    except DeadlineError as error:
        raise LabError(
            f"The lab {lab.paths.stack!r} is built, but not every member is healthy: {error.last}",
            next="./lab logs NODE shows why; ./lab heal repairs what faults left.",
        ) from None
