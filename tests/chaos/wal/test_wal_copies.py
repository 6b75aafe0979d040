"""Members' logs from where etcd writes them to where `./lab check` reads them."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from chaos.checker.errors import WalError
from chaos.checker.raftlog.copies import ABOUT, load
from chaos.measure import raft_logs
from cli.check import register
from machine.errors import LabError, UsageError
from machine.process import Completed, run
from tests.chaos.wal.written import entry, of, put, state, written

PREALLOCATED = 8 << 20
NAME = "0000000000000000-0000000000000000.wal"

FILEFRAG = """67108864
Filesystem type is: ef53
File size of w is 67108864 (16384 blocks of 4096 bytes)
 ext:     logical_offset:        physical_offset: length:   expected: flags:
   0:        0..       4:   51053058..  51053062:      5:            
   1:        5..       8:   51053063..  51053066:      4:             unwritten
   2:        9..       9:   51053067..  51053067:      1:            
   3:       10..   16383:   51053068..  51069441:  16374:             last,unwritten,eof
w: 1 extent found
"""  # noqa: W291 - as filefrag of e2fsprogs 1.47 prints it


def test_what_was_written_ends_with_the_last_extent_that_was() -> None:
    assert raft_logs.written(FILEFRAG) == 10 * 4096
    assert raft_logs.written(FILEFRAG.replace("67108864\n", "40000\n", 1)) == 40000, "never beyond the end"
    assert raft_logs.written("123\n") == 123, "the whole of a file of which the file system tells nothing"
    with pytest.raises(WalError, match="not told"):
        raft_logs.written("stat: cannot statx")


class Guests:
    """Members whose shells are this machine's, one directory each."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.down: set[str] = set()
        self.together = threading.Barrier(3, timeout=10)
        monkeypatch.setattr(raft_logs, "DIRECTORY", "wal")

    def write(self, node: str, data: bytes) -> None:
        """A log as etcd leaves it: the room allocated ahead, the data written and synced."""
        path = self.directory / node / "wal" / NAME
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, PREALLOCATED)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        (path.parent / "0.tmp").touch()

    def shell(self, node: str) -> Any:
        first = [True]

        def here(script: str, seconds: float) -> Completed:
            if first.pop() if first else False:
                self.together.wait()  # all are asked at once
            if node in self.down:
                raise LabError(f"Cannot connect to {node}")
            return run(["sh", "-c", script], seconds=seconds, cwd=self.directory / node)

        return SimpleNamespace(run=here)


ITEMS = [of(entry(1, data=put("a", "1"))), of(entry(2, data=put("a", "2"))), of(entry(3, data=put("end", "e")))]


@pytest.fixture
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guests:
    made = Guests(tmp_path / "guests", monkeypatch)
    for node in ("m1", "m2", "m3"):
        made.write(node, written([*ITEMS, state(1, 3)])[0])
    return made


def collected(guests: Guests, into: Path) -> Any:
    lab: Any = guests
    return raft_logs.collect(lab, ["m1", "m2", "m3"], 0, into)


def test_copies_come_without_the_empty_rest_from_all_at_once_and_say_who_is_missing(
    guests: Guests, tmp_path: Path
) -> None:
    guests.down.add("m2")
    found = collected(guests, tmp_path / "wal")
    assert [log.member for log in found.logs] == ["m1", "m3"]
    assert [one.index for one in found.logs[0].entries] == [1, 2, 3]
    assert found.missed == {"m2": "Cannot connect to m2."}
    assert found == load(tmp_path / "wal"), "what is read later is what was read then"
    copy = tmp_path / "wal" / "m1" / NAME
    assert copy.stat().st_size < PREALLOCATED // 10


def test_more_than_can_be_read_in_time_is_not_even_sent(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raft_logs, "MOST_BYTES", 100)
    found = collected(guests, tmp_path / "wal")
    assert not found.logs
    assert "more than is read" in found.missed["m1"]
    assert not list(tmp_path.glob("wal/m*"))


def test_a_copy_that_is_cut_short_is_refused() -> None:
    line = run(["sh", "-c", "printf 12345 | gzip -1 | base64 -w0"]).stdout
    assert raft_logs.unpack(f"{line}\n", ["a"], [5]) == [("a", b"12345")]
    for text, sizes in ((f"{line}\n", [6]), (f"{line[:-8]}\n", [5]), ("", [5])):
        with pytest.raises(WalError, match="did not come whole"):
            raft_logs.unpack(text, ["a"], sizes)


def history(directory: Path) -> Path:
    """Of the second write nobody heard, and the third was acknowledged at revision 4: the second was done, at 3."""
    lines = [
        {"op": "put", "key": "a", "value": "1", "outcome": "ok", "revision": 2, "invoke_ns": 1, "return_ns": 2},
        {"op": "put", "key": "a", "value": "2", "outcome": "unknown", "invoke_ns": 3, "return_ns": None},
        {"op": "put", "key": "end", "value": "e", "outcome": "ok", "revision": 4, "invoke_ns": 5, "return_ns": 6},
        {"op": "get", "key": "a", "value": "1", "outcome": "ok", "revision": 4, "invoke_ns": 7, "return_ns": 8},
    ]
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "history.jsonl"
    path.write_text("".join(json.dumps({"process": n} | line) + "\n" for n, line in enumerate(lines)))
    return path


def check(*words: str) -> Any:
    app = Typer()
    register(app)
    return CliRunner().invoke(app, list(words))


def test_check_uses_the_copies_beside_a_history(guests: Guests, tmp_path: Path) -> None:
    path = history(tmp_path)
    alone = check(str(path), "--json")
    assert alone.exit_code == 0, "the write may have been done later, or never"
    assert "logs" not in json.loads(alone.output)

    collected(guests, tmp_path / "wal")
    told = json.loads(check(str(path), "--json").output)
    assert told["verdict"] == "violation", "the log has it at revision 3, so that the read at 4 is stale"
    assert told["logs"] == {"done": 1, "never": 0, "committed": 0, "missed": {}}
    plain = check(str(path))
    assert plain.exit_code == 1
    assert "by the log 1 as done and 0 as never done" in plain.output


def test_copies_without_their_note_are_bad_input(guests: Guests, tmp_path: Path) -> None:
    path = history(tmp_path)
    collected(guests, tmp_path / "wal")
    (tmp_path / "wal" / ABOUT).write_text('{"members": 3}')
    result = check(str(path))
    assert isinstance(result.exception, UsageError)
    assert result.exception.where.endswith(ABOUT)


def test_a_broken_copy_is_left_out_and_named(guests: Guests, tmp_path: Path) -> None:
    path = history(tmp_path)
    collected(guests, tmp_path / "wal")
    copy = tmp_path / "wal" / "m3" / NAME
    copy.write_bytes(copy.read_bytes().replace(b"end", b"END"))
    result = check(str(path))
    assert result.exit_code == 1, "two of three are enough"
    assert "log of m3 not used" in result.output
    assert "checksum" in result.output
