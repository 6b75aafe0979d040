"""What a hypervisor has and no state knows: the remains of killed updates and of failed creates.

They must go before the next update: the libvirt provider adopts a volume of the same name with its
old data (references/infrastructure.md, section 5), and refuses a domain, network or pool of the same name.
The provider's ids are libvirt's own: the UUID, and for a volume its key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, cast

from machine.log import Say, say

if TYPE_CHECKING:
    from machine.engine_state import Deployment
    from machine.libvirt_api import Connection
    from machine.paths import StackPaths

Kind = Literal["domain", "network", "pool", "volume"]

PREFIX = "etcdlab-"
"""Every libvirt name of ours begins so."""

REMOVE_SECONDS = 30.0
"""Limit for removing leftovers; libvirt ends the jobs of a client that died within a second or two."""

_KEY_END = ";"
"""In a lab built before decision 0012 a seed's id is its volume's key, this, and a UUID (terraform-provider-libvirt,
cloudinit_def.go); its volume must not be taken for left over while its machine runs."""

_UNDEFINE_ALL = 1 | 2 | 4 | 16  # virDomainUndefineFlags: managed save, snapshots metadata, NVRAM, checkpoints


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that libvirt has: its kind, name and id; `ours`: it surely belongs to this stack."""

    kind: Kind
    name: str
    id: str
    ours: bool
    remove: Callable[[], None]

    @property
    def label(self) -> str:
        """How it is named to people."""
        return f"{self.kind} {self.name}"


class _Thing(Protocol):
    def name(self) -> str: ...
    def UUIDString(self) -> str: ...  # noqa: N802
    def XMLDesc(self, flags: int = 0) -> str: ...  # noqa: N802
    def isActive(self) -> int: ...  # noqa: N802
    def destroy(self) -> int: ...
    def undefine(self) -> int: ...
    def undefineFlags(self, flags: int) -> int: ...  # noqa: N802


class _Volume(Protocol):
    def name(self) -> str: ...
    def key(self) -> str: ...
    def delete(self, flags: int = 0) -> int: ...


class _Pool(_Thing, Protocol):
    def refresh(self, flags: int = 0) -> int: ...
    def listAllVolumes(self, flags: int = 0) -> list[_Volume]: ...  # noqa: N802


class _Lister(Protocol):
    def listAllDomains(self, flags: int = 0) -> list[_Thing]: ...  # noqa: N802
    def listAllNetworks(self, flags: int = 0) -> list[_Thing]: ...  # noqa: N802
    def listAllStoragePools(self, flags: int = 0) -> list[_Pool]: ...  # noqa: N802


def find(connection: Connection, states: Sequence[Deployment], paths: StackPaths, *, private: bool) -> list[Leftover]:
    """What the hypervisor has of ours that none of `states` knows, in the order in which it must be removed.

    `private`: the hypervisor is this stack's own, so all that it has is ours. Otherwise what carries a lab id
    that a state knows is, and what goes with a machine whose console file lies in the stack's directory; the
    rest may belong to another checkout, and is listed with `ours` false.
    """
    lister = cast("_Lister", connection)
    known = {resource.id.partition(_KEY_END)[0] for deployment in states for resource in deployment.resources}
    domains = [(domain, domain.XMLDesc()) for domain in lister.listAllDomains()]
    pools = [(pool, pool.XMLDesc()) for pool in lister.listAllStoragePools()]
    here = str(paths.dir)
    lab_ids = {_lab_id(thing.name()) for thing, xml in [*pools, *domains] if here in xml}
    lab_ids |= {lab_id for deployment in states for lab_id in deployment.ids("Identity")}

    def ours(thing: _Thing) -> bool:
        return private or (thing.name().startswith(PREFIX) and _lab_id(thing.name()) in lab_ids)

    def wanted(thing: _Thing) -> bool:
        return thing.UUIDString() not in known and (private or thing.name().startswith(PREFIX))

    found = [_domain(domain, ours=ours(domain)) for domain, _ in domains if wanted(domain)]
    found += [_plain("network", network, ours=ours(network)) for network in lister.listAllNetworks() if wanted(network)]
    for pool, _ in pools:
        if ours(pool):
            found += _volumes(pool, known)
        if wanted(pool):
            found.append(_plain("pool", pool, ours=ours(pool)))
    return found


def remove_unknown(paths: StackPaths, uri: str, deployment: Deployment | None, *, private: bool, say: Say = say) -> int:
    """Remove what is surely ours and in no state; how many things that were.

    Tried again for a while: a volume cannot go before libvirt has noticed that its writer was killed.
    """
    from machine.errors import HypervisorError
    from machine.libvirt_api import connect
    from machine.waiting import Pending, wait_until

    states = [deployment] if deployment else []
    removed = 0

    def attempt() -> None:
        nonlocal removed
        try:
            with connect(uri) as connection:
                for one in find(connection, states, paths, private=private):
                    if one.ours:
                        say(f"Removing what no state knows: {one.label}.")
                        one.remove()
                        removed += 1
        except HypervisorError as error:
            raise Pending(str(error)) from error

    wait_until(attempt, "Removing what no state knows", seconds=REMOVE_SECONDS, where=uri, next="See ./lab sweep.")
    return removed


def lost_machines(uri: str, deployment: Deployment) -> list[str]:
    """Names of machines that the state has and libvirt does not; `up` alone would not look for them."""
    from machine.libvirt_api import connect

    wanted = {resource.id: resource.name for resource in deployment.resources if resource.type.endswith(":Domain")}
    if not wanted:
        return []
    with connect(uri) as connection:
        there = {domain.UUIDString() for domain in cast("_Lister", connection).listAllDomains()}
    return sorted(name for uuid, name in wanted.items() if uuid not in there)


def _volumes(pool: _Pool, known: Set[str]) -> Iterator[Leftover]:
    if not pool.isActive():
        return
    pool.refresh()
    for volume in pool.listAllVolumes():
        if volume.key() not in known:
            yield Leftover("volume", volume.name(), volume.key(), ours=True, remove=_deleter(volume))


def _domain(domain: _Thing, *, ours: bool) -> Leftover:
    def remove() -> None:
        if domain.isActive():
            domain.destroy()
        domain.undefineFlags(_UNDEFINE_ALL)

    return Leftover("domain", domain.name(), domain.UUIDString(), ours, remove)


def _plain(kind: Kind, thing: _Thing, *, ours: bool) -> Leftover:
    def remove() -> None:
        if thing.isActive():
            thing.destroy()
        thing.undefine()

    return Leftover(kind, thing.name(), thing.UUIDString(), ours, remove)


def _deleter(volume: _Volume) -> Callable[[], None]:
    def remove() -> None:
        volume.delete()

    return remove


def _lab_id(name: str) -> str:
    """The lab id in one of our names: `etcdlab-LABID` or `etcdlab-LABID-NODE`."""
    return name.removeprefix(PREFIX).partition("-")[0]
