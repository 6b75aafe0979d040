"""The Python environment is taken for whole only when it was made from what stands in the checkout."""

from __future__ import annotations

import fcntl
import re
import sys
import threading
from pathlib import Path

import pytest

from machine import venv
from machine.errors import ToolError
from machine.paths import CHECKOUT
from machine.waiting import Pending, wait_until


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "lock.txt").write_text("setuptools==1 \\\n    --hash=sha256:aa\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    python = venv.python(tmp_path)
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    return tmp_path


def finish(checkout: Path) -> None:
    (checkout / ".venv" / "etcd-lab.stamp").write_text(venv.wanted(checkout))


def test_without_its_stamp_an_environment_is_half_made(checkout: Path) -> None:
    assert not venv.ready(checkout)
    finish(checkout)
    assert venv.ready(checkout)


@pytest.mark.parametrize("changed", ["requirements/lock.txt", "pyproject.toml"])
def test_a_changed_file_makes_it_out_of_date(checkout: Path, changed: str) -> None:
    finish(checkout)

    (checkout / changed).write_text("something else\n")

    assert not venv.ready(checkout)


def test_another_interpreter_behind_it_makes_it_out_of_date(checkout: Path) -> None:
    finish(checkout)

    venv.python(checkout).unlink()
    venv.python(checkout).symlink_to("/bin/true")

    assert not venv.ready(checkout)


def test_a_checkout_that_was_moved_needs_a_new_one(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    finish(checkout)

    moved = tmp_path_factory.mktemp("elsewhere") / "lab"
    checkout.rename(moved)

    assert not venv.ready(moved)


def test_the_lock_file_holds_the_builder_with_hashes() -> None:
    """Source distributions are built without isolation, so setuptools must be there first, by hash."""
    lines = venv.requirement((CHECKOUT / "requirements" / "lock.txt").read_text(), "setuptools")

    assert re.match(r"setuptools==[\d.]+ \\\n", lines)
    assert "--hash=sha256:" in lines
    assert "\\" not in lines.rstrip().splitlines()[-1]


def test_a_lock_file_without_the_builder_is_told_so() -> None:
    with pytest.raises(ToolError, match="setuptools"):
        venv.requirement("other==1\n", "setuptools")


def test_the_lock_file_names_no_download_address() -> None:
    assert "://" not in (CHECKOUT / "requirements" / "lock.txt").read_text()


def test_a_step_that_outlives_us_keeps_the_lock(checkout: Path) -> None:
    """A killed start leaves pip at work; the next start must wait for it."""
    path, go_on = checkout / "lock", checkout / "go-on"
    held = path.open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    script = f"touch {checkout}/started; until [ -e {go_on} ]; do sleep 0.02; done"
    words = (["sh", "-c", script], "installing", checkout / "log", print, held.fileno())
    step = threading.Thread(target=venv._step, args=words)
    step.start()
    wait_until(lambda: _exists(checkout / "started"), "the step to start", seconds=10)

    held.close()  # as the kernel does for a killed process
    with path.open("w") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    go_on.touch()
    step.join()
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _exists(path: Path) -> None:
    if not path.exists():
        raise Pending(f"no {path}")


def test_a_failing_step_shows_the_end_of_its_words(checkout: Path) -> None:
    log = checkout / "log"
    with (checkout / "lock").open("w") as lock, pytest.raises(ToolError) as failed:
        venv._step(["sh", "-c", "echo the reason; exit 3"], "installing", log, print, lock.fileno())

    assert "the reason" in str(failed.value)
