"""A lab as one run uses it: with recording clients, lease renewals and readings of metrics pages beside it."""

from __future__ import annotations

from typing import Final, Self

from chaos.faults.renewal import LeaseRenewer
from chaos.lab.lab import Lab
from chaos.measure.sampler import period_of
from chaos.measure.traffic import Pages
from chaos.workload.clients import Clients

RENEW_EVERY: Final = 15.0
"""Seconds between two renewals of the leases of faults; chaos.faults.base.RENEWED_LEASE is three of them and more."""


class LabRun:
    """What a run keeps open on an open lab. Use as a context manager; the lab is its opener's to close."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.keeper = LeaseRenewer(RENEW_EVERY)
        self.clients = Clients(lab.manifest, lab.paths)
        self.pages = Pages(lab.cluster, period_of(lab.manifest))
        """Readings of the members' metrics pages, within what sampling may cost."""
        lab.on_forget(self.clients.forget)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End clients, renewals and readings; faults stay as they are (renewed cuts run out)."""
        self.keeper.close()
        self.pages.close()
        self.clients.close()
