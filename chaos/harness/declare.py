"""`@scenario`: what makes a pytest test a scenario with an id, a title, marks and a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., object])

SCENARIO_SECONDS = 420
"""Limit of one scenario with its mending: two cold starts of all machines under TCG."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What `@scenario` says about a test."""

    id: str
    title: str
    workload: str = ""
    """Profile of the clients that work all through; "": the run's own."""


def scenario(scenario_id: str, title: str, *marks: str, workload: str = "") -> Callable[[Test], Test]:
    """Make a test the scenario `scenario_id`: its id in pytest's ids and marks, a limit, and further `marks`.

    `workload` asks for another profile of clients than the run's own, such as "lease" (chaos.workload.plan).
    """

    def decorate(test: Test) -> Test:
        declared = Declared(scenario_id, title, workload)
        decorated: Any = pytest.mark.parametrize("scenario", [pytest.param(declared, id=scenario_id)], indirect=True)(
            test
        )
        for name in (scenario_id, *marks):
            decorated = getattr(pytest.mark, name)(decorated)
        result: Test = pytest.mark.timeout(SCENARIO_SECONDS)(decorated)
        return result

    return decorate
