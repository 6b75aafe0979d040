"""Pings from inside a guest: the script, and what busybox' ping says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Pings:
    """Pings to one address; times are milliseconds, in the order in which answers came (duplicates left out)."""

    sent: int
    times: tuple[float, ...]
    numbers: tuple[int, ...]
    """Sequence numbers of the answers, in the order in which they came."""
    duplicates: int

    @property
    def lost(self) -> int:
        """Pings that nobody answered."""
        return self.sent - len(set(self.numbers))

    @property
    def disordered(self) -> int:
        """Answers that came after one to a later ping."""
        return sum(number < newest for number, newest in zip(self.numbers, accumulate(self.numbers, max), strict=True))

    def __str__(self) -> str:
        if not self.times:
            return f"none of {self.sent} answered"
        middle = sorted(self.times)[len(self.times) // 2]
        span = f"{min(self.times):.1f}/{middle:.1f}/{max(self.times):.1f} ms"
        return f"{span} (quickest/median/slowest of {len(self.times)})"


def script_of(addresses: Sequence[str], count: int, every: float, wait: int, size: int) -> str:
    """Script that pings all addresses at once; every line of output begins with the address.

    Several write to one pipe, so each line goes by itself (sed -u): a buffer that ends within a line would tear it.
    """
    ping = f"busybox ping -c {count} -i {every:g} -W {wait} -s {size}"
    return "\n".join([*(f"{ping} {one} 2>&1 | sed -u 's/^/{one} /' &" for one in addresses), "wait"])


def read_pings(text: str, addresses: Sequence[str]) -> dict[str, Pings]:
    """What the script said, by address; an address of which nothing was said sent nothing."""
    return {address: _one(re.findall(rf"^{re.escape(address)} (.*)$", text, re.M)) for address in addresses}


def _one(lines: list[str]) -> Pings:
    sent, duplicates = 0, 0
    times: list[float] = []
    numbers: list[int] = []
    for line in lines:
        if found := re.match(r"(\d+) packets transmitted", line):
            sent = int(found[1])
        elif found := re.search(r"seq=(\d+) .*time=([\d.]+) ms( \(DUP!\))?", line):
            if found[3]:
                duplicates += 1
            else:
                numbers.append(int(found[1]))
                times.append(float(found[2]))
    return Pings(sent, tuple(times), tuple(numbers), duplicates)
