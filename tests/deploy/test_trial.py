"""Settings tried with real etcds on loopback: what is refused or ignored is said, and nothing is left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chaos.faults.etcd.snapshot_lag import catch_up_keys
from deploy import trial
from deploy.config_keys import Keys, paths_in
from deploy.loopback import Bench, Outcome, bench
from deploy.plan import etcd_settings
from infra.manifest import Manifest
from machine import etcd_binaries
from machine.errors import SettingsError
from machine.etcd_binaries import EtcdBinaries
from machine.paths import CHECKOUT, cache_dir
from machine.process import run
from machine.versions import ETCD_DEFAULT
from machine.waiting import Pending, wait_until
from tests.manifests import manifest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

OLD, NEW = "3.5.13", "3.7.3"
"""Before a file could say snapshot-catchup-entries; without anything experimental."""
DEBIAN = "3.4"


def etcd(version: str) -> EtcdBinaries:
    """The programs of that version, got when they are missing; of 3.4 the one that Debian has here."""
    if version == DEBIAN:
        offered = run(["apt-cache", "madison", "etcd-server"], check=False).stdout
        found = re.search(r"\|\s*(3\.4\.\d+)[-+]", offered)
        kept = sorted(path.name for path in (cache_dir() / "etcd").glob("3.4.*") if (path / "record.json").exists())
        if not (found or kept):
            pytest.skip("Debian has no etcd 3.4 here")
        version = found[1] if found else kept[-1]
    return etcd_binaries.ensure(version, print)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for trials, while programs stay where they are."""
    monkeypatch.setattr("deploy.loopback.cache_dir", lambda: tmp_path)
    monkeypatch.setattr("deploy.trial.cache_dir", lambda: tmp_path)
    return tmp_path / "trials"


@pytest.fixture
def place(cache: Path) -> Iterator[Bench]:
    assert not cache.exists()
    with bench() as made:
        yield made


def refused(version: str, extra: dict[str, object]) -> str:
    with pytest.raises(SettingsError) as error:
        trial.check(etcd(version), extra, print, where="Pulumi.lab.yaml")
    said = str(error.value)
    assert said.startswith("etcd-lab:etcd-extra: etcd 3.")
    assert "(Pulumi.lab.yaml)" in said
    assert "\n" not in said
    assert error.value.exit_code == 2
    return said


def trials_alive(root: Path) -> list[str]:
    """Command lines of processes that have to do with `root`."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = one.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(root) in words and one.parent.name != str(os.getpid()):
            found.append(words)
    return found


EVERY = (DEBIAN, OLD, ETCD_DEFAULT, NEW)
REFUSED: list[tuple[tuple[str, ...], dict[str, object], list[str]]] = [
    (
        EVERY,
        {"auto-compaction-retention": 1000},
        ["auto-compaction-retention = 1000", "unmarshal number", "of type string", '"1000" in the stack'],
    ),
    (EVERY, {"auto-compaction-mode": "periodical"}, ['unknown auto-compaction-mode "periodical"']),
    (EVERY, {"quota-backend-bytes": "1G"}, ['= "1G"', "cannot unmarshal string", "of type int64", "a whole number"]),
    (EVERY, {"pre-vote": "yes"}, ["of type bool", "true or false, without quotes"]),
    (EVERY, {"grpc-keepalive-timeout": "20s"}, ["of type time.Duration", "20s is 20000000000"]),
    (EVERY, {"cipher-suites": "TLS_AES"}, ["of type []string", '["TLS_AES"]']),
    (EVERY, {"cipher-suites": ["TLS_AES"]}, ["unexpected TLS cipher suite", "TLS_AES"]),
    (EVERY, {"log-level": "loud"}, ['level', '"loud"']),
    (EVERY, {"metrics": "loud"}, ["none of its choices", "basic or extensive"]),
    ((ETCD_DEFAULT, NEW), {"tls-min-version": "TLS1.4"}, ['unexpected TLS version "TLS1.4" (must be one of']),
    ((ETCD_DEFAULT, NEW), {"feature-gates": "Foo=true"}, ["unrecognized feature gate: Foo"]),
    # it starts, and gives up when it serves
    (EVERY, {"cipher-suites": ["TLS_RSA_WITH_AES_128_CBC_SHA"]}, ["missing an HTTP/2-required AES_128_GCM_SHA256"]),
    # it serves, and no client of ours can speak to it
    (
        (ETCD_DEFAULT,),
        {"cipher-suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"], "tls-max-version": "TLS1.2"},
        ["cipher-suites = ", "a client gets", "handshake failure"],
    ),
    (
        (ETCD_DEFAULT,),
        {"enable-log-rotation": True, "log-level": "warn"},
        ["refuses enable-log-rotation = true", "requires a single file path"],
    ),
]  # fmt: skip
IGNORED: list[tuple[tuple[str, ...], dict[str, object], list[str]]] = [
    (EVERY, {"qouta-backend-bytes": 5}, ["ignores qouta-backend-bytes = 5", "Did you mean quota-backend-bytes?"]),
    ((ETCD_DEFAULT, NEW), {"raft-read-timeout": 5}, ["ignores raft-read-timeout = 5", "is a flag only"]),
    ((ETCD_DEFAULT, NEW), {"enable-v2": True}, ["ignores enable-v2 = true", "Leave it out"]),
    ((NEW,), {"experimental-corrupt-check-time": 60000000000}, ["Did you mean corrupt-check-time?"]),
    ((OLD, DEBIAN), {"corrupt-check-time": 60000000000}, ["Did you mean experimental-corrupt-check-time?"]),
    (
        (NEW,),
        {"experimental-initial-corrupt-check": True},
        ["Did you mean feature-gates: InitialCorruptCheck=true?"],
    ),
    (
        (NEW,),
        {"experimental-enable-lease-checkpoint": True},
        ["Did you mean feature-gates: LeaseCheckpoint=true?"],
    ),
    (
        (ETCD_DEFAULT, OLD),
        {"socket-options": {"reuse-prot": True}},
        ["ignores socket-options.reuse-prot = true", "Did you mean socket-options.reuse-port?"],
    ),
    ((OLD, ETCD_DEFAULT), {"experimental-snapshot-catchup-entries": 5}, ["ignores experimental-snap"]),
]  # fmt: skip
TAKEN: list[tuple[tuple[str, ...], dict[str, object]]] = [
    (EVERY, {}),
    (EVERY, {"auto-compaction-mode": "revision", "auto-compaction-retention": "1000"}),
    (EVERY, {"cipher-suites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]}),
    (EVERY, {"initial-election-tick-advance": False}),
    (EVERY, {"log-level": "error"}),
    (EVERY, {"log-outputs": ["stderr", "/var/log/etcd-of-the-node.log"]}),
    ((OLD, ETCD_DEFAULT, NEW), {"log-outputs": ["/var/log/etcd-of-the-node.log"], "enable-log-rotation": True}),
    ((OLD, ETCD_DEFAULT, NEW), {"socket-options": {"reuse-port": True}}),
    ((ETCD_DEFAULT, NEW), {"feature-gates": "InitialCorruptCheck=true"}),
    ((DEBIAN, OLD), {"enable-v2": True}),
    ((DEBIAN, OLD), {"experimental-initial-corrupt-check": True}),
    (EVERY, {"quota-backend-bytes": 1 << 33, "max-txn-ops": 200, "pre-vote": True}),
]


def each(
    table: list[tuple[tuple[str, ...], dict[str, object], list[str]]],
) -> list[tuple[str, dict[str, object], list[str]]]:
    return [(version, extra, words) for versions, extra, words in table for version in versions]


@pytest.mark.parametrize(("version", "extra", "words"), each(REFUSED) + each(IGNORED))
def test_what_etcd_refuses_or_ignores_is_said_with_key_value_and_its_own_words(
    cache: Path, version: str, extra: dict[str, object], words: list[str]
) -> None:
    said = refused(version, extra)
    assert not [word for word in words if word not in said], said
    assert not list(cache.glob("passed/*")), "it must be asked again"


@pytest.mark.parametrize(("version", "extra"), [(version, extra) for versions, extra in TAKEN for version in versions])
def test_what_etcd_takes_passes_without_a_word_of_doubt(cache: Path, version: str, extra: dict[str, object]) -> None:
    said: list[str] = []
    passed = trial.check(etcd(version), extra, said.append)
    assert passed == trial.Passed((), tried=True)
    assert len(said) == 1
    assert "takes the settings" in said[0]
    assert {path.name for path in cache.iterdir()} <= {"passed", "keys"}
    assert not Path("/var/log/etcd-of-the-node.log").exists()


def test_everything_that_is_wrong_is_in_one_paragraph(cache: Path) -> None:
    said = refused(
        ETCD_DEFAULT, {"qouta-backend-bytes": 1, "auto-compaction-mode": "x", "pre-vote": "1", "max-txn-ops": 9}
    )
    for part in (
        "ignores qouta-backend-bytes",
        "quota-backend-bytes?",
        'refuses auto-compaction-mode = "x"',
        "refuses pre-vote",
    ):
        assert part in said
    assert "max-txn-ops" not in said


def test_a_duration_in_seconds_is_taken_and_doubted(cache: Path) -> None:
    passed = trial.check(etcd(ETCD_DEFAULT), {"corrupt-check-time": 5}, print)
    assert len(passed.warnings) == 1
    assert "corrupt-check-time = 5" in passed.warnings[0]
    assert "nanoseconds" in passed.warnings[0]
    assert trial.check(etcd(ETCD_DEFAULT), {"corrupt-check-time": 5}, print) == trial.Passed(
        passed.warnings, tried=False
    )


def test_what_passed_is_not_tried_again_and_another_program_or_setting_is(cache: Path) -> None:
    binaries = etcd(ETCD_DEFAULT)
    assert trial.check(binaries, {"max-txn-ops": 200}, print).tried
    started = time.monotonic()
    assert not trial.check(binaries, {"max-txn-ops": 200}, print).tried
    assert time.monotonic() - started < 0.1
    assert trial.check(binaries, {"max-txn-ops": 201}, print).tried
    other = EtcdBinaries(binaries.etcd, binaries.etcdctl, None, binaries.version, {"etcd": "f" * 64})
    assert trial.check(other, {"max-txn-ops": 200}, print).tried


def test_a_key_is_asked_about_once_and_an_ignored_one_stays_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[object] = []
    start = Bench.start

    def counted(self: Bench, program: Path, settings: Mapping[str, object], **more: Any) -> Outcome:
        starts.append(more)
        return start(self, program, settings, **more)

    monkeypatch.setattr(Bench, "start", counted)
    trial.check(etcd(ETCD_DEFAULT), {"max-txn-ops": 200, "pre-vote": True}, print)
    assert len(starts) == 3
    trial.check(etcd(ETCD_DEFAULT), {"max-txn-ops": 300, "pre-vote": True}, print)
    assert len(starts) == 4
    for _ in range(2):
        assert "ignores qouta-backend-bytes" in refused(ETCD_DEFAULT, {"qouta-backend-bytes": 1})


@pytest.mark.parametrize("version", EVERY)
def test_every_setting_of_our_own_is_one_that_the_version_reads(place: Bench, version: str) -> None:
    binaries = etcd(version)
    own = etcd_settings(manifest(etcd_version=binaries.version), manifest().nodes[0])
    types = Keys(place, binaries.etcd, own).types_of(paths_in(own))
    assert {path for path, kind in types.items() if kind is None} == set()


@pytest.mark.parametrize("version", EVERY)
def test_snapshot_lag_writes_a_key_that_the_version_reads(place: Bench, version: str) -> None:
    binaries = etcd(version)
    keys = Keys(place, binaries.etcd, etcd_settings(manifest(etcd_version=binaries.version), manifest().nodes[0]))
    assert keys.type_of((catch_up_keys(binaries.version)[0],)) == "uint64"


@pytest.mark.parametrize(
    "lab",
    [manifest("alone"), manifest(peers="dns"), manifest(peers="hosts"), manifest("a", "b", "c", "d", "e")],
    ids=["one-node", "dns", "hosts", "five"],
)
def test_the_file_of_each_node_of_each_kind_of_lab_starts_on_loopback(place: Bench, lab: Manifest) -> None:
    for node in (lab.nodes[0], lab.nodes[-1]):
        assert place.start(etcd(ETCD_DEFAULT).etcd, etcd_settings(lab, node)).verdict == "serves"


def test_a_directory_of_the_users_own_is_tried_as_it_is(cache: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name, path in etcd(OLD).programs().items():
        (own / name).symlink_to(path)
    binaries = etcd_binaries.ensure(str(own), print)
    assert trial.check(binaries, {"enable-v2": True}, print).tried
    with pytest.raises(SettingsError, match="ignores corrupt-check-time"):
        trial.check(binaries, {"corrupt-check-time": 1}, print)


def script(path: Path, text: str) -> EtcdBinaries:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return EtcdBinaries(path, path, None, ETCD_DEFAULT, {"etcd": "0" * 64})


def test_an_etcd_that_refuses_the_labs_own_settings_is_the_versions_fault(cache: Path, tmp_path: Path) -> None:
    sick = script(
        tmp_path / "sick", """echo '{"level":"warn","msg":"failed","error":"no such thing as a name"}'; exit 1"""
    )
    with pytest.raises(SettingsError, match=r"etcd-lab:etcd-version.*own settings: “no such thing as a name”"):
        trial.check(sick, {}, print)


def test_what_is_this_hosts_fault_is_said_and_stops_nobody(cache: Path, tmp_path: Path) -> None:
    full = script(tmp_path / "full", """echo '{"level":"fatal","error":"write: no space left on device"}'; exit 1""")
    said: list[str] = []
    assert trial.check(full, {"max-txn-ops": 5}, said.append).tried
    assert "could not be tried on this host: write: no space left on device" in said[0]
    assert not list(cache.glob("passed/*"))


KILLED = """
import sys
from pathlib import Path
from deploy import loopback
from deploy.plan import etcd_settings
from tests.manifests import manifest
loopback.cache_dir = lambda: Path(sys.argv[1])
with loopback.bench() as place:
    print(place.directory, flush=True)
    place.start(Path(sys.argv[2]), etcd_settings(manifest(), manifest().nodes[0]), seconds=100)
"""


@pytest.mark.parametrize("whole_group", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_nothing_is_left_of_a_trial_whose_owner_is_killed(tmp_path: Path, wrapped: bool, whole_group: bool) -> None:
    real = etcd(ETCD_DEFAULT).etcd
    # an etcd that never says that it is ready; beneath a script that waits for it, it is nobody's direct child
    call = f'unset NOTIFY_SOCKET; "{real}" "$@" & wait' if wrapped else f'unset NOTIFY_SOCKET; exec "{real}" "$@"'
    program = script(tmp_path / "etcd", call).etcd
    owner = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), str(program)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
        start_new_session=True,
    )
    assert owner.stdout is not None
    directory = Path(owner.stdout.readline().strip())

    def at_work() -> None:
        if not list(directory.glob("*/data/member")):
            raise Pending("no data yet")

    try:
        wait_until(at_work, "etcd to be at work", seconds=30)
        assert trials_alive(directory)
    finally:
        if whole_group:
            os.killpg(owner.pid, signal.SIGKILL)
        else:
            owner.kill()
        owner.wait()

    def gone() -> None:
        if directory.exists() or trials_alive(directory):
            raise Pending(f"{trials_alive(directory)} {list(directory.glob('*'))}")

    wait_until(gone, "process and directory to be gone", seconds=10, every=0.1)
    owner.stdout.close()


def test_what_lost_its_keeper_is_removed_by_a_later_trial(cache: Path) -> None:
    left, fresh = cache / "trial-left", cache / "trial-fresh"
    for one in (left, fresh):
        one.mkdir(parents=True)
    long_ago = time.time() - 7200
    os.utime(left, (long_ago, long_ago))
    with bench():
        assert not left.exists()
        assert fresh.exists(), "somebody may be at work in it"
    shutil.rmtree(fresh)


def test_a_trial_takes_no_more_than_a_second(cache: Path) -> None:
    binaries = etcd(ETCD_DEFAULT)
    extra = {
        "max-txn-ops": 200,
        "quota-backend-bytes": 1 << 30,
        "cipher-suites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
    }
    took = []
    for number in range(3):  # other tests may run beside this one
        started = time.monotonic()
        assert trial.check(binaries, {**extra, "max-txn-ops": 200 + number}, print).tried
        took.append(time.monotonic() - started)
    assert min(took) < 1.0
