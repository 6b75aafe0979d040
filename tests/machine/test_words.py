"""Options of ./lab itself are found wherever a user puts them, and nowhere else."""

from __future__ import annotations

import pytest

from cli import app as cli_app
from machine.words import YES, command, take


@pytest.mark.parametrize(
    ("words", "rest"),
    [
        (["--yes", "up"], ["up"]),
        (["up", "--yes"], ["up"]),
        (["verify", "--scenarios", "S3", "--yes", "--stack", "a"], ["verify", "--scenarios", "S3", "--stack", "a"]),
        (["ctl", "--yes", "etcd1", "get", "x"], ["ctl", "etcd1", "get", "x"]),
        (["--yes", "ctl", "etcd1", "get", "x"], ["ctl", "etcd1", "get", "x"]),
    ],
)
def test_yes_is_taken_where_it_is_ours(words: list[str], rest: list[str]) -> None:
    assert take(words, YES) == (rest, True)


@pytest.mark.parametrize(
    "words",
    [
        ["ctl", "etcd1", "del", "--yes"],
        ["ssh", "--stack", "a", "etcd1", "apt", "--yes"],
        ["ssh", "etcd1", "--", "--yes"],
    ],
)
def test_yes_of_another_program_is_left_to_it(words: list[str]) -> None:
    assert take(words, YES) == (words, False)


@pytest.mark.parametrize("name", [name for name in cli_app.COMMANDS if name not in {"ctl", "ssh"}])
def test_every_command_may_be_followed_by_yes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong word after it is what is refused; then nothing was done."""
    assert cli_app.main([name, "--yes", "--no-such-option"]) == 2
    said = capsys.readouterr().err
    assert "No such option: --no-such-option" in said or name == "fault"
    assert "--yes" not in said.replace("--no-such-option", "")


def test_the_command_is_found_behind_options() -> None:
    assert command(["--debug", "--yes", "up"]) == "up"
    assert command([]) == ""


def test_what_an_interrupted_command_left_is_said_behind_options_too() -> None:
    assert "./lab up goes on" in cli_app.left_by(["--yes", "up"])
