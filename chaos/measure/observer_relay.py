"""Connections that cuts of the client port let pass, for a client library that cannot choose its local port.

gRPC connects to a Unix socket of ours, without a file: its name is the kernel's choice (unix(7), abstract sockets), so
that neither a long TMPDIR nor a sudden end has a say in it. Each connection is carried on, byte by byte, from one of
the ports that belong to calls which only observe (infra.manifest.OBSERVER_PORTS). TLS goes through it end to end.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final

from infra.manifest import OBSERVER_PORTS
from machine import netns

CONNECT_SECONDS: Final = 2.0
_CHUNK: Final = 65536


class Relay:
    """Listens for as long as the process lives, and carries every connection on to `address`:`port`.

    `target` is where, as gRPC names it; it is reached from the network namespace in which it was made.
    """

    def __init__(self, address: str, port: int) -> None:
        self._address = address
        self._port = port
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind("")  # a free name of five digits
        self.name: bytes = self._listener.getsockname()
        self.target = f"unix-abstract:{self.name[1:].decode()}"
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        try:
            far = netns.connect(None, self._address, self._port, CONNECT_SECONDS, source_ports=OBSERVER_PORTS)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        back = threading.Thread(target=_pump, args=(far, near), daemon=True)
        back.start()
        _pump(near, far)
        back.join()
        near.close()
        far.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes until one side ends; then end both, since half a connection is of no use to gRPC."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
