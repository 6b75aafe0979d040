"""Samples of every member, all through a scenario: who leads, term, index, size, alarms; one JSON line each.

A process of its own, inside the lab's namespace, so that neither pytest's work nor a silent member delays the samples.
Status is a local call (answered without quorum). The metrics page is none of its business: it is 160 kB and costs an
emulated processor 0.3 s; chaos.measure.traffic reads it now and then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from chaos.measure.samples import Sample, read_samples
from infra.manifest import CLIENT_PORT, Manifest
from machine.child import Child
from machine.errors import LabError
from machine.paths import StackPaths

PERIODS: Final[Mapping[str, float]] = {"kvm": 1.0, "tcg": 1.5}
"""Seconds from one sample of a member to the next, by accelerator: an emulated processor spends 17 ms on each, and what
is left of 2 % goes into readings of the metrics page (chaos.measure.traffic)."""


LEAST_PERIODS: Final = 6
"""Periods after which every member must have been asked once: it starts within two and waits 1 s for an answer."""


def period_of(manifest: Manifest) -> float:
    """Seconds from one sample of a member to the next on this lab."""
    return PERIODS[manifest.hypervisor.accelerator]


class Sampler:
    """Samples all members into `path` while it is open."""

    def __init__(
        self,
        nodes: Sequence[tuple[str, str]],
        path: Path,
        *,
        tls: Sequence[Path] = (),
        netns: str | None = None,
        period: float = 1.0,
    ) -> None:
        """`nodes`: name and `ADDRESS:PORT`; `tls`: files of CA, certificate and key, none: in the clear."""
        self.path = path
        self._nodes = [name for name, _ in nodes]
        self._period = period
        self._sampled = 0.0
        """Seconds that it ran."""
        self._order = {"nodes": nodes, "path": str(path), "tls": [str(one) for one in tls], "period": period}
        self._netns = netns
        self._child: Child | None = None
        self._begun = 0.0
        self._ended = ""
        """Why it ended before it was closed."""

    @classmethod
    def of(cls, manifest: Manifest, paths: StackPaths, path: Path, period: float | None = None) -> Self:
        """For the members of a lab; `period` in seconds, None: as it is on such a lab."""
        nodes = [(node.name, f"{node.address}:{CLIENT_PORT}") for node in manifest.nodes]
        tls = (paths.ca_cert, paths.client_cert, paths.client_key)
        return cls(nodes, path, tls=tls, netns=manifest.hypervisor.netns, period=period or period_of(manifest))

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._child = Child(
            "chaos.measure.sampler_child", title="The sampler", netns=self._netns, env={"GRPC_VERBOSITY": "NONE"}
        )
        self._begun = time.monotonic()
        try:
            self._child.say(self._order)
        except LabError as error:
            self._ended = error.what
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End sampling."""
        child, self._child = self._child, None
        if child is not None:
            if not self._ended and not child.alive():
                self._ended = child.last_words()
            child.close()
            self._sampled = time.monotonic() - self._begun

    @property
    def problems(self) -> list[str]:
        """What is missing of the samples, once closed: why the sampler ended early, members without any."""
        if self._ended:
            return [f"{self._ended}; {len(self.rows)} samples were taken until then"]
        if self._sampled < LEAST_PERIODS * self._period:
            return []
        sampled = {one.node for one in self.rows}
        lacking = [node for node in self._nodes if node not in sampled]
        return [f"no sample of {', '.join(lacking)} in {self._sampled:.0f} s"] if lacking else []

    @property
    def rows(self) -> list[Sample]:
        """The samples so far."""
        return list(read_samples(self.path))
