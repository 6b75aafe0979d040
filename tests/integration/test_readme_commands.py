"""Every command of the README, as it stands there. `./lab test` is left out: it is what runs this."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from machine.paths import CHECKOUT

if TYPE_CHECKING:
    from tests.integration.conftest import Stack

# The limit holds for fixtures too: whichever test is first builds the lab and plays the scenarios.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]

ELSEWHERE = {
    "./lab verify": "the fixture that builds the lab of these tests runs exactly this",
    "./lab test": "runs this test",
}

BLOCKS = re.findall(r"^```sh\n(.*?)^```", (CHECKOUT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
DESTROYS = [block for block in BLOCKS if "pulumi destroy" in block]
SAFE = [block for block in BLOCKS if block not in DESTROYS]


def commands(block: str) -> str:
    return "\n".join(line for line in block.splitlines() if line not in ELSEWHERE)


@pytest.mark.parametrize("block", SAFE, ids=range(len(SAFE)))
def test_a_block_of_the_readme_runs_as_it_stands(lab: Stack, block: str) -> None:
    done = lab.shell(f"set -e\n{commands(block)}", seconds=600)
    assert done.ok, done.stdout + done.stderr


@pytest.mark.last
def test_plain_use_ends_with_a_lab_that_is_gone(lab: Stack) -> None:
    """up, a scenario, no change, destroy: by pulumi and pytest alone."""
    assert DESTROYS
    for block in DESTROYS:
        done = lab.shell(f"set -e\n{commands(block)}", seconds=900)
        assert done.ok, done.stdout + done.stderr
    after = lab.ok("destroy", seconds=120)
    assert after.ok
    assert lab.remains() == []
