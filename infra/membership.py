"""What cannot change while a lab lives: who its members are, how they find each other, and where its machines are.

etcd keeps members and their peer addresses in its data (server/etcdserver/api/membership), and reads
`initial-cluster` at the first start only. Until the lab changes membership the way etcd wants it
done, another set of nodes means another lab. And another hypervisor has none of the volumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from infra.manifest import Manifest, load
from infra.settings import LabSettings, key_name
from machine.errors import NotBuiltError, SettingsError
from machine.paths import StackPaths


def refuse_change(settings: LabSettings, paths: StackPaths) -> None:
    """Raise SettingsError when a lab stands whose members or hypervisor are others than `settings` wants."""
    try:
        built = load(paths)
    except NotBuiltError:
        return
    problem = changed(built, settings.node_names, settings.addresses, settings.peers) or moved(built, settings)
    if problem is not None:
        raise SettingsError(problem[1], where=key_name(problem[0]), next=REMEDY)


REMEDY = "Run ./lab destroy first, or set the configuration back."


def changed(
    built: Manifest, names: Sequence[str], addresses: Sequence[IPv4Address], peers: str
) -> tuple[str, str] | None:
    """The first difference as (field of the settings, sentence); None when there is none."""
    if tuple(names) != built.node_names:
        field = "names" if len(names) == len(built.nodes) else "nodes"
        return field, (
            f"The nodes are fixed while a lab lives: it has {', '.join(built.node_names)}, "
            f"the configuration says {', '.join(names)}"
        )
    if tuple(addresses) != tuple(node.address for node in built.nodes):
        return "subnet", (
            f"The addresses of nodes are fixed while a lab lives: they lie in {built.subnet}, "
            f"and would begin at {addresses[0]}"
        )
    if peers != built.peers:
        return "peers", f"How members name each other is fixed while a lab lives: by {built.peers}, not by {peers}"
    return None


def moved(built: Manifest, settings: LabSettings) -> tuple[str, str] | None:
    """Whether the machines would be on another hypervisor, and their data not; see `changed`."""
    here = built.hypervisor
    before = here.uri if here.kind == "system" else here.kind
    after = settings.system_uri if settings.kind == "system" else settings.kind
    if before == after:
        return None
    return "hypervisor", (
        f"The hypervisor is fixed while a lab lives, as another one has none of its data: it is {before}, "
        f"and would be {after}"
    )
