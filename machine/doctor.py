"""Looking at every requirement, and mending what we can."""

from __future__ import annotations

from dataclasses import dataclass

from machine.checks import CHECKS, Check, Level, Plan, look
from machine.errors import LabError
from machine.log import Say


@dataclass(frozen=True, slots=True)
class Finding:
    """One requirement as it was found, after mending when that was asked for."""

    check: Check
    level: Level
    found: str
    mended: bool = False

    def as_json(self) -> dict[str, str | bool]:
        """What `./lab doctor --json` prints for it."""
        return {
            "id": self.check.id,
            "what": self.check.what,
            "level": self.level,
            "found": self.found,
            "why": self.check.why,
            "how": self.check.how,
            "fixable": self.check.fix is not None,
            "mended": self.mended,
        }


def examine(plan: Plan, say: Say, *, fix: bool = False, checks: tuple[Check, ...] = CHECKS) -> list[Finding]:
    """Run all checks in order; with `fix`, mend each that is not ok and look again.

    A mending that fails is told in the finding, and the rest goes on.
    """
    findings = []
    for check in checks:
        result = look(check, plan)
        if result.level == "ok" or not fix or check.fix is None:
            findings.append(Finding(check, result.level, result.found))
            continue
        try:
            check.fix(plan, say)
        except LabError as error:
            findings.append(Finding(check, "fail", f"{result.found}; mending failed: {error}"))
            continue
        after = look(check, plan)
        findings.append(Finding(check, after.level, after.found, mended=after.level == "ok"))
    return findings


def healthy(findings: list[Finding]) -> bool:
    """Whether a lab can be built: nothing failed."""
    return all(finding.level != "fail" for finding in findings)
