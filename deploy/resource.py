"""etcd on all nodes of a lab as one Pulumi resource.

`diff` asks no guest: it compares what should be (rendered in `check`, kept among the inputs as
`desired`, so that the engine shows which file of which node differs) with what was found when the
nodes were looked at last (output `observed`), and whether the deployment that the state records
(output `deployment`) is the last that began (deploy.journal): if it is not, something was left half
done, and the nodes are compared whatever the state says. Only `read`, which is `pulumi refresh`,
looks at the guests; what it finds becomes the state, and the next `up` repairs it.

The provider is importable and holds no data. Work on guests happens in a child process (deploy.child).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pulumi
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)
from pydantic import ValidationError

from deploy.journal import Journal
from deploy.pki import Pki, new_id
from deploy.plan import NodePlan, PkiBundle, differences, render
from deploy.protocol import Binary, Request, Response
from deploy.runner import raise_for, run_child
from infra.dynamic import differs, is_known, mappings
from infra.manifest import Manifest
from machine import etcd_binaries, plugin_errors
from machine.errors import LabError, NotBuiltError, SettingsError
from machine.log import say
from machine.paths import CHECKOUT, StackPaths

Props = dict[str, Any]

_INPUTS: Final = ("manifest", "pki", "source", "instances")
_BASE_SECONDS: Final = 120.0
_NODE_SECONDS: Final = 60.0
"""Limit of a run: nodes are restarted one after the other, each in about 10 s under emulation."""
_FIXED: Final = (
    "Members are fixed while a lab lives: it has {old}, the configuration says {new}. "
    "Run ./lab destroy first, or set the configuration back."
)


class EtcdClusterProvider(ResourceProvider):
    """Deploys etcd, restarts it member by member when something changed, sees drift."""

    serialize_as_secret_always = False

    def configure(self, req: ConfigureRequest) -> None:  # noqa: ARG002 - the SDK's signature
        """Called once per process."""
        plugin_errors.shorten()

    def check(self, _olds: Props, news: Props) -> CheckResult:
        """Refuse a change of membership; render what should be on each node."""
        wanted = mappings(news)
        before, after = _manifest(mappings(_olds)), _manifest(wanted)
        if before and after and _members(before) != _members(after):
            text = _FIXED.format(old=_members(before), new=_members(after))
            return CheckResult(news, [CheckFailure("manifest", text)])
        known = _known(wanted)
        if known is None:
            return CheckResult(news, [])
        return CheckResult({**news, "desired": {name: plan.state for name, plan in render(*known).items()}}, [])

    def diff(self, _id: str, _olds: Props, _news: Props) -> DiffResult:
        """Whether anything is not as it was found last, or was left half done; says what, on standard error."""
        olds, news = mappings(_olds), mappings(_news)
        found = [f"what is on the nodes is not certain: {reason}" for reason in [_unfinished(olds, news)] if reason]
        desired = news.get("desired")
        if isinstance(desired, Mapping) and is_known(desired):
            found += differences(desired, _mapping(olds.get("observed")))
        else:  # it is rendered from what is known only when other resources are made
            found.append("what belongs on the nodes is known only later")
        found += _other_machines(olds.get("instances"), news.get("instances"))
        for line in found:
            say(f"differs: {line}")
        # What a manifest says of the hypervisor or of memory is not on the nodes, but goes into the state.
        moved = any(differs(olds.get(key), news.get(key)) for key in ("manifest", "source"))
        return DiffResult(changes=bool(found) or moved)

    def create(self, props: Props) -> CreateResult:
        """Deploy; may be called again after it was killed half-way."""
        return CreateResult(new_id("etcd"), _apply(props))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Deploy what differs; members that run are restarted one by one."""
        return UpdateResult(_apply(news))

    def delete(self, _id: str, props: Props) -> None:
        """The nodes go with their machines; what goes here is the record of what was done to them."""
        manifest = _manifest(mappings(props))
        if manifest is not None:
            _journal(manifest).remove()

    def read(self, id_: str, props: Props) -> ReadResult:
        """Look at the nodes, changing nothing. A node that cannot be reached counts as unknown, not as gone."""
        try:
            bare = mappings(props)
            manifest, pki, label = _require(bare)
            plans = render(manifest, pki, label)
            digests = _mapping(bare.get("binaries"))
            known = {name: Binary(path=Path(name), sha256=str(digest)) for name, digest in digests.items()}
            response = run_child(
                Request(mode="observe", manifest=manifest, checkout=CHECKOUT, plans=plans, binaries=known), tell=_quiet
            )
            observed = response.observed
            for name, host in response.hosts.items():
                if name not in observed:
                    say(f"{name} cannot be looked at: {host.stderr or host.failed or response.error}")
        except LabError as error:
            say(f"The nodes cannot be looked at: {error}")
            return ReadResult(id_, props)
        seen = {name: observed.get(name) or _unknown(plan) for name, plan in plans.items()}
        for line in differences({name: plan.state for name, plan in plans.items()}, seen):
            say(f"drifted: {line}")
        outs = {**props, "observed": seen}
        return ReadResult(id_, outs, {**_inputs(props), "desired": seen})


def _quiet(_line: str) -> None:
    """Progress of a refresh is not worth a line each."""


def _unknown(plan: NodePlan) -> dict[str, str]:
    return dict.fromkeys(plan.state, "unknown")


def _known(props: Props) -> tuple[Manifest, PkiBundle, str] | None:
    """Parsed inputs, or None while the engine does not know them yet."""
    if not all(is_known(props.get(key)) for key in ("manifest", "pki", "source")):
        return None
    return _require(props)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _other_machines(before: object, after: object) -> list[str]:
    """Which nodes have another machine than the one deployed to, or will have one."""
    if not isinstance(after, Mapping):  # as a whole, while one of them is to be made
        return ["machines that are made first"] if differs(before, after) else []
    known = _mapping(before)
    return [f"{node}: another machine than before" for node, now in after.items() if differs(known.get(node), now)]


def _journal(manifest: Manifest) -> Journal:
    return Journal(StackPaths(CHECKOUT, manifest.stack))


def _unfinished(olds: Props, news: Props) -> str:
    """Why the state does not speak for the nodes; "" when it does."""
    manifest = _manifest(news) or _manifest(olds)
    return _journal(manifest).unfinished(olds.get("deployment")) if manifest else ""


def _require(props: Props) -> tuple[Manifest, PkiBundle, str]:
    try:
        manifest = Manifest.model_validate_json(props["manifest"])
        pki = PkiBundle.model_validate(props["pki"])
        source = str(props["source"])
    except (KeyError, ValidationError) as error:
        # The text of a ValidationError would show the input, and with it keys.
        raise NotBuiltError(
            f"The inputs of the etcd resource cannot be read ({type(error).__name__})",
            next="./lab destroy, then ./lab up.",
        ) from None
    return manifest, pki, version_label(manifest.etcd_version, source)


def _manifest(props: Props) -> Manifest | None:
    try:
        return Manifest.model_validate_json(props["manifest"])
    except (KeyError, TypeError, ValidationError):
        return None


def _members(manifest: Manifest) -> str:
    """What etcd keeps in its data, so that rendering it anew would not change it."""
    return ", ".join(f"{node.name} at {node.address}" for node in manifest.nodes) + f", by {manifest.peers}"


def version_label(version: str, source: str) -> str:
    """How a state names the binaries: `etcd 3.6.16`, with the program's digest when it is the user's own."""
    if not etcd_binaries.is_path(source):
        return f"etcd {version}"
    try:
        with (Path(source).expanduser() / "etcd").open("rb") as program:
            digest = hashlib.file_digest(program, "sha256").hexdigest()
    except OSError as error:
        raise SettingsError(
            f"{etcd_binaries.KEY} = {source!r}: {error.strerror}", next="Name a directory that holds etcd and etcdctl."
        ) from error
    return f"etcd {version} ({digest[:12]})"


def _apply(given: Props) -> Props:
    props: Props = mappings(given)
    manifest, pki, label = _require(props)
    plans = render(manifest, pki, label)
    found = etcd_binaries.ensure(props["source"], say)
    programs = found.programs()
    wanted = next(iter(plans.values())).binaries
    binaries = {name: Binary(path=programs[name], sha256=found.sha256[name]) for name in wanted}
    request = Request(
        mode="apply",
        manifest=manifest,
        checkout=CHECKOUT,
        plans=plans,
        binaries=binaries,
        seconds=_BASE_SECONDS + _NODE_SECONDS * len(plans),
    )
    journal = _journal(manifest)
    deployment = journal.begin(label)  # before anything happens on a node
    try:
        response = run_child(request)
        raise_for(response)
    except LabError as error:
        journal.failed(deployment, error)
        raise
    digests = {name: binary.sha256 for name, binary in binaries.items()}
    return {**_inputs(given), **_outputs(response, plans), "binaries": digests, "deployment": deployment}


def _inputs(props: Props) -> Props:
    return {key: props[key] for key in _INPUTS if key in props}


def _outputs(response: Response, plans: Mapping[str, NodePlan]) -> Props:
    changed = {name: list(host.changed) for name, host in response.hosts.items() if host.changed}
    return {
        "desired": {name: plan.state for name, plan in plans.items()},
        "observed": response.observed,
        "changed": changed,
        "seconds": response.seconds,
    }


class EtcdCluster(Resource, module="etcdlab", name="EtcdCluster"):
    """etcd deployed on all nodes; made when every member is healthy."""

    observed: pulumi.Output[dict[str, dict[str, str]]]
    """Node to path or unit to what was found there."""
    changed: pulumi.Output[dict[str, list[str]]]
    """Node to operations that changed something last time."""
    seconds: pulumi.Output[float]
    """How long that took."""

    def __init__(
        self,
        name: str,
        *,
        manifest: pulumi.Input[str],
        pki: Pki,
        source: str,
        instances: pulumi.Input[Mapping[str, pulumi.Input[str]]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`manifest` is its JSON; `source` the etcd version, or the directory of its programs; `instances`
        identifies the machine of each node, so that a new machine is deployed to.
        """
        props: dict[str, Any] = {
            "manifest": manifest,
            "pki": pki.bundle,
            "source": source,
            "instances": instances,
            "observed": None,
            "changed": None,
            "binaries": None,
            "deployment": None,
            "seconds": None,
        }
        super().__init__(EtcdClusterProvider(), name, props, opts)


def client_files(pki: Pki, paths: StackPaths) -> dict[str, tuple[pulumi.Output[str], bool]]:
    """Files with which this host calls etcd: name to content and whether it is private."""
    return {
        paths.ca_cert.name: (pki.authority.certificate, False),
        paths.client_cert.name: (pki.client.client_certificate, False),
        paths.client_key.name: (pulumi.Output.secret(pki.client.client_key), True),
    }
