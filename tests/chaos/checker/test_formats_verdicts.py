"""Other tools' histories: recognised by content, and judged both ways."""

# ruff: noqa: E501 - a case a line
from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chaos.checker.errors import HistoryError
from chaos.checker.formats.choices import choose
from chaos.checker.formats.edn import Atom, Keyword
from chaos.checker.formats.judging import Judged, judge
from chaos.checker.formats.names import key_of, value_of
from chaos.checker.formats.opening import find, open_foreign
from chaos.checker.formats.robustness import fnv32a
from chaos.checker.verdict import Verdict
from machine.errors import UsageError
from tests.chaos.checker.foreign_words import Line
from tests.chaos.checker.test_checker_command import app

AUTO = choose("auto", "auto", None, "ignored")


def judged(path: Path, text: str | bytes, **options: str | None) -> Judged:
    """A file's verdict."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = {"form": "auto", "model": "auto", "initial": None, "failed_cas": "ignored"} | options
    choices = choose(said["form"] or "", said["model"] or "", said["initial"], said["failed_cas"] or "")
    return judge(open_foreign(find(path, said["form"] or ""), choices), path, seconds=20)


def ops(*words: str) -> str:
    """`0 invoke write 1` and the like as lines of EDN."""
    lines = []
    for number, one in enumerate(words):
        process, kind, f, value = one.split(" ", 3)
        lines.append(f"{{:index {number}, :type :{kind}, :process {process}, :f :{f}, :value {value}}}\n")
    return "".join(lines)


WRITE = ("0 invoke write 5", "0 ok write 5")
READS_5 = ("1 invoke read nil", "1 ok read 5")
READS_NIL = ("1 invoke read nil", "1 ok read nil")
OPEN = ("2 invoke write 6", "2 info write 6")

CASES = [
    ("single key, fine", ops(*WRITE, *READS_5), "linearizable"),
    ("single key, write lost", ops(*WRITE, *READS_NIL), "violation"),
    ("info may have happened later", ops(*OPEN, *WRITE, *READS_5, "3 invoke read nil", "3 ok read 6"), "linearizable"),
    ("info happens once", ops(*OPEN, *WRITE, "3 invoke read nil", "3 ok read 6", *WRITE, "3 invoke read nil", "3 ok read 6"), "violation"),
    ("info may never have happened", ops(*WRITE, *OPEN, *READS_5), "linearizable"),
    ("an open invocation may have happened", ops(*WRITE, "2 invoke write 6", "1 invoke read nil", "1 ok read 6"), "linearizable"),
    ("fail did not happen", ops(*WRITE, "2 invoke write 6", "2 fail write 6", "1 invoke read nil", "1 ok read 6"), "violation"),
    ("fail did not happen, fine", ops(*WRITE, "2 invoke write 6", "2 fail write 6", *READS_5), "linearizable"),
    ("a process goes on after info", ops(*OPEN, "2 invoke read nil", "2 ok read 6"), "linearizable"),
    ("cas", ops(*WRITE, "1 invoke cas [5 7]", "1 ok cas [5 7]", "0 invoke read nil", "0 ok read 7"), "linearizable"),
    ("cas of another value", ops(*WRITE, "1 invoke cas [4 7]", "1 ok cas [4 7]"), "violation"),
    ("cas from nil", ops("1 invoke cas [nil 7]", "1 ok cas [nil 7]", "0 invoke read nil", "0 ok read 7"), "linearizable"),
    ("cas to nil", ops(*WRITE, "1 invoke cas [5 nil]", "1 ok cas [5 nil]", "0 invoke read nil", "0 ok read nil"), "linearizable"),
    ("cas to nil, not seen", ops(*WRITE, "1 invoke cas [5 nil]", "1 ok cas [5 nil]", *READS_5), "violation"),
    ("write of nil", ops(*WRITE, "0 invoke write nil", "0 ok write nil", *READS_NIL), "linearizable"),
    ("nemesis", ops(":nemesis info start nil", *WRITE, ":nemesis info start :cut", *READS_5), "linearizable"),
    ("1 is not \"1\"", ops('0 invoke write "5"', '0 ok write "5"', *READS_5), "violation"),
    (":a is not \"a\"", ops('0 invoke write "a"', '0 ok write "a"', "1 invoke read nil", "1 ok read :a"), "violation"),
    ("collections as values", ops("0 invoke write {:a [1]}", "0 ok write {:a [1]}", "1 invoke read nil", "1 ok read {:a [1]}"), "linearizable"),
    ("independent keys, fine", ops("0 invoke write [1 5]", "0 ok write [1 5]", "1 invoke read [2 nil]", "1 ok read [2 nil]"), "linearizable"),
    ("independent keys, write lost", ops("0 invoke write [1 5]", "0 ok write [1 5]", "1 invoke read [1 nil]", "1 ok read [1 nil]"), "violation"),
    ("independent cas", ops("0 invoke cas [1 [nil 5]]", "0 ok cas [1 [nil 5]]", "1 invoke read [1 nil]", "1 ok read [1 5]"), "linearizable"),
    ("tuples as records", ops("0 invoke write #jepsen.independent.Tuple{:key 1, :value 5}", "0 ok write #jepsen.independent.Tuple{:key 1, :value 5}", "1 invoke read #clojure.lang.MapEntry[1 nil]", "1 ok read #clojure.lang.MapEntry[1 nil]"), "violation"),
    ("a register of pairs", ops("0 invoke write [1 5]", "0 ok write [1 5]", "1 invoke read nil", "1 ok read [1 5]"), "linearizable"),
    ("mutex", ops("0 invoke acquire nil", "0 ok acquire nil", "0 invoke release nil", "1 invoke acquire nil", "0 ok release nil", "1 ok acquire nil"), "linearizable"),
    ("mutex held twice", ops("0 invoke acquire nil", "0 ok acquire nil", "1 invoke acquire nil", "1 ok acquire nil"), "violation"),
    ("transactions of registers", ops("0 invoke txn [[:w :x 1] [:w :y 2]]", "0 ok txn [[:w :x 1] [:w :y 2]]", "1 invoke txn [[:r :y nil] [:r :x nil]]", "1 ok txn [[:r :y 2] [:r :x 1]]"), "linearizable"),
    ("a transaction half seen", ops("0 invoke txn [[:w :x 1] [:w :y 2]]", "0 ok txn [[:w :x 1] [:w :y 2]]", "1 invoke txn [[:r :y nil] [:r :x nil]]", "1 ok txn [[:r :y 2] [:r :x nil]]"), "violation"),
    ("kv without appends", '{:process 0, :type :invoke, :f :put, :key "0", :value "v"}\n{:process 0, :type :ok, :f :put, :key "0", :value "v"}\n{:process 1, :type :invoke, :f :get, :key "0", :value nil}\n{:process 1, :type :ok, :f :get, :key "0", :value ""}\n', "violation"),
    ("kv begins as the empty string", '{:process 1, :type :invoke, :f :get, :key "0", :value nil}\n{:process 1, :type :ok, :f :get, :key "0", :value ""}\n', "linearizable"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "right"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_an_operation_means(text: str, right: str, tmp_path: Path) -> None:
    assert judged(tmp_path / "history.edn", text).report.verdict.value == right


@pytest.mark.parametrize(("text", "right"), [case[1:] for case in CASES[:20]], ids=[case[0] for case in CASES[:20]])
def test_one_vector_one_list_and_tagged_maps_mean_the_same(text: str, right: str, tmp_path: Path) -> None:
    tagged = text.replace("{:index", "#jepsen.history.Op{:index")
    for told in (f"[{text}]", f"({tagged})", f"; head\n#_ {{:a 1}} {tagged}"):
        assert judged(tmp_path / "x", told).report.verdict.value == right


def test_times_are_those_of_the_file_and_else_the_order(tmp_path: Path) -> None:
    timed = "".join(
        f"{{:type :{kind}, :process {p}, :f :read, :value {v}, :time {t}}}\n"
        for kind, p, v, t in (("invoke", 0, "nil", 700), ("ok", 0, "3", 900))
    )
    found = judged(tmp_path / "h", timed).report.violation
    assert found is not None
    assert found.window_ns == (700, 900)
    found = judged(tmp_path / "h", timed.replace(":time 900", ":time 600")).report.violation
    assert found is not None
    assert found.window_ns == (0, 1)


def test_events_of_one_time_came_in_the_order_of_the_file(tmp_path: Path) -> None:
    told = "".join(one.replace("}\n", ", :time 8}\n") for one in ops(*WRITE, *READS_NIL).splitlines(keepends=True))
    assert judged(tmp_path / "h", told).report.verdict == Verdict.VIOLATION


def test_index_orders_a_file_that_is_not_in_order(tmp_path: Path) -> None:
    lines = ops(*WRITE, *READS_NIL).splitlines(keepends=True)
    assert judged(tmp_path / "h", "".join(reversed(lines))).report.verdict == Verdict.VIOLATION


def test_a_violation_tells_the_lines_of_the_file(tmp_path: Path) -> None:
    found = judged(tmp_path / "h", ";\n\n" + ops(*WRITE, ":nemesis info x nil", *READS_NIL)).report.violation
    assert found is not None
    assert found.lines == (3, 6)


def test_the_first_value_is_nil_unless_it_is_said(tmp_path: Path) -> None:
    told = ops("1 invoke read nil", "1 ok read 0")
    assert judged(tmp_path / "h", told).report.verdict == Verdict.VIOLATION
    assert "--initial" in judged(tmp_path / "h", told).text()
    assert judged(tmp_path / "h", told, initial="0").report.verdict == Verdict.LINEARIZABLE
    assert judged(tmp_path / "h", ops(*READS_NIL), initial="0").report.verdict == Verdict.VIOLATION


def test_a_failed_cas_says_nothing_unless_it_is_taken_for_refused(tmp_path: Path) -> None:
    told = ops(*WRITE, "1 invoke cas [5 7]", "1 fail cas [5 7]", "0 invoke read nil", "0 ok read 5")
    assert judged(tmp_path / "h", told).report.verdict == Verdict.LINEARIZABLE
    assert judged(tmp_path / "h", told, failed_cas="refused").report.verdict == Verdict.VIOLATION
    known = told.replace(":type :fail", ":error :refused-connection, :type :fail")
    assert judged(tmp_path / "h", known, failed_cas="refused").report.verdict == Verdict.LINEARIZABLE


LOG = """2030-01-01 10:00:00,001{GMT}\tINFO\t[main] jepsen.core: Running test
2030-01-01 10:00:00,002{GMT}\tINFO\t[jepsen worker 0] jepsen.util: 0\t:invoke\t:write\t5
2030-01-01 10:00:00,003{GMT}\tINFO\t[jepsen worker nemesis] jepsen.util: :nemesis\t:info\t:start\tnil
2030-01-01 10:00:00,004{GMT}\tINFO\t[jepsen worker 0] jepsen.util: 0\t:ok\t:write\t5
2030-01-01 10:00:00,005{GMT}\tINFO\t[jepsen worker 1] jepsen.util: 1\t:invoke\t:read\tnil
2030-01-01 10:00:00,006{GMT}\tINFO\t[jepsen worker 1] jepsen.util: 1\t:ok\t:read\tSEEN
2030-01-01 10:00:00,007{GMT}\tINFO\t[jepsen worker 2] jepsen.util: 2\t:invoke\t:cas\t[5 6]
2030-01-01 10:00:00,008{GMT}\tINFO\t[jepsen worker 2] jepsen.util: 2\t:info\t:cas\t:timed-out
"""


@pytest.mark.parametrize(("seen", "right"), [("5", "linearizable"), ("nil", "violation"), ("6", "violation")])
def test_log_lines_old_new_and_bare(seen: str, right: str, tmp_path: Path) -> None:
    new = LOG.replace("SEEN", seen)
    bare = "\n".join(line.partition("jepsen.util: ")[2] for line in new.splitlines() if "util" in line) + "\n"
    old = "".join(f"INFO  jepsen.util - {line}\n" for line in bare.splitlines())
    for text in (new, bare, old):
        found = judged(tmp_path / "jepsen.log", text)
        assert (found.foreign.format, found.report.verdict.value) == ("jepsen-log", right)


def test_json_arrays_and_bare_objects(tmp_path: Path) -> None:
    for seen, right in ((5, "linearizable"), ("5", "violation"), (None, "violation")):
        array = [
            {"type": "invoke", "f": "write", "value": 5, "process": 0, "time": 10, "index": 0},
            {"type": "ok", "f": "write", "value": 5, "process": 0, "time": 20, "index": 1},
            {"type": "info", "f": "start", "value": None, "process": "nemesis", "time": 21, "index": 2},
            {"type": "invoke", "f": "read", "value": None, "process": 1, "time": 30, "index": 3},
            {"type": "ok", "f": "read", "value": seen, "process": 1, "time": 40, "index": 4},
        ]
        for text in (json.dumps(array), json.dumps(array, indent=2), "\n".join(map(json.dumps, array))):
            found = judged(tmp_path / "h.json", text)
            assert (found.foreign.format, found.report.verdict.value) == ("elle", right)


OTHERS = [
    ("0 invoke txn [[:append 1 2] [:r 1 nil]]", "list-append"),
    ("0 invoke add 3", "a set"),
    ("0 invoke transfer {:from 1, :to 2, :amount 3}", "a bank"),
    ("0 invoke enqueue 3", "a queue"),
    ("0 invoke append 3", "a list"),
]


@pytest.mark.parametrize(("told", "what"), OTHERS)
def test_what_only_others_decide_ends_with_exit_3_and_elle(told: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "history.edn"
    path.write_text(ops(told))
    result = CliRunner().invoke(app(), [str(path)])
    assert result.exit_code == 3
    assert what in result.output
    assert "Elle" in result.output
    as_json = json.loads(CliRunner().invoke(app(), [str(path), "--json"]).output)
    assert as_json["verdict"] == "unknown"


def test_a_model_of_others_is_not_decided_here(tmp_path: Path) -> None:
    found = judged(tmp_path / "h", ops(*WRITE), model="set-full")
    assert found.report.verdict == Verdict.UNKNOWN
    assert "set-full" in found.report.reason


def test_no_two_names_become_one() -> None:
    things = [
        1,
        "1",
        "edn:1",
        Keyword("a"),
        "a",
        ":a",
        True,
        "true",
        1.0,
        Atom("\\a"),
        Atom("a"),
        (1,),
        "[1]",
        '"1"',
        2**70,
    ]
    for name in (key_of, value_of):
        assert len({name(thing) for thing in things}) == len(things)


REPORT: dict[str, list[Line]] = {
    "client-1/operations.json": [
        {"ClientId": 1, "Input": {"Type": "txn", "Txn": {"Conditions": [], "OperationsOnSuccess": [{"Type": "put-operation", "Put": {"Key": "k", "Value": {"Value": "v" * 30}}}]}}, "Call": 10, "Output": {"Txn": {"Failure": False, "Results": [{}]}, "Revision": 2}, "Return": 20},
        {"ClientId": 1, "Input": {"Type": "defragment", "Defragment": {}}, "Call": 21, "Output": {"Defragment": {}, "Revision": 2}, "Return": 22},
        {"ClientId": 1, "Input": {"Type": "leaseGrant", "LeaseGrant": {"LeaseID": 7}}, "Call": 23, "Output": {"LeaseGrant": {"LeaseID": 0}, "Revision": 2}, "Return": 24},
        {"ClientId": 1, "Input": {"Type": "txn", "Txn": {"OperationsOnSuccess": [{"Type": "put-operation", "Put": {"Key": "l", "Value": {"Value": "x"}, "LeaseID": 7}}]}}, "Call": 25, "Output": {"Error": "context canceled"}, "Return": 999},
    ],
    "client-2/operations.json": [
        {"ClientId": 2, "Input": {"Type": "range", "Range": {"Start": "k", "End": "", "Limit": 0, "Revision": 0}}, "Call": 30, "Output": {"Range": {"KVs": [{"Key": "k", "Value": {"Hash": fnv32a(b"v" * 30)}, "ModRevision": 2}], "Count": 1}, "Revision": 2}, "Return": 40},
        {"ClientId": 2, "Input": {"Type": "txn", "Txn": {"OperationsOnSuccess": [{"Type": "delete-operation", "Delete": {"Key": "k"}}]}}, "Call": 50, "Output": {"Txn": {"Results": [{"Deleted": 1}]}, "Revision": 3}, "Return": 60},
    ],
    "client-2/watch.json": [
        {"Request": {"Key": "", "Revision": 2, "WithPrefix": True, "WithPrevKV": True}, "Responses": [
            {"Events": [{"Type": "put-operation", "Key": "k", "Value": {"Hash": fnv32a(b"v" * 30)}, "Revision": 2, "IsCreate": True}], "Revision": 2, "Time": 22},
            {"Events": [{"Type": "delete-operation", "Key": "k", "Value": {}, "Revision": 3, "PrevValue": {"Value": {"Hash": fnv32a(b"v" * 30)}, "ModRevision": 2}}], "Revision": 3, "Time": 61},
            {"IsProgressNotify": True, "Revision": 3, "Time": 70},
            {"Error": "context canceled", "Time": 71, "Revision": 0}]},
    ],
}  # fmt: skip


def write_report(folder: Path, *, change: tuple[str, str] = ("", ""), file: str = "") -> Path:
    """The report, with one text replaced in one file."""
    for name, those in REPORT.items():
        text = "".join(json.dumps(one) + "\n" for one in those)
        if name == file:
            assert change[0] in text
            text = text.replace(*change)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


DAMAGE = [
    ("client-2/operations.json", ('"ModRevision": 2', '"ModRevision": 1')),
    ("client-2/operations.json", ('"Deleted": 1', '"Deleted": 0')),
    ("client-2/operations.json", ('"Revision": 3}', '"Revision": 2}')),
    ("client-2/operations.json", (str(fnv32a(b"v" * 30)), "12345")),
    ("client-2/watch.json", ('"Type": "delete-operation"', '"Type": "put-operation"')),
    ("client-2/watch.json", ('"Key": "k", "Value": {"Hash"', '"Key": "j", "Value": {"Hash"')),
]


def test_a_report_of_robustness_tests_is_judged_with_its_revisions_and_watches(tmp_path: Path) -> None:
    folder = write_report(tmp_path)
    found = judge(open_foreign(find(folder), AUTO), folder, seconds=10)
    assert found.report.text().startswith("linearizable (5 operations")
    assert len(found.foreign.watch) == 5


@pytest.mark.parametrize(("file", "change"), DAMAGE)
def test_a_damaged_report_is_a_violation(file: str, change: tuple[str, str], tmp_path: Path) -> None:
    folder = write_report(tmp_path, change=change, file=file)
    assert judge(open_foreign(find(folder), AUTO), folder, seconds=10).report.verdict == Verdict.VIOLATION


def test_one_client_of_a_report_points_to_the_folder(tmp_path: Path) -> None:
    folder = write_report(tmp_path)
    with pytest.raises(HistoryError, match="one client's part") as caught:
        find(folder / "client-1" / "operations.json")
    assert str(folder) in str(caught.value)


def test_the_hash_is_that_of_go() -> None:
    """Vectors of the FNV page (Noll): the empty string, "a" and "foobar"."""
    assert [fnv32a(text) for text in (b"", b"a", b"foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]


def test_folders_lead_to_their_history(tmp_path: Path) -> None:
    store = tmp_path / "store"
    run = store / "lin-kv" / "20300101T000000"
    run.mkdir(parents=True)
    (run / "history.edn").write_text(ops("0 invoke write [0 5]", "0 ok write [0 5]"))
    assert find(store).path == run / "history.edn"
    other = store / "lin-kv" / "20300102T000000"
    other.mkdir()
    (other / "history.edn").write_text(ops(*WRITE))
    with pytest.raises(HistoryError, match="2 histories"):
        find(store)
    (store / "latest").symlink_to(other)
    assert find(store).path.resolve() == other / "history.edn"
    (run / "history.jsonl").write_text("")
    assert find(run).format == "etcd-lab"


def test_the_binary_store_points_to_the_edn_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "test.jepsen"
    path.write_bytes(b"JEPSEN\0\0\0\1")
    (tmp_path / "history.edn").write_text(ops(*WRITE))
    result = CliRunner().invoke(app(), [str(path)])
    assert isinstance(result.exception, UsageError)
    assert str(tmp_path / "history.edn") in str(result.exception)
    assert find(tmp_path).path.name == "history.edn"


def test_convert_writes_ours_and_replaces_nothing(tmp_path: Path) -> None:
    path, out = tmp_path / "h.edn", tmp_path / "ours"
    path.write_text(ops(*WRITE, *READS_NIL))
    result = CliRunner().invoke(app(), [str(path), "--convert", str(out)])
    assert (result.exit_code, CliRunner().invoke(app(), [str(out)]).exit_code) == (1, 1)
    again = CliRunner().invoke(app(), [str(path), "--convert", str(out)])
    assert isinstance(again.exception, UsageError)
    assert "exists already" in str(again.exception)


def test_convert_of_a_report_keeps_its_watches(tmp_path: Path) -> None:
    folder = write_report(tmp_path / "report", change=DAMAGE[4][1], file=DAMAGE[4][0])
    assert CliRunner().invoke(app(), [str(folder), "--convert", str(tmp_path / "o")]).exit_code == 1
    assert (tmp_path / "o" / "watch.jsonl").exists()
    assert CliRunner().invoke(app(), [str(tmp_path / "o" / "history.jsonl")]).exit_code == 1


def txn(conditions: list[Line], yes: list[Line], no: list[Line]) -> Line:
    """A transaction as etcd's tests ask for it."""
    return {"Type": "txn", "Txn": {"Conditions": conditions, "OperationsOnSuccess": yes, "OperationsOnFailure": no}}


def put_of(key: str, value: str) -> Line:
    return {"Type": "put-operation", "Put": {"Key": key, "Value": {"Value": value}}}


def get_of(start: str, end: str = "", limit: int = 0, revision: int = 0) -> Line:
    return {"Type": "range", "Range": {"Start": start, "End": end, "Limit": limit, "Revision": revision}}


def kv(key: str, value: str, mod: int, version: int = 1) -> Line:
    return {"Key": key, "Value": {"Value": value}, "ModRevision": mod, "Version": version}


def answer(*kvs: Line, count: int = -1) -> Line:
    return {"KVs": list(kvs), "Count": len(kvs) if count < 0 else count}


PUTS: list[tuple[Line, Line]] = [
    (txn([], [put_of("a", "1")], []), {"Txn": {"Results": [{}]}, "Revision": 2}),
    (txn([], [put_of("b", "2")], []), {"Txn": {"Results": [{}]}, "Revision": 3}),
]
READ_A: Line = {"Type": "range-operation", "Range": {"Start": "a"}}
REFUSED: Line = {"Txn": {"Failure": True, "Results": [answer(kv("a", "1", 2))]}, "Revision": 3}
DONE: Line = {"Txn": {"Results": [{}]}, "Revision": 4}
COMPACT: tuple[Line, Line] = ({"Type": "compact", "Compact": {"Revision": 3}}, {"Compact": {}, "Revision": 3})

FULL = [
    ("compare of a mod revision holds", txn([{"Key": "a", "ExpectedRevision": 2}], [put_of("a", "3")], []), DONE, True),
    ("... and does not", txn([{"Key": "a", "ExpectedRevision": 3}], [put_of("a", "3")], []), DONE, False),
    ("absent is revision 0", txn([{"Key": "c", "ExpectedRevision": 0}], [put_of("c", "3")], []), DONE, True),
    ("... and is not", txn([{"Key": "a", "ExpectedRevision": 0}], [put_of("a", "3")], []), DONE, False),
    ("refused, and read in the else-branch", txn([{"Key": "a", "ExpectedRevision": 3}], [put_of("a", "3")], [READ_A]), REFUSED, True),
    ("refused without reason", txn([{"Key": "a", "ExpectedRevision": 2}], [put_of("a", "3")], [READ_A]), REFUSED, False),
    ("compare of a version holds", txn([{"Key": "a", "ExpectedVersion": 1}], [put_of("a", "3")], []), DONE, True),
    ("... and does not", txn([{"Key": "a", "ExpectedVersion": 2}], [put_of("a", "3")], []), DONE, False),
    ("range", get_of("a", "c"), {"Range": answer(kv("a", "1", 2), kv("b", "2", 3)), "Revision": 3}, True),
    ("range without a key", get_of("a", "c"), {"Range": answer(kv("b", "2", 3)), "Revision": 3}, False),
    ("range with a limit", get_of("a", "c", 1), {"Range": answer(kv("a", "1", 2), count=2), "Revision": 3}, True),
    ("range with a limit and the wrong count", get_of("a", "c", 1), {"Range": answer(kv("a", "1", 2), count=3), "Revision": 3}, False),
    ("range with a limit and the wrong key", get_of("a", "c", 1), {"Range": answer(kv("b", "2", 3), count=2), "Revision": 3}, False),
    ("read of the past", get_of("b", "", 0, 2), {"Range": answer(), "Revision": 3}, True),
    ("read of the past that saw the present", get_of("b", "", 0, 2), {"Range": answer(kv("b", "2", 3)), "Revision": 3}, False),
    ("version of a key", get_of("a"), {"Range": answer(kv("a", "1", 2, 2)), "Revision": 3}, False),
    ("read of the future", get_of("a", "", 0, 9), {"ClientError": "etcdserver: mvcc: required revision is a future revision"}, True),
    ("a future that is past", get_of("a", "", 0, 2), {"ClientError": "etcdserver: mvcc: required revision is a future revision"}, False),
    ("compacted, perhaps by others", get_of("a", "", 0, 2), {"ClientError": "etcdserver: mvcc: required revision has been compacted"}, True),
]  # fmt: skip


def as_report(folder: Path, calls: list[tuple[Line, Line]]) -> Path:
    """One client's calls, one after the other."""
    lines = [
        {"ClientId": 1, "Input": asked, "Call": 10 * n + 10, "Output": answered, "Return": 10 * n + 15}
        for n, (asked, answered) in enumerate(calls)
    ]
    (folder / "client-1").mkdir()
    (folder / "client-1" / "operations.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.parametrize(("asked", "answered", "right"), [case[1:] for case in FULL], ids=[case[0] for case in FULL])
def test_requests_of_robustness_tests_are_judged_whole(
    asked: Line, answered: Line, right: bool, tmp_path: Path
) -> None:
    folder = as_report(tmp_path, [*PUTS, (asked, answered)])
    report = judge(open_foreign(find(folder), AUTO), folder, seconds=10).report
    assert report.verdict == (Verdict.LINEARIZABLE if right else Verdict.VIOLATION), report.text()


def test_a_compacted_revision_is_known_from_the_compaction(tmp_path: Path) -> None:
    refused: Line = {"ClientError": "etcdserver: mvcc: required revision has been compacted"}
    folder = as_report(tmp_path, [*PUTS, COMPACT, (get_of("a", "", 0, 2), refused)])
    assert judge(open_foreign(find(folder), AUTO), folder, seconds=10).report.verdict == Verdict.LINEARIZABLE
