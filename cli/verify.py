"""`./lab verify`: the main job. Build the lab, play the failures, write the report, leave the lab up and healthy."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_STACK, StackOption

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.report import Recorder, ScenarioRecorder
    from cli.lab import OpenLab

DEFAULT_SCENARIOS = "seed"

PYTEST_NOTHING_RAN = {4: "refuses this expression", 5: "finds no such scenario"}
"""pytest.ExitCode: USAGE_ERROR, NO_TESTS_COLLECTED."""

PYTEST_REFUSED = 2
"""What chaos/conftest.py ends with when the lab is not there or another run plays on it."""


PYTEST_INTERRUPTED = 130
"""What it ends with after Ctrl-C, which the terminal gives to pytest alone."""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def verify(
        scenarios: Annotated[
            str, typer.Option("--scenarios", metavar="EXPR", help="Which scenarios, by pytest mark: seed, quick, slow.")
        ] = DEFAULT_SCENARIOS,
        workload: Annotated[
            str,
            typer.Option(
                "--workload",
                metavar="PROFILE[,KEY=VALUE]…",
                help="Clients at work all through each scenario; none: no clients and no checks, for exploring.",
            ),
        ] = "",
        stack: StackOption = DEFAULT_STACK,
    ) -> None:
        """Set up what is missing, build the lab, break it in proven ways, report. The lab stays up."""
        choose_workload(workload)
        raise typer.Exit(run(stack, scenarios))


def run(stack: str, scenarios: str) -> int:
    """The whole job; its exit status, from the report: 0 pass, 1 fail, 3 inconclusive."""
    from chaos.report import Recorder, exit_code
    from cli.preflight import check
    from machine.errors import LabError, UsageError
    from machine.log import say
    from machine.paths import stack_paths

    paths = stack_paths(stack)
    started = time.monotonic()
    check(paths)
    refuse_without_scenarios(scenarios)
    recorder = Recorder.begin()
    say(f"Report: {recorder.dir}")
    try:
        _build(recorder, stack, started)
        status = play(recorder.dir, stack, scenarios)
        if status == PYTEST_INTERRUPTED:
            raise KeyboardInterrupt
        recorder = reread(recorder)
        _finish(recorder, stack, started)
    except LabError:
        recorder.finish()
        raise
    except BaseException:
        page = reread(recorder).finish(early=True)
        say(f"Interrupted. What was seen until then: {page or recorder.dir / 'report.json'}")
        raise
    summary(recorder, time.monotonic() - started)
    if status == PYTEST_REFUSED:
        raise UsageError("The scenarios did not start", next="The reason stands above.")
    return exit_code(recorder.report.verdict) or int(status != 0)


def reread(recorder: Recorder) -> Recorder:
    """The report as the scenarios left it."""
    from chaos.report import Recorder, load

    return Recorder(recorder.dir, load(recorder.dir))


def choose_workload(text: str) -> None:
    """Hand `--workload` down to the scenarios; UsageError, before anything is built, when it is not understood."""
    import os

    from chaos.workload.plan import VARIABLE, Plan

    if text:
        Plan.parse(text)
        os.environ[VARIABLE] = text


def refuse_without_scenarios(scenarios: str) -> None:
    """UsageError, before anything is built, when pytest refuses the expression or finds nothing by it."""
    from machine.errors import UsageError
    from machine.paths import CHECKOUT
    from machine.process import run

    argv = [sys.executable, "-m", "pytest", "chaos/", "--collect-only", "--quiet", "-m", scenarios]
    status = run(argv, seconds=60, check=False, cwd=CHECKOUT).status
    if status in PYTEST_NOTHING_RAN:
        raise UsageError(
            f"pytest {PYTEST_NOTHING_RAN[status]}",
            where=f"--scenarios {scenarios!r}",
            next="Name marks, such as seed or 'seed and not slow'; pytest chaos/ --collect-only lists the scenarios.",
        )


def _build(recorder: Recorder, stack: str, started: float) -> None:
    """S1 and S2: from what is there to a healthy cluster, each step measured."""
    from chaos.report import Scenario, ScenarioRecorder
    from cli.lab import open_lab
    from cli.up import build
    from machine.errors import LabError

    first = ScenarioRecorder(recorder, Scenario(id="S1", title="One command on this machine, nothing typed in between"))
    try:
        with first.step("set up and build", "a lab that is up, without a question asked") as step:
            up_seconds = build(stack)
            setup_seconds = time.monotonic() - started - up_seconds
            step.observed(f"checks and set-up {setup_seconds:.1f} s, pulumi up {up_seconds:.1f} s")
        first.metric("setup_seconds", round(setup_seconds, 1))
    finally:
        first.finish(time.monotonic() - started)

    lab = open_lab(stack)
    recorder.set_lab(lab.manifest)
    title = "pulumi up: network, machines, etcd, a healthy cluster"
    second = ScenarioRecorder(recorder, Scenario(id="S2", title=title))
    second.metric("up_seconds", round(up_seconds, 1))
    try:
        _machines(second, lab)
        expected = f"{len(lab.manifest.nodes)} members of version {lab.manifest.etcd_version}"
        with second.step("endpoint status over mutual TLS", expected) as step:
            found = lab.cluster().status(10.0)
            step.observed("; ".join(f"{one.node} {one.version if one.ok else one.error}" for one in found))
            if not all(one.ok for one in found):
                raise LabError("Not all members answer", next="See ./lab health and ./lab logs NODE.")
        with second.step("health", "all members healthy") as step:
            step.observed(healthy_or_fail(stack))
    finally:
        second.finish(up_seconds)


def _machines(recorder: ScenarioRecorder, lab: OpenLab) -> None:
    from machine.errors import LabError
    from machine.libvirt_api import connect, domain_state

    with (
        recorder.step("machines", f"{len(lab.manifest.nodes)} running") as step,
        connect(lab.manifest.hypervisor.uri) as connection,
    ):
        states = {node.name: domain_state(connection, node.domain) for node in lab.manifest.nodes}
        step.observed(", ".join(f"{name} {state}" for name, state in states.items()))
        if set(states.values()) != {"running"}:
            raise LabError("Not all machines run", next="See ./lab start.")


def healthy_or_fail(stack: str) -> str:
    """Health of all members in words; LabError when one is not healthy."""
    from cli.lab import open_lab
    from machine.errors import LabError

    members = open_lab(stack).cluster().health()
    words = "; ".join(f"{m.node} {'healthy' if m.healthy else m.reason}" for m in members)
    if not all(member.healthy for member in members):
        raise LabError(f"Not all members are healthy: {words}", next="See ./lab health and ./lab logs NODE.")
    return words


def play(directory: Path, stack: str, scenarios: str) -> int:
    """Run `pytest chaos/` in a child that goes on with the report in `directory`; its exit status."""
    from cli import foreground
    from cli.terminal import is_terminal, show_cursor
    from machine.paths import CHECKOUT

    argv = [sys.executable, "-m", "pytest", "chaos/", "-m", scenarios, "--junit-xml", str(directory / "junit.xml")]
    if not is_terminal():
        return foreground.run(argv, env=scenario_env(stack, directory), cwd=CHECKOUT)
    try:
        return foreground.run([*argv, "-p", "cli.live"], env=scenario_env(stack, directory), cwd=CHECKOUT)
    finally:
        show_cursor()  # a child that was killed had no time to


def scenario_env(stack: str, directory: Path) -> Mapping[str, str]:
    """Environment of the scenarios: the engine's, the lab they are about, the run they belong to."""
    from chaos.report import RUN_VARIABLE
    from machine.environment import pulumi_env
    from machine.surroundings import for_all

    return {**for_all(), **pulumi_env(stack), "ETCD_LAB_STACK": stack, RUN_VARIABLE: str(directory)}


def _finish(recorder: Recorder, stack: str, started: float) -> None:
    """The last step of S1: the lab stays up, and is healthy."""
    from chaos.report import ScenarioRecorder
    from machine.errors import LabError

    scenario = next(one for one in recorder.report.scenarios if one.id == "S1")
    first = ScenarioRecorder(recorder, scenario)
    try:
        with first.step("at the end", "the lab is up, all members healthy") as step:
            step.observed(healthy_or_fail(stack))
    except LabError:
        pass  # recorded: the report's verdict is fail now
    first.finish(time.monotonic() - started)


def summary(recorder: Recorder, seconds: float) -> None:
    """Print the verdict and its reasons in under 40 lines, and where the report is."""
    from chaos.report.runs import open_run
    from chaos.report.summary import lines
    from cli.terminal import columns, line

    page = recorder.finish()
    for text in lines(open_run(recorder.dir), seconds, columns()):
        line(text)
    line(f"report: {recorder.dir / 'report.json'}")
    if page is not None:
        line(f"page: {page}")
