"""libvirt from Python: connections that end, errors of our tree, and power of domains.

libvirt-python carries no types, so the few calls that we use are written down as protocols.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeVar, cast
from xml.etree import ElementTree

from machine.errors import HypervisorError, NotBuiltError

T = TypeVar("T")

STATES: Final = ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended")
"""Names of virDomainState by number (libvirt-domain.h)."""


class Domain(Protocol):
    """One virtual machine (virDomain)."""

    def name(self) -> str: ...
    def state(self) -> list[int]: ...
    def isActive(self) -> int: ...
    def create(self) -> int: ...
    def destroy(self) -> int: ...
    def shutdown(self) -> int: ...
    def suspend(self) -> int: ...
    def resume(self) -> int: ...
    def reset(self, flags: int = 0) -> int: ...
    def undefine(self) -> int: ...
    def XMLDesc(self, flags: int = 0) -> str: ...
    def updateDeviceFlags(self, xml: str, flags: int = 0) -> int: ...


class Network(Protocol):
    """One virtual network (virNetwork)."""

    def isActive(self) -> int: ...
    def create(self) -> int: ...
    def setAutostart(self, autostart: int) -> int: ...
    def XMLDesc(self, flags: int = 0) -> str: ...
    def update(self, command: int, section: int, parent: int, xml: str, flags: int) -> int: ...


class Connection(Protocol):
    """A connection to libvirt (virConnect); may be shared by threads."""

    def lookupByName(self, name: str) -> Domain: ...
    def listAllDomains(self, flags: int = 0) -> list[Domain]: ...
    def defineXML(self, xml: str) -> Domain: ...
    def createXML(self, xml: str, flags: int = 0) -> Domain: ...
    def networkDefineXML(self, xml: str) -> Network: ...
    def networkCreateXML(self, xml: str) -> Network: ...
    def networkLookupByName(self, name: str) -> Network: ...
    def close(self) -> int: ...


@contextlib.contextmanager
def connect(uri: str) -> Iterator[Connection]:
    """A connection to libvirt at `uri`, closed at the end.

    Raises HypervisorError when it cannot be made, and for any libvirt error inside the block.
    """
    import libvirt  # noqa: PLC0415 - 60 ms that only its users pay

    libvirt.registerErrorHandler(lambda _context, _error: None, None)  # else libvirt prints errors that we report
    try:
        connection = cast("Connection", libvirt.open(uri))
    except libvirt.libvirtError as error:
        raise HypervisorError(
            f"libvirt does not answer: {error}",
            where=uri,
            next="./lab doctor says what is missing; ./lab start starts it.",
        ) from error
    try:
        yield connection
    except libvirt.libvirtError as error:
        raise HypervisorError(f"libvirt refused: {error}", where=uri) from error
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            connection.close()


def domain(connection: Connection, name: str) -> Domain:
    """The domain `name`; raises NotBuiltError when the hypervisor has none of that name."""
    import libvirt  # noqa: PLC0415 - as above

    try:
        return connection.lookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        raise NotBuiltError(f"The hypervisor has no domain {name}", next="./lab up builds what is missing.") from error


def domain_state(connection: Connection, name: str) -> str:
    """State of the domain, one of STATES."""
    return STATES[domain(connection, name).state()[0]]


def power_off(connection: Connection, name: str) -> None:
    """Cut the power, at once; nothing when it is off."""
    _unless_in_state(domain(connection, name).destroy)


def power_on(connection: Connection, name: str) -> None:
    """Switch it on; nothing when it runs."""
    _unless_in_state(domain(connection, name).create)


def suspend(connection: Connection, name: str) -> None:
    """Stop its processors, memory and devices kept; nothing when it is paused."""
    _unless_in_state(domain(connection, name).suspend)


def resume(connection: Connection, name: str) -> None:
    """Let its processors go on; nothing when they do."""
    _unless_in_state(domain(connection, name).resume)


def reset(connection: Connection, name: str) -> None:
    """Press the reset button (virDomainReset): it boots anew, nothing is flushed. The domain must run."""
    domain(connection, name).reset()


def shutdown(connection: Connection, name: str) -> None:
    """Press the power button (ACPI); returns at once. Nothing when it is off."""
    _unless_in_state(domain(connection, name).shutdown)


def link_is_up(connection: Connection, name: str) -> bool:
    """Whether the cable of the domain's network card is in (`<link state=…/>`, up when it says nothing)."""
    return all(_link(interface).get("state") != "down" for interface in _interfaces(connection, name))


def set_link(connection: Connection, name: str, *, up: bool) -> None:
    """Pull the cable of every network card of a running domain, or put it in again; the state is the live one's only.

    As `virsh domif-setlink` does it: the device with another link state (virDomainUpdateDeviceFlags).
    """
    import libvirt  # noqa: PLC0415 - as above

    for interface in _interfaces(connection, name):
        _link(interface).set("state", "up" if up else "down")
        text = ElementTree.tostring(interface, encoding="unicode")
        domain(connection, name).updateDeviceFlags(text, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def network_of(connection: Connection, name: str) -> str:
    """Name of the virtual network that the domain's first card is in; raises NotBuiltError when it is in none."""
    for interface in _interfaces(connection, name):
        source = interface.find("source")
        if source is not None and (network := source.get("network")):
            return network
    raise NotBuiltError(f"The domain {name} is in no virtual network", next="./lab up builds what is missing.")


def names_of(connection: Connection, network: str) -> dict[str, list[str]]:
    """Addresses that the network's name service has of its own for each name, live."""
    found: dict[str, list[str]] = {}
    for host in ElementTree.fromstring(connection.networkLookupByName(network).XMLDesc()).findall("./dns/host"):  # noqa: S314 - libvirt's own
        for name in host.findall("hostname"):
            found.setdefault((name.text or "").strip(), []).append(host.get("ip", ""))
    return found


def set_name(connection: Connection, network: str, name: str, address: str, *, present: bool) -> None:
    """Add a name to the network's name service, or take it out, live. Raises HypervisorError when it is so already."""
    import libvirt  # noqa: PLC0415 - as above

    command = libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST if present else libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE
    entry = f"<host ip='{address}'><hostname>{name}</hostname></host>"
    try:
        connection.networkLookupByName(network).update(
            command, libvirt.VIR_NETWORK_SECTION_DNS_HOST, -1, entry, libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE
        )
    except libvirt.libvirtError as error:
        raise HypervisorError(f"libvirt refused to change the name {name}: {error}", where=network) from error


def _interfaces(connection: Connection, name: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(domain(connection, name).XMLDesc()).findall("./devices/interface")  # noqa: S314 - libvirt's own


def _link(interface: ElementTree.Element) -> ElementTree.Element:
    found = interface.find("link")
    return ElementTree.SubElement(interface, "link") if found is None else found


def _unless_in_state(call: Callable[[], int]) -> None:
    """Make the call; "the domain is (not) running" is what was wanted."""
    import libvirt  # noqa: PLC0415 - as above

    try:
        call()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise
