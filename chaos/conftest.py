"""`pytest chaos/`: the lab from its manifest, one run at a time, every scenario recorded, mended and judged."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chaos.evidence.sources import Missing
from chaos.harness import artefacts, end_checks
from chaos.harness.declare import Declared
from chaos.harness.lab_run import LabRun
from chaos.harness.scenario_run import ScenarioRun
from chaos.heal.heal import heal_lab, leftovers
from chaos.lab.lab import Lab
from chaos.lab.lock import exclusive_use
from chaos.measure.calibration import Calibration, calibrate
from chaos.measure.measures import Measures
from chaos.measure.preflight import missing_sources
from chaos.report import EXIT_CODES, Recorder, Scenario, ScenarioRecorder
from chaos.stack.state import told as told_of
from chaos.workload.client import Endpoint
from chaos.workload.plan import DEFAULT, NONE, VARIABLE, Plan
from chaos.workload.pool import Pool
from infra.cluster import EndpointStatus
from infra.findings import Finding, examine, graves, observe
from infra.manifest import load
from machine.errors import LabError, UsageError
from machine.log import say
from machine.paths import DEFAULT_STACK, stack_paths
from machine.surroundings import adopt

if TYPE_CHECKING:  # it loads the engine's SDK, which collecting and scenarios without faults do without
    from chaos.stack.verification import Verification

STACK_VARIABLE = "ETCD_LAB_STACK"

SEED_IDS = tuple(f"S{number}" for number in range(3, 12))
FAMILIES = (
    "power",
    "network",
    "access",
    "status",
    "promises",
    "disk",
    "data",
    "oracle",
    "clock",
    "names",
    "random",
    "process",
    "etcd",
)

STEADY_SECONDS = 60.0
"""How long the cluster may take to be healthy before a scenario starts; it was left healthy by the one before."""

HEALTHY_SECONDS = 180.0

INTERRUPTED = 130
"""Exit status after Ctrl-C; pytest's own, 2, is also that of a run without a lab."""


class _Interrupts:
    """Tells Ctrl-C from pytest.exit, which calls the same hook."""

    seen = False

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.seen = self.seen or isinstance(excinfo.value, KeyboardInterrupt)


_INTERRUPTS = pytest.StashKey[_Interrupts]()
_RECORDER = pytest.StashKey[Recorder]()
_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--stack NAME`, `--workload PROFILE`, `--seed N`, `--sequences N`, `--cuts PLACE`."""
    # its words are taken for ours: a wrong one is reported with where it comes from
    parser.extra_info |= {name: value for name, value in os.environ.items() if name == "PYTEST_ADDOPTS" and value}
    parser.addoption("--stack", default=None, metavar="NAME", help="which lab of this checkout (default: lab)")
    parser.addoption(
        "--workload",
        default=None,
        metavar="PROFILE[,KEY=VALUE]…",
        help="clients at work all through each scenario; none: no clients and no checks, for exploring",
    )
    parser.addoption("--seed", type=int, default=None, metavar="N", help="seed of the first random sequence")
    parser.addoption("--sequences", type=int, default=3, metavar="N", help="how many random sequences (default: 3)")
    parser.addoption(
        "--cuts",
        choices=("auto", "guest"),
        default="auto",
        help="where random sequences cut: guest, or auto (at the bridge where it is ours; default)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The environment that the lab decides for what it starts; marks: one per scenario id and family."""
    if not __debug__:  # pytest keeps the assertions of test modules, but steps that scenarios share have some too
        raise pytest.UsageError(
            "Python runs without assertions (-O, or the variable PYTHONOPTIMIZE), so that no scenario could fail."
            " Unset PYTHONOPTIMIZE and run it again."
        )
    adopt()
    config.stash[_INTERRUPTS] = _Interrupts()
    config.pluginmanager.register(config.stash[_INTERRUPTS], "etcd-lab-interrupts")
    for name in sorted({*SEED_IDS, *declared_ids()}):
        config.addinivalue_line("markers", f"{name}: the scenario of this id")
    for name in FAMILIES:
        config.addinivalue_line("markers", f"{name}: scenarios about {name}")


def declared_ids() -> set[str]:
    """Ids that the scenarios beside this file declare: marks must be known before their modules are read."""
    texts = (path.read_text() for path in Path(__file__).parent.glob("scenarios/test_*.py"))
    return {found for text in texts for found in re.findall(r'^@scenario\(\s*"([^"]+)"', text, re.M)}


@pytest.fixture(scope="session")
def recorder(request: pytest.FixtureRequest) -> Recorder:
    """The report of this run."""
    begun = Recorder.begin()
    request.config.stash[_RECORDER] = begun
    say(f"\nReport: {begun.dir / 'report.json'}")
    return begun


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab of `--stack`, opened; old faults are healed first. Ends the run with status 2 when there is none."""
    stack = request.config.getoption("--stack") or os.environ.get(STACK_VARIABLE) or DEFAULT_STACK
    with ExitStack() as held:
        try:
            paths = stack_paths(stack)
            manifest = load(paths)
            held.enter_context(exclusive_use(paths, "play scenarios"))
        except LabError as error:
            pytest.exit(str(error), returncode=2)
        opened = held.enter_context(Lab(manifest, paths))
        # only now: a run without a lab leaves no report
        request.getfixturevalue("recorder").set_lab(manifest)
        if old := leftovers(paths):
            say(f"Faults of an earlier run are still on record ({'; '.join(old)}): healing first.")
            heal_lab(opened)
        yield opened


@pytest.fixture(scope="session")
def lab_run(lab: Lab) -> Iterator[LabRun]:
    """What this run keeps open on the lab: clients, lease renewals, readings."""
    with LabRun(lab) as run:
        yield run


@pytest.fixture(scope="session")
def verification(lab: Lab, recorder: Recorder) -> Iterator[Verification]:
    """The verification stack of the lab; at the end it says what the run found."""
    # collecting, and scenarios that break nothing, do without the engine's SDK
    from chaos.stack.verification import Verification  # noqa: PLC0415

    stack = Verification(lab)
    if left := stack.standing().faults:  # declared, and without a record
        say(f"The verification stack still declares {'; '.join(map(told_of, left))}: healing first.")
        heal_lab(lab)
    stack.prepare()
    yield stack
    verdicts: list[str] = [one.verdict for one in recorder.report.scenarios]
    counts = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    try:
        stack.finish(recorder.report.judge(), counts, recorder.dir / "report.json")
    except LabError as error:  # the report is what counts
        say(f"The verification stack does not say what was found: {error}")


@pytest.fixture(scope="session")
def calibration(lab_run: LabRun, recorder: Recorder) -> Calibration:
    """The machine as it is before anything is broken."""
    with suppress(LabError):  # a lab that is not healthy shows in its first scenario
        lab_run.lab.cluster.wait_healthy(STEADY_SECONDS)
    found = calibrate(lab_run.lab, lab_run.clients)
    recorder.report.calibration = found.as_json()
    recorder.write()
    say(f"Calibration: {found}")
    return found


@pytest.fixture(scope="session")
def missing(lab: Lab, recorder: Recorder, calibration: Calibration) -> list[Missing]:  # noqa: ARG001 - healthy first
    """Sources of evidence that this lab lacks: named before anything is broken, and in the report."""
    found = missing_sources(lab)
    recorder.report.evidence = [one.as_json() for one in found]
    recorder.write()
    for one in found:
        say(f"Evidence: {one.full}. {one.next}".rstrip())
    return [one for one in found if one.known]


@pytest.fixture(scope="session")
def workload(request: pytest.FixtureRequest) -> Plan:
    """What `--workload` asks for; ends the run with status 2 when it cannot be understood."""
    try:
        return Plan.parse(request.config.getoption("--workload") or os.environ.get(VARIABLE) or DEFAULT)
    except UsageError as error:
        pytest.exit(str(error), returncode=2)


@pytest.fixture(scope="session")
def workers(lab: Lab, workload: Plan) -> Iterator[Pool]:
    """The workers, one for each member, if there are to be any; none is started before a workload begins."""
    names = lab.manifest.node_names if workload.profile != NONE else ()
    pool = Pool([Endpoint.of(lab.manifest, lab.paths, node) for node in names])
    try:
        yield pool
    finally:
        pool.close()


@pytest.fixture
def scenario(  # noqa: PLR0917 - what pytest hands in
    request: pytest.FixtureRequest,
    lab_run: LabRun,
    recorder: Recorder,
    verification: Verification,
    workers: Pool,
    workload: Plan,
    calibration: Calibration,
    missing: list[Missing],
) -> Iterator[ScenarioRun]:
    """One scenario: healthy before, clients at work, recorded, healed and healthy after, and what they saw checked."""
    declared: Declared = request.param
    scenario_recorder = ScenarioRecorder(recorder, Scenario(id=declared.id, title=declared.title))
    play = ScenarioRun(lab_run, scenario_recorder, verification)
    play.machine = calibration.machine
    play.missing = missing
    measured = ExitStack()
    started = time.monotonic()
    failed = True
    steady = False
    try:
        with play.precondition("steady state before", "the lab's members, all healthy") as step:
            step.observed(steady_state(play.lab))
        steady = True
        play.measures = measured.enter_context(Measures(play.lab, lab_run.pages, scenario_recorder, missing))
        end_checks.begin(play, workers, workload, declared.workload)
        yield play
        failed = request.node.stash.get(_FAILED, True)
    finally:
        healthy = False
        try:
            if steady:
                _mend(play, failed=failed)
                healthy = True
            else:  # nothing was begun, and waiting for a healthy cluster would blame etcd for what it was before
                artefacts.collect(play.lab, play.recorder.artefacts_dir)
            if play.measures is not None and scenario_recorder.scenario.faults:
                play.measures.phase_ends("after")
        finally:
            try:
                end_checks.conclude(play, healthy=healthy)
            except BaseException:
                failed = True
                raise
            finally:
                measured.close()  # after the history was written
                scenario_recorder.finish(time.monotonic() - started, failed=failed)


def steady_state(lab: Lab) -> str:
    """Wait for a healthy cluster of the lab's members and no others; in words.

    Raises LabError naming what is amiss, which makes a scenario inconclusive: what would come of it says nothing about
    the cluster that the lab describes. What no wait puts right is not waited for.
    """
    _require_described(lab, but=("no quorum", "missing member"))
    statuses = lab.cluster.wait_healthy(STEADY_SECONDS)
    notes = [one.what for one in _require_described(lab)]
    return "; ".join([told(statuses), *notes])


def _require_described(lab: Lab, but: Sequence[str] = ()) -> list[Finding]:
    """Raise LabError when the cluster is not as described, `but` for kinds that may pass; else what is worth saying."""
    found = [one for one in examine(lab.manifest, observe(lab.cluster)) if one.kind not in but]
    if grave := graves(found):
        raise LabError(f"The cluster is not as the lab describes it: {'; '.join(map(str, grave))}")
    return found


def told(statuses: list[EndpointStatus]) -> str:
    """Status of healthy members in a few words."""
    leader = next((one.node for one in statuses if one.leader), "nobody")
    terms = ", ".join(sorted({str(one.raft_term) for one in statuses}))
    return f"{len(statuses)} healthy, {leader} leads in term {terms}"


def _mend(play: ScenarioRun, *, failed: bool) -> None:
    """Keep the evidence, heal what is in force, and leave the cluster healthy."""
    if failed:
        artefacts.collect(play.lab, play.recorder.artefacts_dir)
    trouble: LabError | None = None
    try:
        play.heal_all()
    except LabError as error:
        trouble = error
    with play.step("healed and healthy after", "every member is healthy") as step:
        if trouble is not None or leftovers(play.lab.paths):
            heal_lab(play.lab)
        step.observed(told(play.lab.cluster.wait_healthy(HEALTHY_SECONDS)))
    if trouble is not None:
        raise trouble


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:  # noqa: ANN401, ARG001
    """Tell the fixture how the test itself went."""
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Never end with 0 when a scenario is inconclusive; 3 when nothing worse happened; 130 when interrupted."""
    recorder = session.config.stash.get(_RECORDER, None)
    if recorder is None:
        return
    verdict = recorder.report.judge()
    interrupted = session.config.stash[_INTERRUPTS].seen
    page = recorder.finish(early=interrupted)
    say(f"\nVerdict: {verdict}. Report: {page or recorder.dir / 'report.json'}")
    played = session.testscollected and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    if interrupted:
        session.exitstatus = INTERRUPTED
    elif played and (verdict == "inconclusive" or exitstatus == pytest.ExitCode.OK):
        session.exitstatus = EXIT_CODES[verdict]
    recorder.close()
