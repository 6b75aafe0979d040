"""What a cut drops: directed flows of packets between two machines, all of them or those of one port."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

Pair = tuple[str, str]
"""Source, destination."""

HOST = "host"
"""This host, at its own address on the lab's network (the gateway)."""


ANY_PORT = 0
"""Of a flow: packets of whatever port; asked for, what only a cut of everything stops, such as a ping."""


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """Packets from `source` to `target`: all, those to `to_port`, or those that come from `from_port`."""

    source: str
    target: str
    to_port: int = ANY_PORT
    from_port: int = ANY_PORT

    @property
    def pair(self) -> Pair:
        """Source and destination."""
        return self.source, self.target

    def __str__(self) -> str:
        """As comments of rules say it: `a>b`, `a>b/2379` (to that port), `a/2379>b` (from it)."""
        source = f"{self.source}/{self.from_port}" if self.from_port else self.source
        return f"{source}>{self.target}" + (f"/{self.to_port}" if self.to_port else "")

    @classmethod
    def parse(cls, text: str) -> Flow | None:
        """The flow that a comment names; None when it names none.

        >>> Flow.parse("a/2379>b")
        Flow(source='a', target='b', to_port=0, from_port=2379)
        """
        match = re.fullmatch(r"([^>/]+)(?:/(\d+))?>([^>/]+)(?:/(\d+))?", text)
        return cls(match[1], match[3], int(match[4] or 0), int(match[2] or 0)) if match else None

    def stops(self, source: str, target: str, port: int) -> bool:
        """Whether this one keeps `source` from talking TCP with `port` of `target`: its packets or the answers."""
        there = self.pair == (source, target) and self.to_port in {ANY_PORT, port} and not self.from_port
        back = self.pair == (target, source) and self.from_port in {ANY_PORT, port} and not self.to_port
        return there or back

    def drops(self, source: str, target: str) -> bool:
        """Whether a packet of whatever kind from `source` to `target` is dropped, such as a datagram."""
        return self.pair == (source, target) and self.to_port == self.from_port == ANY_PORT


def both_ways(one: str, other: str) -> tuple[Flow, Flow]:
    """Everything between two machines."""
    return Flow(one, other), Flow(other, one)


def service(client: str, server: str, port: int) -> tuple[Flow, Flow]:
    """What a client and a port of a server say to each other."""
    return Flow(client, server, to_port=port), Flow(server, client, from_port=port)


def stopped(flows: Iterable[Flow], source: str, target: str, port: int) -> bool:
    """Whether one of `flows` keeps `source` from talking with `port` of `target`."""
    return any(flow.stops(source, target, port) for flow in flows)
