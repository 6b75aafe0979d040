"""The verification stack around a stand-in of the engine, and the provider around a fault of paper."""

# ruff: noqa: ARG002, ARG005 - stand-ins have the signatures of what they stand for

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from pulumi import automation

from chaos.faults import records
from chaos.faults.base import Fault, Proof, Result
from chaos.faults.registry import KINDS
from chaos.lab.lab import Lab
from chaos.stack import resource, results
from chaos.stack.resource import FaultProvider
from chaos.stack.state import LIFT_ONLY, declared
from chaos.stack.verification import Verification
from machine.engine_state import Deployment, Resource
from machine.errors import HypervisorError, InconclusiveError, LabError, NotBuiltError, ToolError
from machine.paths import StackPaths
from tests.provider_values import UNKNOWN, check_diff, decoded, hidden

LAB_ID = "12ab34cd"
TOKEN = "pulumi-python:dynamic/chaos:Fault"


@dataclass(frozen=True)
class Paper(Fault):
    """A fault that notes what was done with it, shows as told, and breaks as told."""

    name: ClassVar[str] = "paper"
    family: ClassVar[str] = "paper"
    summary: ClassVar[str] = "nothing"
    occupies: ClassVar[str] = "paper"
    log: ClassVar[list[str]] = []
    shows: ClassVar[bool] = True
    error: ClassVar[LabError | None] = None

    def place(self, lab: Lab) -> str:
        return "paper"

    def apply(self, lab: Lab) -> None:
        self.log.append(f"apply {self.nodes}")
        if self.error:
            raise self.error

    def lift(self, lab: Lab) -> None:
        self.log.append(f"lift {self.nodes}")

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        return [Proof("it", "here", "shown", "shown" if self.shows else "nothing", self.shows)]

    def proof_seconds(self, in_force: bool) -> float:
        return 0.0


@dataclass(frozen=True)
class Beside(Paper):
    """Another that takes nothing for itself."""

    name: ClassVar[str] = "beside"
    occupies: ClassVar[str] = ""


def fault(node: str, kind: type[Paper] = Paper) -> Paper:
    return kind(((node,),))


@pytest.fixture(autouse=True)
def catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Paper, Beside):
        monkeypatch.setitem(KINDS, kind.name, kind)
    monkeypatch.setattr(Paper, "log", [])


@pytest.fixture
def paths(tmp_path: Path) -> StackPaths:
    return StackPaths(tmp_path, "t")


# -- the provider -------------------------------------------------------------------------------------------------


@pytest.fixture
def props(paths: StackPaths, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    manifest = SimpleNamespace(lab_id=LAB_ID)
    monkeypatch.setattr(resource, "load", lambda paths: manifest)
    return {
        "fault": declared(fault("etcd1"), LAB_ID), "lab_id": LAB_ID, "checkout": str(paths.checkout), "stack": "t"
    }  # fmt: skip


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.lab.lab.Cluster", lambda manifest, paths: None)


def test_create_injects_and_leaves_the_result_with_its_proof(paths: StackPaths, props: dict[str, object]) -> None:
    made = FaultProvider().create(props)
    assert made.outs is not None
    assert made.outs["proved"] is True
    [result] = results.take(paths).results
    assert (result.action, result.proved, result.id) == ("inject", True, made.id)
    assert [record.id for record in records.load_all(paths)[0]] == [made.id]


def test_a_fault_that_did_not_show_is_a_resource_all_the_same(
    paths: StackPaths, props: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Paper, "shows", False)
    made = FaultProvider().create(props)
    assert made.outs is not None
    assert made.outs["proved"] is False
    assert "NOT proved" in str(made.outs["told"])
    with pytest.raises(InconclusiveError):
        results.take(paths).results[0].require()


def test_an_injection_that_breaks_leaves_its_record_and_its_error(
    paths: StackPaths, props: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Paper, "error", ToolError("nft is gone"))
    with pytest.raises(ToolError):
        FaultProvider().create(props)
    assert "nft is gone" in str(next(iter(results.take(paths).failed.values())))
    assert len(records.load_all(paths)[0]) == 1


def test_diff_check_and_read_take_unknown_and_secret_values(props: dict[str, object]) -> None:
    """The id of the lab is not known while the stack's first preview runs, and the fault is said with it."""
    outs = dict(FaultProvider().create(props).outs or {})
    check_diff(FaultProvider().diff, outs, props, ("fault", "lab_id"))
    news = decoded(props | {"lab_id": UNKNOWN, "fault": UNKNOWN}, keep_unknowns=True)
    assert FaultProvider().check({}, news).failures == []
    read = FaultProvider().read("id", decoded(dict(hidden(outs)), keep_unknowns=False))
    assert (read.outs or {})["proved"] is True
    for key in props:
        with pytest.raises(ToolError, match=f"'{key}' of a resource is missing"):
            FaultProvider().read("id", decoded(outs | {key: UNKNOWN}, keep_unknowns=False))


def test_delete_heals_and_keeps_the_resource_when_that_does_not_show(
    paths: StackPaths, props: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    FaultProvider().create(props)
    monkeypatch.setattr(Paper, "shows", False)
    with pytest.raises(InconclusiveError, match="not seen to be gone"):
        FaultProvider().delete("id", props)
    monkeypatch.setattr(Paper, "shows", True)
    FaultProvider().delete("id", props)
    assert [result.proved for result in results.take(paths).results if result.action == "heal"] == [True]
    assert records.load_all(paths) == ([], [])


def test_delete_on_a_lab_that_is_gone_or_another_one_has_nothing_to_heal(
    props: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    FaultProvider().delete("id", {**props, "lab_id": "00000000"})

    def gone(_paths: StackPaths) -> None:
        raise NotBuiltError("There is no lab")

    monkeypatch.setattr(resource, "load", gone)
    FaultProvider().delete("id", props)
    assert Paper.log == []


def test_delete_without_proof_when_the_whole_lab_goes(
    paths: StackPaths, props: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    FaultProvider().create(props)
    monkeypatch.setattr(Paper, "shows", False)
    monkeypatch.setenv(LIFT_ONLY, "1")
    FaultProvider().delete("id", props)
    assert Paper.log[-1] == "lift ('etcd1',)"
    assert records.load_all(paths) == ([], [])


def test_read_tells_whether_it_still_holds(props: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Paper, "shows", False)
    seen = FaultProvider().read("id", props)
    assert seen.outs is not None
    assert (seen.id, seen.outs["proved"]) == ("id", False)


# -- the stack ----------------------------------------------------------------------------------------------------


class StandIn:
    """Does what the engine would do: what is declared and missing is made, what is declared no more is undone."""

    name = "organization/etcd-lab-chaos/t"

    def __init__(self, paths: StackPaths) -> None:
        self.paths = paths
        self.present: dict[str, Fault] = {}
        self.outputs: dict[str, object] = {"lab": LAB_ID}
        self.wanted: list[Fault] = []
        self.updates: list[list[str]] = []
        self.fails = False
        self.unproved = False
        self.removed = 0
        self.opened: list[list[tuple[str, str]]] = []
        self.providers = 0
        self.alive = False

    def provider(self, _engine: object) -> StandIn:
        self.providers += 1
        self.alive = True
        return self

    def open(self, shells: Iterable[tuple[str, str]]) -> None:
        """As the provider that was started for it."""
        self.opened.append(sorted(shells))

    def close(self) -> None:
        self.alive = False

    def up(self, **options: Any) -> None:
        now = {one.id: one for one in self.wanted}
        done = []
        for action, ids in (("inject", now.keys() - self.present.keys()), ("heal", self.present.keys() - now.keys())):
            for fault_id in sorted(ids):
                done.append(f"{action} {fault_id}")
                proof = Proof("it", "here", "shown", "?", not self.unproved)
                result = Result(fault_id, "paper", cast(Any, action), (("a",),), "paper", 1, 2, 3, (proof,))
                results.leave(self.paths, result)
        self.updates.append(done)
        self.present = now
        if self.fails:
            raise automation.CommandError(SimpleNamespace(stdout="", stderr="boom"))  # type: ignore[arg-type]

    def deployment(self) -> Deployment:
        kept = tuple(Resource(TOKEN, one.id, one.id, {"fault": declared(one, LAB_ID)}) for one in self.present.values())
        return Deployment(kept, outputs=self.outputs)

    def recover(self) -> bool:
        return False

    def remove_stack(self, *, force: bool) -> None:
        self.removed += 1
        self.outputs = {}


@pytest.fixture
def stack(paths: StackPaths, monkeypatch: pytest.MonkeyPatch) -> tuple[Verification, StandIn]:
    engine = StandIn(paths)
    monkeypatch.setattr("chaos.stack.verification.Engine", lambda paths, project, say: engine)
    manifest = SimpleNamespace(lab_id=LAB_ID, node_names=("etcd1", "etcd2", "etcd3"))
    lab = SimpleNamespace(paths=paths, manifest=manifest, forget=lambda node: None, kept=contextlib.ExitStack())
    monkeypatch.setattr("chaos.stack.verification.linked", lambda lab: ["etcd1", "etcd2"])
    made = Verification(cast(Lab, lab), say=lambda _line: None)
    monkeypatch.setattr(made, "_opened", lambda: engine)
    monkeypatch.setattr("chaos.stack.verification.ProviderProcess.start", engine.provider)
    real = made._program

    def program(faults: Any, kept: Any) -> Any:
        engine.wanted = list(faults)
        engine.outputs = {**engine.outputs, **kept}
        return real(faults, kept)

    monkeypatch.setattr(made, "_program", program)
    return made, engine


def test_only_the_difference_is_made_and_undone(stack: tuple[Verification, StandIn]) -> None:
    made, engine = stack
    one, two = fault("etcd1"), fault("etcd2")
    assert [result.id for result in made.set([one])] == [one.id]
    assert [result.id for result in made.set([one, two])] == [two.id]
    assert [result.action for result in made.set([two])] == ["heal"]
    assert [result.id for result in made.destroy()] == [two.id]
    assert len(engine.updates) == 4


def test_shells_are_opened_ahead_where_something_changes_and_can_be_reached(
    stack: tuple[Verification, StandIn],
) -> None:
    made, engine = stack
    made.set([fault("etcd1"), fault("etcd3")])
    made.set([fault("etcd1"), fault("etcd2")])
    made.set([fault("etcd1"), fault("etcd2")])
    made.set([fault("etcd3", Beside), fault("etcd1")])
    wanted = [["etcd1"], ["etcd2"], [], ["etcd2"]]
    assert engine.opened == [[(node, "run") for node in nodes] for nodes in wanted]
    assert engine.providers == 1


@pytest.mark.parametrize("broken", ["linked", "open"])
def test_an_update_goes_on_where_no_shells_can_be_asked_for(
    broken: str, stack: tuple[Verification, StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, engine = stack

    def refuse(*_: object) -> None:
        raise HypervisorError("it does not answer")

    if broken == "linked":
        monkeypatch.setattr("chaos.stack.verification.linked", refuse)
    else:
        monkeypatch.setattr(engine, "open", refuse)
    assert [result.action for result in made.set([fault("etcd1")])] == ["inject"]
    assert engine.opened == ([[]] if broken == "linked" else []), "what is kept is looked after all the same"


class Limit(BaseException):
    """As pytest-timeout's, which no handler of Exception sees."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Limit])
def test_a_provider_is_ended_with_an_update_that_is_broken_off(
    kind: type[BaseException], stack: tuple[Verification, StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on making the fault beside whoever mends, and be spared, as it is this process's own."""
    made, engine = stack

    def up(**_: Any) -> None:
        raise kind

    monkeypatch.setattr(engine, "up", up)
    with pytest.raises(kind):
        made.set([fault("etcd1")])
    assert (engine.providers, engine.alive) == (1, False)


def test_a_failed_engine_is_told_beside_an_injection_that_did_not_show(stack: tuple[Verification, StandIn]) -> None:
    made, engine = stack
    engine.fails = engine.unproved = True
    with pytest.raises(LabError, match="boom"):
        made.set([fault("etcd1")])


def test_a_provider_is_ended_with_the_lab_and_where_the_engine_failed(stack: tuple[Verification, StandIn]) -> None:
    """An engine that was killed leaves it at work."""
    made, engine = stack
    made.set([fault("etcd1")])
    assert engine.alive
    engine.fails = True
    with pytest.raises(LabError):
        made.set([fault("etcd2")])
    assert not engine.alive
    engine.fails = False
    made.set([fault("etcd3")])
    assert engine.alive
    made._lab.kept.close()
    assert not engine.alive
    assert engine.providers == 2


def test_a_provider_that_died_is_followed_by_another(stack: tuple[Verification, StandIn]) -> None:
    made, engine = stack
    made.prepare()
    made.set([fault("etcd1")])
    engine.alive = False
    made.set([])
    assert engine.providers == 2


def test_what_takes_the_place_of_another_is_made_after_that_is_healed(stack: tuple[Verification, StandIn]) -> None:
    made, engine = stack
    old, new = fault("etcd1"), Paper((("etcd1", "etcd2"),))
    made.set([old])
    assert [result.action for result in made.set([new])] == ["heal", "inject"]
    assert engine.updates[-2:] == [[f"heal {old.id}"], [f"inject {new.id}"]]
    made.set([])
    made.set([fault("etcd1", Beside)])
    before = len(engine.updates)
    assert {result.action for result in made.set([fault("etcd2", Beside)])} == {"inject", "heal"}
    assert len(engine.updates) == before + 1


def test_an_error_in_a_provider_is_raised_as_itself(stack: tuple[Verification, StandIn], paths: StackPaths) -> None:
    made, engine = stack
    engine.fails = True
    real = engine.up

    def up(**options: Any) -> None:
        with pytest.raises(ToolError), results.errors_left(paths, "inject", "x"):
            raise ToolError("nft is gone")
        real(**options)

    engine.up = up  # type: ignore[method-assign]
    with pytest.raises(LabError, match="nft is gone"):
        made.set([fault("etcd1")])
    assert len(made.last) == 1, "what the others did is not lost"


def test_an_engine_that_fails_for_reasons_of_its_own_is_told(stack: tuple[Verification, StandIn]) -> None:
    made, engine = stack
    engine.fails = True
    with pytest.raises(LabError, match="The engine failed"):
        made.set([fault("etcd1")])


def test_a_heal_that_did_not_show_is_the_callers_to_judge(stack: tuple[Verification, StandIn]) -> None:
    made, engine = stack
    made.set([fault("etcd1")])
    engine.fails = engine.unproved = True
    [result] = made.set([])
    assert not result.proved


def test_a_stack_of_another_lab_is_discarded(stack: tuple[Verification, StandIn]) -> None:
    made, engine = stack
    engine.outputs["lab"] = "00000000"
    made.set([fault("etcd1")])
    assert engine.removed == 1


def test_faults_of_another_lab_are_not_taken_over(stack: tuple[Verification, StandIn], tmp_path: Path) -> None:
    """As `./lab fault inject` and the end of a run do: what is declared stays. Those of a lab that is gone must not."""
    made, engine = stack
    made.set([fault("etcd1")])
    engine.outputs["lab"] = "00000000"
    assert made.standing().faults == ()
    made.finish("pass", {"pass": 1}, tmp_path / "report.json")
    assert engine.wanted == []


def test_what_a_run_found_is_said_until_the_next(stack: tuple[Verification, StandIn], tmp_path: Path) -> None:
    made, engine = stack
    one = fault("etcd1")
    made.set([one])
    made.finish("pass", {"pass": 9}, tmp_path / "report.json")
    assert made.outputs()["verdict"] == "pass"
    assert engine.updates[-1] == [], "what is in force stays"
    made.set([])
    assert made.outputs()["counts"] == {"pass": 9}
