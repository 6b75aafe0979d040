"""machine.ssh against a stand-in for ssh that runs the "remote" command by the local shell."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from machine.errors import DeadlineError, ToolError
from machine.ssh import Shell, SshError

WORDS = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=20)

_FAKE = r"""#!/bin/sh
# -M: connects (or fails with the words in $DIR/refuse); -O check: whether it did; else: runs the last word.
echo "$@" >>"$DIR/calls"
for word in "$@"; do
  case $word in
  -M) [ ! -e "$DIR/refuse" ] || { cat "$DIR/refuse" >&2; exit 255; }
    touch "$DIR/sockets/etcd1"; exit 0 ;;
  -O) [ ! -e "$DIR/dead" ] && [ -e "$DIR/sockets/etcd1" ]; exit $? ;;
  esac
  last=$word
done
[ ! -e "$DIR/lost" ] || { echo "Shared connection closed." >&2; exit 255; }
exec sh -c "$last"
"""


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    (tmp_path / "ssh").write_text(_FAKE)
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("DIR", str(tmp_path))
    return Shell("etcd1", "192.0.2.1", tmp_path / "key", tmp_path / "known_hosts", tmp_path / "sockets", None)


def calls(tmp_path: Path) -> list[list[str]]:
    return [shlex.split(line) for line in (tmp_path / "calls").read_text().splitlines()]


def test_two_commands_share_one_connection(shell: Shell, tmp_path: Path) -> None:
    assert shell.run("echo one", 10).stdout == "one\n"
    assert shell.run("echo two", 10).stdout == "two\n"
    assert sum("-M" in words for words in calls(tmp_path)) == 1


def test_a_stale_socket_is_replaced_by_a_new_connection(shell: Shell, tmp_path: Path) -> None:
    shell.run("true", 10)
    (tmp_path / "dead").touch()
    with pytest.raises(ToolError):
        shell.run("exit 3", 10)
    assert sum("-M" in words for words in calls(tmp_path)) == 2


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORDS, max_size=4))
def test_arguments_arrive_as_they_were_given(shell: Shell, words: list[str]) -> None:
    assert shell.run(["printf", "%s\\n", "", *words], 10).stdout == "".join(f"{word}\n" for word in ["", *words])


@pytest.mark.parametrize("status", [1, 3, 254, 255])
def test_the_commands_own_status_is_told_from_a_lost_connection(shell: Shell, status: int) -> None:
    done = shell.run(f"echo why >&2; exit {status}", 10, check=False)
    assert (done.status, done.stderr.strip()) == (status, "why")
    with pytest.raises(ToolError, match=f"etcd1 ended with status {status}") as caught:
        shell.run(f"echo why >&2; exit {status}", 10)
    assert not isinstance(caught.value, SshError)


def test_a_connection_lost_on_the_way_says_so(shell: Shell, tmp_path: Path) -> None:
    shell.run("true", 10)
    (tmp_path / "lost").touch()
    with pytest.raises(SshError, match="Lost the connection to etcd1") as caught:
        shell.run("true", 10, check=False)
    assert caught.value.stage == "session"


@pytest.mark.parametrize(
    ("said", "stage"),
    [
        ("ssh: connect to host 192.0.2.1 port 22: Connection refused", "connect"),
        ("kex_exchange_identification: Connection closed by remote host", "connect"),
        ("No ED25519 host key is known for 192.0.2.1\nHost key verification failed.", "host key"),
        ("root@192.0.2.1: Permission denied (publickey).", "login"),
    ],
)
def test_a_failure_to_connect_names_the_stage(shell: Shell, tmp_path: Path, said: str, stage: str) -> None:
    (tmp_path / "refuse").write_text(said + "\n")
    with pytest.raises(SshError) as caught:
        shell.run("true", 10)
    assert caught.value.stage == stage
    assert said.splitlines()[-1] in str(caught.value)


def test_a_long_script_goes_by_standard_input(shell: Shell) -> None:
    script = f"# {'x' * 200_000}\necho done"
    assert shell.run(script, 10).stdout == "done\n"


def test_standard_input_reaches_the_command(shell: Shell) -> None:
    assert shell.run(["cat"], 10, stdin="secret").stdout == "secret"


def test_a_command_that_hangs_ends_with_the_deadline(shell: Shell) -> None:
    with pytest.raises(DeadlineError, match="on etcd1"):
        shell.run("exec sleep 30", 0.7)


def test_commands_never_connect_by_themselves(shell: Shell, tmp_path: Path) -> None:
    """Traffic to lab addresses must leave from the lab's namespace, which only the master is in."""
    shell.run("true", 10)
    commands = [words for words in calls(tmp_path) if "-M" not in words]
    assert commands
    assert all("-oProxyCommand=false" in words for words in commands)


def test_host_keys_are_always_checked_and_the_users_configuration_is_not_read(shell: Shell, tmp_path: Path) -> None:
    shell.run("true", 10)
    for words in calls(tmp_path):
        assert "-oStrictHostKeyChecking=yes" in words
        assert words[0] == "-F/dev/null"


def test_words_for_exec_keep_the_command_whole(shell: Shell) -> None:
    argv = shell.exec_argv(["etcdctl", "get", "a b"], tty=True)
    assert argv[0] == "ssh"
    assert argv[-3:] == ["-t", "root@192.0.2.1", "etcdctl get 'a b'"]
    assert shell.exec_argv([], tty=False)[-2:] == ["-T", "root@192.0.2.1"]


def test_close_forgets_the_connection(shell: Shell, tmp_path: Path) -> None:
    shell.run("true", 10)
    shell.close()
    shell.close()
    assert not (tmp_path / "sockets" / "etcd1").exists()
