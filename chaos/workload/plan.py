"""What a workload is asked to do: profile, rate, keys, mix, seed, deadline; as text and as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self

from machine.errors import UsageError

VARIABLE: Final = "ETCD_LAB_WORKLOAD"
"""Environment variable with the workload of a run that ./lab verify has begun."""

NONE: Final = "none"
"""No workload at all: for exploring."""

DEFAULT: Final = "default"
"""Registers, and a ledger beside them."""

MIXES: Final[Mapping[str, Mapping[str, int]]] = {
    DEFAULT: {"register": 7, "ledger": 3},
    "register": {"register": 1},
    "ledger": {"ledger": 1},
    "txn": {"txn": 3, "ledger": 1},
    "watch": {"register": 7, "ledger": 3},
    "lease": {"lease": 3, "ledger": 1},
    "lock": {"lock": 3, "ledger": 1},
}
"""Profile -> which kinds of clients one worker is, and how often it acts as each."""

REGISTER: Final[Mapping[str, int]] = {"put": 4, "get": 4, "cas": 2, "delete": 1}
"""Operations of the register clients by weight; the `mix` of a plan."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What every worker of a scenario does. Rates are operations a second of one worker, times are seconds."""

    profile: str = DEFAULT
    rate: float = 2.0
    """Asked for, per worker; 0: as fast as it goes."""
    keys: int = 3
    """How many registers all contend for."""
    seed: int = 0
    serializable: float = 0.1
    """Share of reads that ask one member alone."""
    deadline: float = 3.0
    """Of one call; no call is repeated."""
    lease_ttl: int = 5
    """Asked for by the lease and lock clients; etcd grants at least 1.5 election timeouts (lessor's minLeaseTTL)."""
    mix: Mapping[str, int] = field(default_factory=lambda: dict(REGISTER))

    @classmethod
    def parse(cls, text: str) -> Self:
        """A plan from `PROFILE[,KEY=VALUE]…`, such as `register,rate=10,keys=5,mix=put:3/get:5`.

        Raises UsageError.
        """
        profile, *rest = [word.strip() for word in text.split(",")]
        return cls().with_profile(profile).with_words(rest)

    def with_profile(self, profile: str) -> Self:
        """The same with another profile; raises UsageError for one that is not known."""
        if profile not in MIXES and profile != NONE:
            raise _wrong(f"there is no workload {profile!r}", f"Known are {', '.join((*MIXES, NONE))}.")
        return replace(self, profile=profile)

    def with_words(self, words: list[str]) -> Self:
        """The same with `KEY=VALUE` words; raises UsageError."""
        given: dict[str, Any] = {}
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or name not in _WORDS:
                raise _wrong(f"{word!r} is not KEY=VALUE with a known key", f"Keys are {', '.join(_WORDS)}.")
            try:
                given[name] = _WORDS[name](value)
            except ValueError as error:
                raise _wrong(f"{word!r}: {error}", "See docs/workload.md.") from None
        return replace(self, **given)

    def watched(self, index: int) -> bool:
        """Whether a worker also watches all the time: each in the profile `watch`, else the first one.

        What a watch tells is evidence for writes of unknown outcome, and compaction cannot take it away afterwards.
        """
        return self.profile == "watch" or index == 0

    @property
    def leases(self) -> bool:
        """Whether keys are attached to leases."""
        return bool({"lease", "lock"} & set(MIXES.get(self.profile, ())))

    def as_json(self) -> dict[str, Any]:
        """As plain data, for a worker."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `as_json` gave."""
        return cls(**data)

    def __str__(self) -> str:
        rate = f"{self.rate:g}/s each" if self.rate else "unlimited"
        return f"{self.profile}, {rate}, {self.keys} keys, {self.serializable:.0%} serializable, seed {self.seed}"


def _wrong(what: str, following: str) -> UsageError:
    return UsageError(f"The workload is not understood: {what}", where="--workload", next=following)


def _number(low: float, high: float, kind: type[int] | type[float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise ValueError(f"not between {low:g} and {high:g}")
        return value

    return read


def _mix(text: str) -> dict[str, int]:
    found = {}
    for word in text.split("/"):
        name, _, weight = word.partition(":")
        if name not in REGISTER:
            raise ValueError(f"{name!r} is none of {', '.join(REGISTER)}")
        found[name] = int(weight or 1)
        if found[name] < 0:
            raise ValueError("weights are not negative")
    if not any(found.values()):
        raise ValueError("nothing has a weight")
    return found


_WORDS: Final[Mapping[str, Callable[[str], Any]]] = {
    "rate": _number(0, 10_000, float),
    "keys": _number(1, 10_000, int),
    "seed": _number(0, 2**63, int),
    "serializable": _number(0, 1, float),
    "deadline": _number(0.05, 60, float),
    "lease_ttl": _number(1, 600, int),
    "mix": _mix,
}
