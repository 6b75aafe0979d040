"""The sampler's process: asks every member for its status over one kept-open gRPC connection each, and writes lines.

Started inside the lab's namespace, with one JSON document on standard input; ends when that is closed, so that it never
outlives the run.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import grpc

from chaos.measure import status
from chaos.measure.observer_relay import Relay
from chaos.measure.samples import sample_of
from infra.cluster import EndpointStatus

LIMIT: Final = 1.0
"""Seconds a member may take to answer."""

SILENT: Final = 2
"""Failures in a row before the connection is made anew: the machine behind an old one may be another boot's."""

_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class Member:
    """One member and the connection to it."""

    def __init__(self, node: str, address: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.node = node
        host, _, port = address.rpartition(":")
        self._relay = Relay(host, int(port))
        self._options = (*_OPTIONS, ("grpc.ssl_target_name_override", host), ("grpc.default_authority", address))
        self._credentials = credentials
        self._channel = self._open()
        self._failed = 0

    def _open(self) -> grpc.Channel:
        if self._credentials is None:
            return grpc.insecure_channel(self._relay.target, options=self._options)
        return grpc.secure_channel(self._relay.target, self._credentials, options=self._options)

    def ask(self) -> EndpointStatus:
        """Its status; never raises for what the network does."""
        try:
            answer = self._channel.unary_unary(status.METHOD)(status.REQUEST, timeout=LIMIT)
        except grpc.RpcError as error:
            self._failed += 1
            if self._failed >= SILENT:
                self._channel.close()
                self._channel = self._open()
                self._failed = 0
            code = error.code()
            return EndpointStatus(
                self.node,
                ok=False,
                error=f"{code.name}: {error.details()}"[:200],
                kind="timeout" if code == grpc.StatusCode.DEADLINE_EXCEEDED else "unreachable",
            )
        self._failed = 0
        try:
            return status.decode(self.node, answer)
        except ValueError as error:
            return EndpointStatus(self.node, ok=False, error=str(error), kind="protocol")


def main() -> None:
    """Read the order, sample until standard input is closed."""
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    credentials = None
    if order["tls"]:
        ca, cert, key = (Path(path).read_bytes() for path in order["tls"])
        credentials = grpc.ssl_channel_credentials(ca, key, cert)
    ended, lock = threading.Event(), threading.Lock()
    with Path(order["path"]).open("a") as stream:

        def follow(member: Member, lag: float) -> None:
            due = time.monotonic() + lag
            while not ended.wait(max(0.0, due - time.monotonic())):
                begun = time.monotonic_ns()
                answer = member.ask()
                now = time.monotonic_ns()
                line = sample_of(answer, now, (now - begun) / 1e9).line()
                with lock:
                    stream.write(line)
                    stream.flush()
                due = max(due + order["period"], time.monotonic())  # a late one is left out, not made up for

        members = [Member(node, address, credentials) for node, address in order["nodes"]]
        threads = [
            threading.Thread(target=follow, args=(member, order["period"] * number / len(members)), daemon=True)
            for number, member in enumerate(members)
        ]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        ended.set()
        for thread in threads:
            thread.join(2 * LIMIT)


if __name__ == "__main__":
    main()
