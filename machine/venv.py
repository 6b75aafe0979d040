"""The Python environment of a checkout: `.venv`, made from the locked requirements.

Standard library only: this runs before there is one. The stamp inside says what the environment
was made from; it is removed before work begins and written last, so a half-made one is never
taken for whole. (An environment cannot be built aside and renamed: its scripts hold its path.)
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from machine.errors import ToolError
from machine.log import Say
from machine.paths import CHECKOUT
from machine.process import tail

SECONDS: Final = 90
"""About how long making it takes, as told to the user (2 cores, near mirror)."""

_PIP: Final = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_USER": "0",  # a user's pip.conf may say otherwise, which fails inside an environment
    "PIP_REQUIRE_VIRTUALENV": "0",
}


def python(checkout: Path = CHECKOUT) -> Path:
    """The interpreter of the environment."""
    return checkout / ".venv" / "bin" / "python"


def wanted(checkout: Path = CHECKOUT) -> str:
    """What the environment must have been made from: a digest of lock, project file and place,
    and the interpreter that stands behind it (a new Debian release brings another one).
    """
    digest = hashlib.sha256()
    for part in (checkout / "requirements" / "lock.txt", checkout / "pyproject.toml"):
        digest.update(part.read_bytes() + b"\0")
    digest.update(str(checkout.resolve()).encode())
    return f"{digest.hexdigest()} {os.path.realpath(python(checkout))}\n"


def ready(checkout: Path = CHECKOUT) -> bool:
    """Whether the environment is there, whole and current."""
    try:
        return _stamp(checkout).read_text() == wanted(checkout) and python(checkout).exists()
    except OSError:
        return False


def ensure(say: Say, checkout: Path = CHECKOUT, interpreter: str = sys.executable) -> None:
    """Make the environment, or bring it up to date; two at once take turns.

    Raises ToolError with the end of pip's words when it fails.
    """
    if ready(checkout):
        return
    lab = checkout / ".lab"
    lab.mkdir(exist_ok=True)
    with (lab / "venv.lock").open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another start is making the Python environment; waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        if not ready(checkout):
            _make(say, checkout, interpreter, held.fileno())


def _make(say: Say, checkout: Path, interpreter: str, held: int) -> None:
    say(f"Making the Python environment .venv (about {SECONDS} s)")
    _stamp(checkout).unlink(missing_ok=True)
    log = checkout / ".lab" / "venv.log"
    log.write_text("")
    if not _sound(checkout):
        shutil.rmtree(checkout / ".venv", ignore_errors=True)
        _step([interpreter, "-m", "venv", str(checkout / ".venv")], "creating .venv", log, say, held)
    pip = [str(python(checkout)), "-m", "pip", "install", "--no-deps"]
    lock = checkout / "requirements" / "lock.txt"
    with tempfile.TemporaryDirectory() as scratch:
        # Source distributions are built without isolation, so that what builds them is locked by
        # hash too; hence the builder comes first.
        first = Path(scratch) / "setuptools.txt"
        first.write_text(requirement(lock.read_text(), "setuptools"))
        _step([*pip, "--require-hashes", "-r", str(first)], "installing setuptools", log, say, held)
    whole = [*pip, "--require-hashes", "--no-build-isolation", "-r", str(lock)]
    _step(whole, "installing Python packages", log, say, held)
    itself = [*pip, "--no-build-isolation", "--editable", str(checkout)]
    _step(itself, "installing the project itself", log, say, held)
    _stamp(checkout).write_text(wanted(checkout))


def requirement(lock: str, name: str) -> str:
    """The lines of one requirement, with its hashes, from the text of a lock file.

    >>> requirement("a==1 \\\\\\n    --hash=x\\nb==2 \\\\\\n    --hash=y\\n", "b")
    'b==2 \\\\\\n    --hash=y\\n'
    """
    found = re.search(rf"^{re.escape(name)}==.*(?:\n[ \t]+--hash=.*)*\n", lock, re.MULTILINE)
    if found is None:
        raise ToolError(f"The lock file has no entry for {name}", next="requirements/lock.txt must be locked anew.")
    return re.sub(r"\\\s*\Z", "\n", found.group())


def _stamp(checkout: Path) -> Path:
    return checkout / ".venv" / "etcd-lab.stamp"


def _sound(checkout: Path) -> bool:
    """Whether what is there can be brought up to date (interpreter and pip work)."""
    try:
        done = subprocess.run(
            [python(checkout), "-m", "pip", "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and str(checkout.resolve()) in done.stdout


def _step(argv: Sequence[str], what: str, log: Path, say: Say, held: int) -> None:
    """Run one program to its end. It keeps the lock (descriptor `held`) too: should we be killed, the next start waits
    for it instead of working in the same directory beside it.
    """
    started = time.monotonic()
    with log.open("a") as stream:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_PIP},
            pass_fds=[held],
        )
        try:
            while True:
                try:
                    status = child.wait(timeout=15)
                    break
                except subprocess.TimeoutExpired:
                    say(f"  {what}: {time.monotonic() - started:.0f} s")
        except BaseException:
            child.kill()
            child.wait()
            raise
    if status != 0:
        raise ToolError(
            f"{what} failed",
            where=str(log),
            next="Mend what it says and run the command again.",
            tail=tail(log.read_text(errors="replace")),
        )
