"""One etcd on loopback for a moment, in an empty directory, to see what it makes of a configuration file.

Nothing of it outlives the attempt, however that ends: etcd dies with the thread that started it (prctl(2),
PR_SET_PDEATHSIG), and a keeper, a shell that waits for the end of our pipe to it, ends what is left of the process
groups and removes the directory, also after SIGKILL of ours.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Literal

from deploy.plan import etcd_file
from deploy.words import reasons
from machine.paths import cache_dir

START_SECONDS: Final = 10.0
"""An etcd alone is ready within 0.2 s; one that takes longer than this says nothing about its settings."""
CALL_SECONDS: Final = 5.0
"""For the first call of a client, once etcd says that it is ready; it takes milliseconds."""
REFUSED_SECONDS: Final = 0.5
"""How long a client must have been turned away for that to be etcd's last word."""
STALE_SECONDS: Final = 3600.0
"""Age at which a directory has lost its keeper (a reboot, the kernel's OOM killer)."""

_KEEPER: Final = """
groups=
while read -r line; do groups=$line; done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
for attempt in 1 2 3 4 5 6 7 8 9; do rm -rf -- "$1" && exit; sleep 0.2; done
"""
"""Each line names the process groups that live now; the end of the input is ours."""

_NOT_THE_SETTINGS: Final = (
    "address already in use",
    "no space left on device",
    "disk quota exceeded",
    "too many open files",
    "cannot allocate memory",
    "permission denied",
    "operation not permitted",
    "read-only file system",
    "no such file or directory",
    "not supported on platform",
)
"""What a start fails of here and not on the nodes, or the other way round."""

Verdict = Literal["serves", "refused", "unclear"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one start."""

    verdict: Verdict
    """`unclear`: it failed of something that is this host's, or did not end in time."""
    words: str = ""
    """etcd's own, or the client's."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Throw-away certificates of the kind that nodes have; no key of a lab goes into the cache."""

    authority: str
    leaf: str
    key: str


class Bench:
    """A directory with a keeper, for any number of starts, also at the same time. Made by `bench`."""

    def __init__(self, directory: Path, keeper: subprocess.Popen[bytes]) -> None:
        self.directory = directory
        self._keeper = keeper
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._count = 0

    def start(
        self,
        program: Path,
        settings: Mapping[str, object],
        *,
        instead: Mapping[str, object] | None = None,
        call: bool = True,
        seconds: float = START_SECONDS,
    ) -> Outcome:
        """Start `program` with `settings` (as for a node), until it serves, or ends, or `seconds` are over.

        `instead` has the last word, also on what is replaced. `call`: a client of the lab's kind must get an answer.
        """
        outcome = Outcome("unclear", "no port was free")
        for _ in range(3):  # between the search for free ports and etcd's start somebody may take one
            outcome = self._once(program, settings, instead or {}, call, seconds)
            if "address already in use" not in outcome.words:
                break
        return outcome

    def _once(
        self, program: Path, settings: Mapping[str, object], instead: Mapping[str, object], call: bool, seconds: float
    ) -> Outcome:
        with self._lock:
            self._count += 1
            place = self.directory / str(self._count)
        place.mkdir()
        client, peer, metrics = free_ports(3)
        own = on_loopback(settings, place, self.directory, client=client, peer=peer, metrics=metrics)
        config = place / "etcd.yaml"
        config.write_text(etcd_file({**own, **instead}))
        log = place / "log"
        with notified() as (address, ready), log.open("wb") as stream:
            try:
                child = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", str(program), f"--config-file={config}"],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    cwd=place,
                    start_new_session=True,
                    # nothing of this user's environment: the nodes have none of it either
                    env={"PATH": os.environ.get("PATH", os.defpath), "NOTIFY_SOCKET": address},
                )
            except OSError as error:
                return Outcome("unclear", str(error))
            with self._kept(child):
                outcome = self._watch(child, ready, time.monotonic() + seconds)
                if outcome.verdict == "serves" and call:
                    outcome = self._call(child, client)
                alive = child.poll() is None
        if alive:
            return outcome
        said = [log, *place.glob("output-*")]
        words = reasons("\n".join(one.read_text(errors="replace") for one in said if one.exists()))
        words = words or f"it ended with status {child.returncode} and gave no reason"
        outside = child.returncode < 0 or any(sign in words.lower() for sign in _NOT_THE_SETTINGS)
        return Outcome("unclear" if outside else "refused", words)

    @staticmethod
    def _watch(child: subprocess.Popen[bytes], ready: socket.socket, deadline: float) -> Outcome:
        """Until etcd is ready, or has ended, or neither comes."""
        while child.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in ready.recv(4096):
                    return Outcome("serves")
        return Outcome("unclear", f"it was neither ready nor ended after {START_SECONDS:g} s")

    def _call(self, child: subprocess.Popen[bytes], port: int) -> Outcome:
        """The call with which the lab asks a member for its status, until it is answered or etcd has ended."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        context.load_cert_chain(self.directory / "leaf.crt", self.directory / "leaf.key")
        started, last, verdict = time.monotonic(), "", "unclear"
        while child.poll() is None and time.monotonic() - started < CALL_SECONDS:
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=CALL_SECONDS)
            try:
                connection.request("POST", "/v3/maintenance/status", "{}")
                answer = connection.getresponse()
                if answer.status == 200:
                    return Outcome("serves")
                last, verdict = f"HTTP status {answer.status}: {answer.read(300).decode(errors='replace')}", "refused"
            except ssl.SSLError as error:
                last, verdict = str(error), "refused"
            except (OSError, http.client.HTTPException) as error:  # slow, or not yet at work, or at its end
                last, verdict = str(error), "unclear"
            finally:
                connection.close()
            if verdict == "refused" and time.monotonic() - started > REFUSED_SECONDS:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=0.05)
        said = f"it starts, and a client gets: {last.strip()}"
        return Outcome("refused", said) if verdict == "refused" else Outcome("unclear", said)

    @contextlib.contextmanager
    def _kept(self, child: subprocess.Popen[bytes]) -> Iterator[None]:
        """The keeper knows of the child; it and all of its group are gone afterwards."""
        self._tell(add=child.pid)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            self._tell(remove=child.pid)

    def _tell(self, *, add: int | None = None, remove: int | None = None) -> None:
        with self._lock:
            self._groups = (self._groups | ({add} if add else set())) - ({remove} if remove else set())
            assert self._keeper.stdin is not None  # noqa: S101 - it is a pipe
            self._keeper.stdin.write((" ".join(map(str, sorted(self._groups))) + "\n").encode())
            self._keeper.stdin.flush()


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """A Bench with certificates; its directory and all that was started are gone afterwards."""
    root = cache_dir() / "trials"
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    directory = Path(tempfile.mkdtemp(prefix="trial-", dir=root))
    keeper = subprocess.Popen(
        ["/bin/sh", "-c", _KEEPER, "keeper", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    assert keeper.stdin is not None  # noqa: S101 - it is a pipe
    try:
        made = certificates()
        for name, text in (("ca.crt", made.authority), ("leaf.crt", made.leaf), ("leaf.key", made.key)):
            (directory / name).write_text(text)
        yield Bench(directory, keeper)
    finally:
        with contextlib.suppress(OSError):
            keeper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on by itself
            keeper.wait(timeout=10)
        shutil.rmtree(directory, ignore_errors=True)  # should somebody have ended the keeper


def certificates() -> Certificates:
    """A new authority and a leaf of it, for 127.0.0.1."""
    from deploy.certificates import issue, make_authority  # noqa: PLC0415 - not where nothing is to be tried

    authority = make_authority("etcd-lab trial")
    leaf = issue(authority, "root", addresses=[IPv4Address("127.0.0.1")])
    return Certificates(authority.certificate, leaf.certificate, leaf.key)


def on_loopback(
    settings: Mapping[str, object], place: Path, shared: Path, *, client: int, peer: int, metrics: int
) -> dict[str, object]:
    """`settings` of a node with what is the node's own replaced: addresses, directory, certificates, log files.

    The raft timing is short, so that an etcd alone is its own leader at once; its limits are infra.settings'.
    """
    security = {
        "cert-file": str(shared / "leaf.crt"),
        "key-file": str(shared / "leaf.key"),
        "trusted-ca-file": str(shared / "ca.crt"),
        "client-cert-auth": True,
    }
    own: dict[str, object] = {
        **settings,
        "data-dir": str(place / "data"),
        "listen-peer-urls": f"https://127.0.0.1:{peer}",
        "listen-client-urls": f"https://127.0.0.1:{client}",
        "listen-metrics-urls": f"http://127.0.0.1:{metrics}",
        "initial-advertise-peer-urls": f"https://127.0.0.1:{peer}",
        "advertise-client-urls": f"https://127.0.0.1:{client}",
        "initial-cluster": f"{settings['name']}=https://127.0.0.1:{peer}",
        "client-transport-security": security,
        "peer-transport-security": security,
        "heartbeat-interval": 10,
        "election-timeout": 100,
    }
    outputs = own.get("log-outputs")
    if isinstance(outputs, list):
        moved = [_output(one, place, number) for number, one in enumerate(outputs)]
        own["log-outputs"] = [one for number, one in enumerate(moved) if one not in moved[:number]]
    for key in ("distributed-tracing-address", "experimental-distributed-tracing-address"):
        if isinstance(own.get(key), str):  # a collector that only the nodes should speak to
            own[key] = "127.0.0.1:4317"
    return own


def _output(name: object, place: Path, number: int) -> object:
    if not isinstance(name, str) or name in ("default", "stderr", "stdout"):
        return name
    return "stderr" if name == "systemd/journal" else str(place / f"output-{number}")


def free_ports(count: int) -> Sequence[int]:
    """TCP ports of 127.0.0.1 that nobody has at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(one.getsockname()[1]) for one in sockets]


@contextlib.contextmanager
def notified() -> Iterator[tuple[str, socket.socket]]:
    """A socket for sd_notify(3), and how NOTIFY_SOCKET names it: abstract, so that no path can be too long."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind("")  # the kernel chooses an abstract name (unix(7), autobind)
        ready.settimeout(0.02)
        name: bytes = ready.getsockname()
        yield "@" + name[1:].decode(), ready


def _sweep(root: Path) -> None:
    now = time.time()
    for left in root.glob("trial-*"):
        with contextlib.suppress(OSError):
            if now - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
