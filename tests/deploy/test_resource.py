"""The provider as the engine calls it, with the child process replaced; and the resources under Pulumi's mocks."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dill  # type: ignore[import-untyped]
import pulumi
import pytest
from pulumi.dynamic import DiffResult
from pulumi.output import Unknown
from pulumi.runtime import rpc

from deploy import resource
from deploy.certificates import make_authority
from deploy.pki import AuthorityProvider, LeafProvider, make_pki
from deploy.plan import PkiBundle, render
from deploy.protocol import HostResult, Request, Response
from deploy.resource import EtcdClusterProvider
from infra.manifest import Manifest
from machine import etcd_binaries
from machine.errors import LabError, ToolError
from machine.etcd_binaries import EtcdBinaries
from machine.paths import StackPaths
from tests.provider_values import UNKNOWN, Props, check_diff, decoded, hidden, places, replaced, secret

INSTANCES = {"etcd1": "i-1", "etcd2": "i-2", "etcd3": "i-3"}


@pytest.fixture
def props(manifest: Manifest, pki: PkiBundle) -> Props:
    return {
        "manifest": manifest.model_dump_json(),
        "pki": pki.model_dump(),
        "source": manifest.etcd_version,
        "instances": INSTANCES,
    }


def checked(props: Props, olds: Props | None = None) -> Props:
    result = EtcdClusterProvider().check(olds or {}, props)
    assert result.failures == []
    return result.inputs


class Child:
    """Stands in for the child process; answers as `edit` makes of a perfect answer."""

    def __init__(self, edit: Callable[[Response], Response] = lambda response: response) -> None:
        self.edit = edit
        self.requests: list[Request] = []

    def __call__(self, request: Request, **_kwargs: object) -> Response:
        self.requests.append(request)
        return self.edit(
            Response(
                ok=True,
                hosts={name: HostResult(ok=True, changed=("install files",)) for name in request.plans},
                observed={name: plan.state for name, plan in request.plans.items()},
                seconds=1.5,
            )
        )


@pytest.fixture(autouse=True)
def checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where records of deployments are kept."""
    monkeypatch.setattr(resource, "CHECKOUT", tmp_path)
    return tmp_path


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Child:
    fake = Child()
    monkeypatch.setattr(resource, "run_child", fake)
    binaries = EtcdBinaries(
        Path("/c/etcd"),
        Path("/c/etcdctl"),
        Path("/c/etcdutl"),
        "3.6.16",
        {name: name[-1] * 64 for name in ("etcd", "etcdctl", "etcdutl")},
    )
    monkeypatch.setattr(etcd_binaries, "ensure", lambda _version, _say: binaries)
    return fake


@pytest.fixture
def created(props: Props, child: Child) -> Props:
    outs = EtcdClusterProvider().create(checked(props)).outs
    assert outs is not None
    return outs


def test_nothing_changes_after_create_and_no_guest_is_asked(props: Props, created: Props, child: Child) -> None:
    asked = len(child.requests)
    assert EtcdClusterProvider().diff("id", created, checked(props, created)).changes is False
    assert len(child.requests) == asked


def test_a_changed_setting_is_named(
    props: Props, created: Props, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    quota = manifest.model_copy(update={"etcd_extra": {"quota-backend-bytes": 1 << 30}})
    news = checked({**props, "manifest": quota.model_dump_json()}, created)
    assert EtcdClusterProvider().diff("id", created, news).changes is True
    assert "etcd1: /etc/etcd/etcd.yaml" in capsys.readouterr().err


def test_a_new_machine_is_deployed_to(props: Props, created: Props, capsys: pytest.CaptureFixture[str]) -> None:
    news = checked({**props, "instances": {**INSTANCES, "etcd2": "i-9"}}, created)
    assert EtcdClusterProvider().diff("id", created, news).changes is True
    assert "etcd2: another machine" in capsys.readouterr().err


@pytest.mark.parametrize("unknown_pki", [False, True])
def test_other_nodes_are_refused_before_anything_is_touched(
    props: Props, created: Props, manifest: Manifest, unknown_pki: bool
) -> None:
    fewer = {**props, "manifest": manifest.model_copy(update={"nodes": manifest.nodes[:2]}).model_dump_json()}
    if unknown_pki:  # as in a preview, when a new node has no certificates yet
        fewer["pki"] = Unknown()  # type: ignore[no-untyped-call]
    failures = EtcdClusterProvider().check(created, fewer).failures
    assert len(failures) == 1
    assert "etcd3 at 192.168.93.13" in failures[0].reason
    assert "destroy" in failures[0].reason


def test_unknown_inputs_count_as_a_change(props: Props, created: Props) -> None:
    news = checked({**props, "manifest": Unknown()}, created)  # type: ignore[no-untyped-call]
    assert EtcdClusterProvider().diff("id", created, news).changes is True


def test_refresh_sees_drift_and_the_next_diff_repairs_it(props: Props, created: Props, child: Child) -> None:
    def drift(response: Response) -> Response:
        observed = {name: dict(state) for name, state in response.observed.items()}
        observed["etcd2"]["etcd.service"] = "inactive, enabled"
        return response.model_copy(update={"observed": observed})

    child.edit = drift
    read = EtcdClusterProvider().read("id", created)
    assert child.requests[-1].mode == "observe"
    assert read.id == "id"
    assert read.outs is not None
    assert EtcdClusterProvider().diff("id", read.outs, checked(props, created)).changes is True


def test_refresh_without_drift_changes_nothing(props: Props, created: Props) -> None:
    read = EtcdClusterProvider().read("id", dict(created))
    assert read.outs == created
    assert EtcdClusterProvider().diff("id", created, checked(props, created)).changes is False


def test_refresh_of_a_lab_that_is_off_loses_nothing(
    created: Props, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_args: object, **_kwargs: object) -> Response:
        raise ToolError("no namespace")

    monkeypatch.setattr(resource, "run_child", fail)
    read = EtcdClusterProvider().read("id", created)
    assert (read.id, read.outs) == ("id", created)
    assert "no namespace" in capsys.readouterr().err


def test_a_node_that_does_not_answer_is_unknown_not_gone(props: Props, created: Props, child: Child) -> None:
    def silent(response: Response) -> Response:
        observed = {name: state for name, state in response.observed.items() if name != "etcd3"}
        return response.model_copy(update={"observed": observed})

    child.edit = silent
    read = EtcdClusterProvider().read("id", created)
    assert read.outs is not None
    assert set(read.outs["observed"]["etcd3"].values()) == {"unknown"}


def test_a_failure_is_one_paragraph_with_the_nodes_own_words(props: Props, child: Child) -> None:
    child.edit = lambda response: response.model_copy(
        update={
            "ok": False,
            "hosts": {"etcd1": HostResult(ok=False, failed="install files", stderr="No space left on device")},
        }
    )
    with pytest.raises(LabError, match=r"etcd1 failed at 'install files'[\s\S]*No space left on device"):
        EtcdClusterProvider().create(checked(props))


def test_outputs_and_errors_hold_no_key(props: Props, created: Props) -> None:
    assert "PRIVATE KEY" not in repr({key: value for key, value in created.items() if key != "pki"})
    with pytest.raises(LabError) as caught:
        EtcdClusterProvider().create({**props, "pki": {**props["pki"], "nodes": 3}})
    assert "PRIVATE KEY" not in str(caught.value)


def test_the_providers_pickle_is_a_name_without_code() -> None:
    """The engine keeps it in the state: code in it would change with every edit and Python version."""
    for provider in (EtcdClusterProvider(), LeafProvider()):
        assert len(dill.dumps(provider, protocol=pickle.DEFAULT_PROTOCOL, recurse=True)) < 200


def test_a_node_certificate_depends_on_its_own_identity(pki: PkiBundle) -> None:
    olds = {"name": "etcd1", "address": "192.168.93.11", "ca_certificate": pki.ca_certificate}
    diff = LeafProvider().diff
    assert diff("id", olds, dict(olds, ca_key="unseen")).changes is False
    for key, value in (("address", "192.168.93.21"), ("name", "etcd9"), ("ca_certificate", "other")):
        assert diff("id", olds, {**olds, key: value}).changes is True


def failing(response: Response) -> Response:
    return response.model_copy(
        update={"ok": False, "hosts": {"etcd2": HostResult(ok=False, failed="restart, turn 1", stderr="bad flag")}}
    )


def killed(_response: Response) -> Response:
    raise KeyboardInterrupt  # nobody is left who could write down what happened


def faster(props: Props, manifest: Manifest) -> Props:
    timeouts = manifest.timeouts.model_copy(update={"heartbeat_ms": 200})
    return {**props, "manifest": manifest.model_copy(update={"timeouts": timeouts}).model_dump_json()}


@pytest.mark.parametrize(("how", "error"), [(failing, LabError), (killed, KeyboardInterrupt)])
@pytest.mark.parametrize("forward", [False, True])
def test_an_update_that_did_not_finish_is_seen_though_the_setting_is_put_back(  # noqa: PLR0917 - fixtures
    props: Props,
    created: Props,
    manifest: Manifest,
    child: Child,
    how: Callable[[Response], Response],
    error: type[BaseException],
    forward: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The engine keeps the last good outputs: by them alone there is nothing to do."""
    provider, child.edit = EtcdClusterProvider(), how
    other = faster(props, manifest)
    with pytest.raises(error):
        provider.update("id", created, checked(other, created))
    child.edit = lambda response: response
    wanted = checked(other if forward else props, created)
    asked = len(child.requests)
    assert provider.diff("id", created, wanted).changes is True
    assert len(child.requests) == asked, "no guest is asked"
    said = capsys.readouterr().err
    assert "did not finish" in said
    assert ("etcd2 failed at 'restart, turn 1'" in said) == (how is failing)
    outs = provider.update("id", created, wanted).outs
    assert outs is not None
    assert provider.diff("id", outs, checked(other if forward else props, outs)).changes is False
    assert "did not finish" not in capsys.readouterr().err


def test_an_update_whose_success_the_engine_did_not_live_to_record_is_done_again(
    props: Props, created: Props, manifest: Manifest
) -> None:
    """New settings are on the nodes, old ones in the state, and the old ones are wanted."""
    provider = EtcdClusterProvider()
    provider.update("id", created, checked(faster(props, manifest), created))
    assert provider.diff("id", created, checked(props, created)).changes is True


def test_a_first_deployment_that_did_not_finish_is_begun_again(props: Props, child: Child) -> None:
    child.edit = failing
    with pytest.raises(LabError):
        EtcdClusterProvider().create(checked(props))
    child.edit = lambda response: response
    outs = EtcdClusterProvider().create(checked(props)).outs
    assert outs is not None
    assert EtcdClusterProvider().diff("id", outs, checked(props, outs)).changes is False


def test_a_refresh_does_not_hide_that_an_update_did_not_finish(
    props: Props, created: Props, manifest: Manifest, child: Child
) -> None:
    """It looks at files and units, not at whether the members are healthy."""
    provider, child.edit = EtcdClusterProvider(), failing
    with pytest.raises(LabError):
        provider.update("id", created, checked(faster(props, manifest), created))
    child.edit = lambda response: response
    seen = provider.read("id", created).outs
    assert seen is not None
    assert provider.diff("id", seen, checked(props, seen)).changes is True


def test_a_lab_that_an_older_checkout_built_is_believed(props: Props, created: Props, checkout: Path) -> None:
    StackPaths(checkout, "lab").deployment.unlink()
    old = {key: value for key, value in created.items() if key != "deployment"}
    assert EtcdClusterProvider().diff("id", old, checked(props, old)).changes is False


def test_what_cannot_be_recorded_touches_no_node(props: Props, child: Child, checkout: Path) -> None:
    (checkout / ".lab").write_text("in the way")
    with pytest.raises(LabError, match="No node was touched"):
        EtcdClusterProvider().create(checked(props))
    assert child.requests == []


def test_the_record_goes_with_the_lab(created: Props, checkout: Path) -> None:
    assert StackPaths(checkout, "lab").deployment.exists()
    EtcdClusterProvider().delete("id", created)
    EtcdClusterProvider().delete("id", created)  # from a half state
    assert not StackPaths(checkout, "lab").deployment.exists()


INPUTS = ("manifest", "pki", "source", "instances")


def test_a_diff_takes_unknown_and_secret_values_at_any_depth(props: Props, created: Props) -> None:
    provider = EtcdClusterProvider()

    def planned(id_: str, olds: Props, news: Props) -> DiffResult:
        return provider.diff(id_, olds, provider.check(olds, news).inputs)

    check_diff(planned, created, props, INPUTS)


def test_machines_that_are_yet_to_be_made_are_a_plan(
    props: Props, created: Props, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a preview of more memory hands over: instances are known only when the machines are there."""
    news = checked(decoded({**props, "instances": UNKNOWN}, keep_unknowns=True), created)
    assert EtcdClusterProvider().diff("id", created, news).changes is True
    assert "differs: machines that are made first" in capsys.readouterr().err


@pytest.mark.parametrize("value", [UNKNOWN, secret(UNKNOWN)])
def test_a_check_lets_unknown_values_pass_and_renders_secret_ones(props: Props, created: Props, value: object) -> None:
    provider, olds = EtcdClusterProvider(), decoded(created, keep_unknowns=True)
    for key in INPUTS:
        for place in places(props[key]):
            news = decoded(replaced(props, (key, *place), lambda _: value), keep_unknowns=True)
            assert provider.check(olds, news).failures == []
    news = decoded(dict(hidden(props)), keep_unknowns=True)
    found = provider.check(olds, news)
    assert found.failures == []
    assert found.inputs["desired"] == created["desired"]
    assert rpc.is_rpc_secret(found.inputs["pki"]), "what was a secret stays one"


def test_a_read_takes_secrets_and_finds_the_same(props: Props, created: Props) -> None:
    read = EtcdClusterProvider().read("id", decoded(dict(hidden(created)), keep_unknowns=False))
    assert EtcdClusterProvider().diff("id", dict(read.outs or {}), checked(props, created)).changes is False


def test_a_read_of_a_state_that_lacks_values_is_the_state_and_a_line(
    created: Props, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("manifest", "pki", "source"):
        props = decoded(replaced(created, (key,), lambda _: UNKNOWN), keep_unknowns=False)
        assert EtcdClusterProvider().read("id", props).outs == props
        assert "cannot be looked at" in capsys.readouterr().err


def test_certificates_take_unknown_and_secret_values(pki: PkiBundle) -> None:
    authority = make_authority("test")
    inputs = {
        "name": "etcd1", "address": "192.168.93.11", "roles": ["server"],
        "ca_certificate": authority.certificate, "ca_key": authority.key,
    }  # fmt: skip
    outs = dict(LeafProvider().create(decoded(dict(hidden(inputs)), keep_unknowns=False)).outs or {})
    assert "server_certificate" in outs
    check_diff(LeafProvider().diff, outs, inputs, ("name", "address", "ca_certificate"))
    news = decoded({**inputs, "common_name": UNKNOWN}, keep_unknowns=True)
    assert AuthorityProvider().diff("id", {"common_name": "x"}, news).changes is False
    assert AuthorityProvider().create({"common_name": "etcd-lab x"}).outs is not None
    for provider in (LeafProvider(), AuthorityProvider()):
        assert provider.check({}, news).inputs == news
        assert provider.read("id", outs).outs == outs


class Mocks(pulumi.runtime.Mocks):
    """Runs the real providers of the PKI, so that outputs are certificates."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[Any, Any]]:
        inputs = {key: rpc.unwrap_rpc_secret(value) for key, value in args.inputs.items() if value is not None}
        if args.typ.endswith("Authority"):
            return "ca", AuthorityProvider().create(inputs).outs or {}
        return args.name, LeafProvider().create(inputs).outs or {}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:  # noqa: ARG002
        return {}, None


def test_the_bundle_is_secret_and_fits_the_plan(manifest: Manifest) -> None:
    pulumi.runtime.set_mocks(Mocks())
    found: list[tuple[object, bool]] = []

    def program() -> None:
        bundle = make_pki({node.name: str(node.address) for node in manifest.nodes}, stack="lab").bundle

        async def collect() -> None:
            found.append((await bundle.future(), await bundle.is_secret()))

        asyncio.ensure_future(collect())  # noqa: RUF006 - the runtime waits for it

    pulumi.runtime.test(program)()  # type: ignore[no-untyped-call]
    value, secret = found[0]
    assert secret
    plans = render(manifest, PkiBundle.model_validate(value))
    assert set(plans) == {"etcd1", "etcd2", "etcd3"}
