"""How a command ends: exit status, one paragraph, traceback only when asked for."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from cli import app as cli_app
from machine.errors import InconclusiveError, LabError, NotBuiltError, SettingsError
from machine.paths import CHECKOUT


def one_command(monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> None:
    """Make ./lab a program with the command `go`, which raises `error`."""

    def build() -> typer.Typer:
        app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

        @app.callback()
        def common() -> None:
            """Hold the command as a subcommand."""

        @app.command()
        def go() -> None:
            """Raise what the test wants."""
            if error is not None:
                raise error

        return app

    monkeypatch.setattr(cli_app, "build", build)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LabError("It broke", where="there", next="Mend it."), 1),
        (SettingsError("etcd-lab:nodes = 0 is below 1", next="Give 1 to 9."), 2),
        (NotBuiltError("There is no lab", next="./lab up builds one."), 2),
        (InconclusiveError("The fault did not show"), 3),
    ],
)
def test_an_error_is_one_paragraph_and_its_own_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: LabError, status: int
) -> None:
    one_command(monkeypatch, error)
    assert cli_app.main(["go"]) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"Error: {error}\n"
    assert "Traceback" not in said.err


def test_debug_adds_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    one_command(monkeypatch, LabError("It broke"))
    assert cli_app.main(["go", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_defect_of_ours_names_itself_and_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one_command(monkeypatch, KeyError("oops"))
    assert cli_app.main(["go"]) == 1
    said = capsys.readouterr().err
    assert "KeyError" in said
    assert "--debug" in said
    assert "Traceback" not in said


def test_ctrl_c_ends_with_130_and_a_word_about_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one_command(monkeypatch, KeyboardInterrupt())
    monkeypatch.setattr(cli_app, "BUILDING", {"go"})
    assert cli_app.main(["go"]) == 130
    said = capsys.readouterr().err
    assert "Interrupted. " in said
    assert "./lab destroy" in said


@pytest.mark.parametrize("words", [["nonsense"], ["go", "--nonsense"], ["go", "extra"]])
def test_wrong_usage_ends_with_2(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    one_command(monkeypatch)
    assert cli_app.main(words) == 2


@pytest.mark.parametrize(
    ("words", "rest", "debug"),
    [
        (["up", "--debug"], ["up"], True),
        (["--debug", "up", "--stack", "a"], ["up", "--stack", "a"], True),
        (["ctl", "--debug", "etcd1", "get", "x"], ["ctl", "etcd1", "get", "x"], True),
        (["ctl", "--stack", "a", "--debug", "etcd1"], ["ctl", "--stack", "a", "etcd1"], True),
        (["ctl", "etcd1", "--debug", "get"], ["ctl", "etcd1", "--debug", "get"], False),
        (["ssh", "etcd1", "--", "prog", "--debug"], ["ssh", "etcd1", "--", "prog", "--debug"], False),
    ],
)
def test_debug_is_taken_only_where_it_is_ours(words: list[str], rest: list[str], *, debug: bool) -> None:
    assert cli_app.take_debug(words) == (rest, debug)


def test_every_command_of_the_contract_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """The names stand in design.md, "Commands"; people and programs rely on them."""
    contract = "verify test doctor setup env up destroy stop start status health ctl ssh logs fault heal check report"
    assert cli_app.main(["--help"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert {*contract.split(), "sweep"} <= listed


@pytest.mark.parametrize("name", [n for n in cli_app.COMMANDS if n != "fault"])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_app.main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"./lab {name}" in said
    assert len(said.splitlines()) > 3


def test_help_imports_nothing_heavy() -> None:
    """What makes ./lab --help answer in 0.3 s is measured by bench; that nothing heavy is loaded is the cause."""
    code = (
        "import sys; from cli.app import main; main(['--help'])\n"
        "heavy = {'pydantic', 'pulumi', 'libvirt', 'grpc', 'cryptography', 'pytest', 'numpy', 'rich.console',"
        " 'gevent', 'pyinfra'} & set(sys.modules)\n"
        "sys.stderr.write(' '.join(sorted(heavy)))"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT, check=True)
    assert done.stderr == "", f"loaded by --help, which took {time.monotonic() - started:.2f} s"


def test_main_is_a_module_that_python_can_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli", "nonsense"], capture_output=True, text=True, cwd=CHECKOUT, check=False
    )
    assert done.returncode == 2
    assert "nonsense" in done.stderr


def test_no_command_file_is_left_out() -> None:
    """A file that defines register() but is not listed would be a command that nobody can reach."""
    files = {path.stem for path in Path(CHECKOUT, "cli").glob("*.py") if "def register(" in path.read_text()}
    assert files == set(cli_app.COMMANDS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up"], ["./lab up goes on"]),
        (["fault", "inject", "kill"], ["./lab heal mends all"]),
        (["heal"], ["./lab heal mends all"]),
        (["verify", "--stack", "x"], ["./lab heal mends all", "./lab up goes on"]),
        (["status"], []),
        ([], []),
    ],
)
def test_who_interrupts_a_command_is_told_what_it_may_have_left(words: list[str], said: list[str]) -> None:
    text = cli_app.left_by(words)
    hints = ["./lab heal mends all", "./lab up goes on"]
    assert [hint for hint in hints if hint in text] == said
    assert bool(text) == bool(said)
