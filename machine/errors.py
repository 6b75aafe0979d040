"""Every error that a user can meet, in one tree.

    LabError                     exit 1   something went wrong
    ├── UsageError               exit 2   wrong argument or configuration
    │   └── SettingsError        exit 2   a configuration key is wrong
    ├── RequirementError         exit 2   the machine lacks something (package, right, memory, disk)
    ├── ToolError                exit 1   a program that we called failed
    ├── DeadlineError            exit 1   a condition did not come true in time
    ├── NotBuiltError            exit 2   there is no lab (or not the part asked for)
    ├── HypervisorError          exit 1   libvirt or the embedded hypervisor misbehaves
    └── InconclusiveError        exit 3   a fault did not show, so nothing can be said

Each carries what happened, where, and what to do next; `str()` gives them as one paragraph.
"""

from __future__ import annotations


class LabError(Exception):
    """Something went wrong: `what` happened, `where`, and what to do `next`.

    >>> print(LabError("No space left", where="/var", next="Free 2 GiB."))
    No space left (/var). Free 2 GiB.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", next: str = "") -> None:  # noqa: A002 - the word users see
        super().__init__(what)
        self.what = what.rstrip(". ")
        self.where = where
        self.next = next

    def __str__(self) -> str:
        text = f"{self.what} ({self.where})." if self.where else f"{self.what}."
        return f"{text} {self.next}" if self.next else text


class UsageError(LabError):
    """A wrong argument or configuration; nothing was touched."""

    exit_code = 2


class SettingsError(UsageError):
    """A configuration key is unknown, has the wrong type or an impossible value."""


class RequirementError(LabError):
    """The machine lacks something that the lab needs."""

    exit_code = 2


class NotBuiltError(LabError):
    """There is no lab here, or not the part of it that was asked for."""

    exit_code = 2


class ToolError(LabError):
    """A program that we called failed; `tail` is the end of what it said."""

    def __init__(self, what: str, *, where: str = "", next: str = "", tail: str = "") -> None:  # noqa: A002
        super().__init__(what, where=where, next=next)
        self.tail = tail.strip()

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\n{self.tail}" if self.tail else text


class DeadlineError(LabError):
    """A condition did not come true in time; `last` is the last thing seen."""

    def __init__(
        self,
        what: str,
        *,
        seconds: float,
        last: str = "",
        where: str = "",
        next: str = "",  # noqa: A002
    ) -> None:
        seen = f"; last seen: {last}" if last else ""
        super().__init__(f"{what}: not within {seconds:g} s{seen}", where=where, next=next)
        self.last = last


class HypervisorError(LabError):
    """libvirt, or the embedded hypervisor around it, misbehaves."""


class InconclusiveError(LabError):
    """A fault did not show, or the machine was too slow, so nothing can be said."""

    exit_code = 3
