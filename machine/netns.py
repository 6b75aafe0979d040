"""Network namespaces: whether one is there, who runs in it, and sockets made inside it.

A socket belongs to the namespace that its thread was in when it was made (network_namespaces(7)), so a
short-lived thread enters the namespace, connects, and ends; the caller never leaves its own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from machine.errors import HypervisorError

NETNS_DIR: Final = Path("/run/netns")
"""Where `ip netns` keeps its names (ip-netns(8))."""

_PORT_TRIES: Final = 20
"""How many local ports are tried: one that a connection has just left cannot be taken for a minute (TIME_WAIT)."""

_PORT_TAKEN: Final = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)

_CLONE_NEWNET: Final = 0x40000000  # <sched.h>


def path_of(netns: str) -> Path:
    """The file that names the namespace."""
    return NETNS_DIR / netns


def exists(netns: str) -> bool:
    """Whether the name stands for a living namespace, not for a file left by a reboot or a crash."""
    try:
        return path_of(netns).stat().st_dev != NETNS_DIR.stat().st_dev
    except FileNotFoundError:
        return False


def processes(netns: str) -> list[int]:
    """Process ids inside the namespace, as `ip netns pids` gives them, of those that we may look at; [] without it."""
    return look(netns)[0]


def look(netns: str) -> tuple[list[int], bool]:
    """Process ids inside the namespace, and whether that is all: who may not look at a process cannot say where it is.

    Only root sees every process (proc(5), ptrace(2)), and not even root does without CAP_SYS_PTRACE.
    """
    if not exists(netns):
        return [], True
    here = path_of(netns).stat()
    found, whole = [], os.geteuid() == 0  # else some may not even be listed (proc(5), hidepid)
    for pid in all_processes():
        try:
            there = Path(f"/proc/{pid}/ns/net").stat()
        except PermissionError:
            whole = False
            continue
        except OSError:  # ended meanwhile
            continue
        if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
            found.append(pid)
    return found, whole


def all_processes() -> Iterator[int]:
    """Every process id of the machine."""
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())  # noqa: PTH208 - names only, 10 times faster


def enter(netns: str) -> None:
    """Put the calling thread into the namespace, for good; raises HypervisorError when there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        handle = os.open(path_of(netns), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise HypervisorError(
            f"The network namespace {netns} does not exist",
            where=str(path_of(netns)),
            next="The lab's hypervisor is not running: ./lab start starts it.",
        ) from error
    try:
        if libc.setns(handle, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise HypervisorError(
                f"Cannot enter the network namespace: {os.strerror(number)}",
                where=str(path_of(netns)),
                next="This needs root, and a hypervisor that runs: see ./lab doctor.",
            )
    finally:
        os.close(handle)


def connect(
    netns: str | None, address: str, port: int, timeout: float, source_ports: range | None = None
) -> socket.socket:
    """A TCP connection (IPv4) to `address`:`port` made inside `netns` (None: where we are).

    `timeout` in seconds holds for the connect and stays on the socket; the local port is one of `source_ports`
    (None: any). Raises OSError
    (ConnectionRefusedError, TimeoutError, …) as socket.connect does, HypervisorError when the
    namespace does not exist or may not be entered.
    """
    if netns is None:
        return _connect(address, port, timeout, source_ports)
    result: list[socket.socket | BaseException] = []

    def inside() -> None:
        try:
            enter(netns)
            result.append(_connect(address, port, timeout, source_ports))
        except BaseException as error:  # noqa: BLE001 - carried over to the caller, whatever it is
            result.append(error)

    thread = threading.Thread(target=inside, name=f"netns-{netns}", daemon=True)
    thread.start()
    thread.join()
    outcome = result[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _connect(address: str, port: int, timeout: float, source_ports: range | None) -> socket.socket:
    tries = _PORT_TRIES if source_ports else 1
    while True:
        tries -= 1
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if source_ports:
                # two connections may share a port when they go to different places
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                connection.bind(("", random.choice(source_ports)))  # noqa: S311 - no secret
            connection.settimeout(timeout)
            connection.connect((address, port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException as error:
            connection.close()
            if tries and isinstance(error, OSError) and error.errno in _PORT_TAKEN:
                continue
            raise
        return connection
