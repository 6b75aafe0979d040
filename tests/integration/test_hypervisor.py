"""The embedded hypervisor on this machine: starts, survives crashes, runs beside another, leaves nothing."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from machine import netns
from machine.errors import HypervisorError
from machine.hypervisor import Embedded
from machine.libvirt_api import connect, domain_state, power_off
from machine.netns import connect as dial
from machine.paths import run_root
from machine.process import in_netns, run
from machine.waiting import Pending, wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="the embedded hypervisor needs root"),
]

NETWORK = """<network><name>n</name><bridge name='elt0'/><dns enable='no'/>
<ip address='192.168.93.1' prefix='24'/></network>"""

# Started paused: a machine for libvirt, and no load.
DOMAIN = """<domain type='qemu'><name>idle</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices><memballoon model='none'/></devices></domain>"""
PAUSED = 1  # VIR_DOMAIN_START_PAUSED


def host() -> dict[str, object]:
    """What of the host a hypervisor could change, but for its own names, which `gone` looks at."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "run": {str(path) for path in Path("/run").glob("*")} - {"/run/netns", "/run/etcd-lab"},
        "etc": {(str(path), path.stat().st_mtime_ns) for path in Path("/etc/libvirt").rglob("*")},
        "mounts": {line.split()[4] for line in mounts if not line.split()[4].startswith("/run/netns")},
        "links": {path.name for path in Path("/sys/class/net").iterdir()},
    }


def mentioning(word: str) -> list[str]:
    """Processes whose command line has `word`."""
    found = []
    for pid in netns.all_processes():
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if word in line and pid != os.getpid():
                found.append(line)
    return found


def a_hypervisor(tmp_path: Path) -> Embedded:
    word = secrets.token_hex(4)
    return Embedded(f"etcdlab-{word}", tmp_path / word, run_root() / word)


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Embedded]:
    hypervisor = a_hypervisor(tmp_path)
    before = host()
    yield hypervisor
    hypervisor.stop()
    gone(hypervisor)
    assert host() == before


def gone(hypervisor: Embedded) -> None:
    assert hypervisor.state() == "absent"
    assert not hypervisor.run_dir.exists()
    assert not hypervisor.dir.exists()
    assert not netns.path_of(hypervisor.netns).exists()
    assert mentioning(hypervisor.id) == []
    assert hypervisor._processes() == set()


def daemon(hypervisor: Embedded, name: str) -> int:
    """Process id of libvirtd or virtlogd."""
    return int((hypervisor.run_dir / f"{name}.pid").read_text())


def start_in_a_child(hypervisor: Embedded) -> subprocess.Popen[bytes]:
    words = f"{hypervisor.id!r}, Path({str(hypervisor.dir)!r}), Path({str(hypervisor.run_dir)!r})"
    imports = "from pathlib import Path; from machine.hypervisor import Embedded"
    code = f"{imports}; print(1, flush=True); Embedded({words}).start()"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()  # imports are done
    return child


def test_it_starts_answers_and_stops_and_may_be_told_twice(embedded: Embedded) -> None:
    assert embedded.state() == "absent"
    embedded.stop()
    embedded.start()
    first = daemon(embedded, "libvirtd")
    embedded.start()
    assert daemon(embedded, "libvirtd") == first
    assert embedded.state() == "running"
    with connect(embedded.uri) as connection:
        assert connection.listAllDomains() == []
    embedded.stop()
    gone(embedded)
    with pytest.raises(HypervisorError, match="does not answer"), connect(embedded.uri):
        pass


def test_machines_outlive_the_daemon_and_end_with_stop(embedded: Embedded) -> None:
    embedded.start()
    with connect(embedded.uri) as connection:
        connection.createXML(DOMAIN, PAUSED)
    os.kill(daemon(embedded, "libvirtd"), signal.SIGKILL)
    wait_until(lambda: _raise_unless(embedded.state() == "stopped"), "libvirtd is dead", seconds=5, every=0.02)
    embedded.start()
    with connect(embedded.uri) as connection:
        assert domain_state(connection, "idle") == "paused"
    embedded.stop()
    gone(embedded)


def test_power_off_of_a_machine_may_be_told_twice(embedded: Embedded) -> None:
    embedded.start()
    with connect(embedded.uri) as connection:
        connection.defineXML(DOMAIN)
        power_off(connection, "idle")
        assert domain_state(connection, "idle") == "shutoff"


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("then", ["start", "stop"])
def test_a_starter_killed_in_the_middle_leaves_what_start_and_stop_can_take_over(
    embedded: Embedded, seconds: float, then: str
) -> None:
    child = start_in_a_child(embedded)
    time.sleep(seconds)  # the moment of death, not a wait
    child.kill()
    child.wait()
    if then == "start":
        embedded.start()
        assert embedded.state() == "running"
    embedded.stop()
    gone(embedded)


def test_four_starters_at_once_make_one_hypervisor(embedded: Embedded) -> None:
    children = [start_in_a_child(embedded) for _ in range(4)]
    assert [child.wait(60) for child in children] == [0] * 4
    names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in netns.processes(embedded.netns)]
    assert sorted(names) == ["libvirtd", "virtlogd"]


def test_after_a_reboot_it_is_stopped_not_gone_and_starts_with_its_networks(embedded: Embedded) -> None:
    embedded.start()
    with connect(embedded.uri) as connection:
        network = connection.networkDefineXML(NETWORK)
        network.setAutostart(1)
        network.create()
        connection.defineXML(DOMAIN)
    # A reboot ends every process and takes the mount of the namespace away; where /run is on disk its files stay.
    for pid in embedded._processes():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: _raise_unless(not embedded._processes()), "all dead", seconds=5, every=0.02)
    run(["ip", "netns", "delete", embedded.netns])
    netns.path_of(embedded.netns).touch()
    assert embedded.state() == "stopped"
    embedded.start()
    with connect(embedded.uri) as connection:
        assert domain_state(connection, "idle") == "shutoff"

        def up() -> None:
            _raise_unless(bool(connection.networkLookupByName("n").isActive()))

        wait_until(up, "the network is up again", seconds=10, every=0.05)


def test_two_run_side_by_side_with_the_same_network(embedded: Embedded, tmp_path: Path) -> None:
    other = a_hypervisor(tmp_path)
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Embedded.start, (embedded, other)))
        for hypervisor in (embedded, other):
            with connect(hypervisor.uri) as connection:
                connection.networkCreateXML(NETWORK)
                connection.createXML(DOMAIN, PAUSED)
        assert not Path("/sys/class/net/elt0").exists()
    finally:
        other.stop()
    gone(other)
    with connect(embedded.uri) as connection:
        assert domain_state(connection, "idle") == "paused"


def test_sockets_are_made_inside_and_whoever_is_inside_ends_with_it(embedded: Embedded) -> None:
    embedded.start()
    script = (
        "import socket; s = socket.create_server(('127.0.0.1', 7)); print(1, flush=True)\n"
        "while True: s.accept()[0].sendall(b'inside')"
    )
    server = subprocess.Popen(in_netns(embedded.netns, [sys.executable, "-c", script]), stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()
    with dial(embedded.netns, "127.0.0.1", 7, 2.0) as connection:
        assert connection.recv(10) == b"inside"
    with pytest.raises(ConnectionRefusedError):
        dial(None, "127.0.0.1", 7, 2.0)
    assert server.pid in netns.processes(embedded.netns)
    embedded.stop()
    assert server.wait(5) != 0


def _raise_unless(condition: bool) -> None:
    if not condition:
        raise Pending("not yet")
