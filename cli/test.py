"""`./lab test [unit|browser|integration|soak]`: the project's own tests."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from typing import Annotated, Final

import typer


class Part(StrEnum):
    """Parts of the tests."""

    unit = "unit"
    browser = "browser"
    integration = "integration"
    soak = "soak"


MARKS: Final = {
    Part.unit: "not browser and not integration and not soak",
    Part.browser: "browser",
    Part.integration: "integration and not soak",
    Part.soak: "soak",
}
"""What pytest selects for each part."""

NOTHING_SELECTED: Final = 5  # pytest.ExitCode.NO_TESTS_COLLECTED


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def test(
        part: Annotated[Part | None, typer.Argument(help="Without it: unit, browser, integration.")] = None,
    ) -> None:
        """Run the project's own tests; integration and soak build real machines."""
        from machine import packages
        from machine.log import say

        for one in [part] if part else [Part.unit, Part.browser, Part.integration]:
            started = time.monotonic()
            say(f"Tests: {one.value}")
            if one is Part.browser:
                packages.install(packages.missing(packages.TEST_PACKAGES), say)
            elif one is not Part.unit:
                _set_up()
            status = run_part(one)
            say(f"Tests: {one.value}: {'passed' if status == 0 else 'failed'} in {time.monotonic() - started:.0f} s")
            if status != 0:
                raise typer.Exit(status)


def _set_up() -> None:
    """Get tools, etcd and image first: a test's limit is not meant for building them, and pytest hides progress."""
    from cli.setup import prepare
    from infra.settings import from_mapping
    from machine import etcd_binaries, image
    from machine.log import say
    from machine.paths import DEFAULT_STACK

    settings = from_mapping({})
    prepare(DEFAULT_STACK)
    etcd_binaries.ensure(settings.etcd_version, say)
    image.ensure_image(settings.image, settings.image_sha256, say)


def run_part(part: Part) -> int:
    """Run one part in a child process; 0 passed, 1 failed, 130 interrupted."""
    from cli import foreground
    from machine.paths import CHECKOUT
    from machine.surroundings import for_all

    argv = [sys.executable, "-m", "pytest", "tests", "-m", MARKS[part]]
    status = foreground.run(argv, env=for_all(), cwd=CHECKOUT)
    if status == NOTHING_SELECTED and part is Part.soak:
        return 0
    return 0 if status == 0 else 1
