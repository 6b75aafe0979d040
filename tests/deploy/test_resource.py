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
from pulumi.output import Unknown
from pulumi.runtime import rpc

from deploy import resource
from deploy.pki import AuthorityProvider, LeafProvider, make_pki
from deploy.plan import PkiBundle, render
from deploy.protocol import HostResult, Request, Response
from deploy.resource import EtcdClusterProvider
from infra.manifest import Manifest
from machine import etcd_binaries
from machine.errors import LabError, ToolError
from machine.etcd_binaries import EtcdBinaries

Props = dict[str, Any]
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
