"""A shell kept open inside a guest, which probes when it is told to.

Starting a program takes long in an emulated guest, and an ssh session more so; so one bash takes requests
as lines and answers as lines. What it does itself costs one fork at most. How long an attempt has gone unanswered is
measured here, by this host's monotonic clock, from the guest's word that it tries. Nothing stays in a guest whose
session ends: bash ends with its standard input.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from machine.errors import DeadlineError, LabError
from machine.process import Completed

ANSWER_SECONDS: Final = 15.0
"""How long a guest may take to do what a line asks: an emulated one under load forks slowly."""

END_SECONDS: Final = 1.0
"""How long a shell whose pipes are closed may take to end before it is killed."""

LISTENER: Final = r"""
$| = 1;
socket(my $heard, 2, 2, 0) or exit 1;
bind($heard, pack("S x14", 2)) or exit 1;
my (undef, $port) = unpack("S n", getsockname($heard));
my ($tag, $mark, %known) = ("", "");
while (1) {
  my $ready = "";
  vec($ready, fileno($_), 1) = 1 for *STDIN, $heard;
  select($ready, undef, undef, undef);
  if (vec($ready, fileno(STDIN), 1)) {
    sysread(STDIN, my $line, 512) or exit;
    ($tag, $mark) = split " ", $line;
    %known = ();
    print "$tag hears $port\n";
  }
  if (vec($ready, fileno($heard), 1) and my $from = recv($heard, my $text, 512, 0)) {
    my $sender = join ".", unpack("x4 C4", $from);
    print "$tag from $sender\n" if $text eq $mark and not $known{$sender}++;
  }
}
"""
"""Perl, which every Debian has: tells who sends it datagrams that say `mark`, from the line `TAG MARK` on. It listens
at a port of the kernel's choice, so that several shells do not meet, and ends with the shell that it belongs to.
Without the module Socket, which takes three times as long to load in an emulated guest as all the rest: AF_INET and
SOCK_DGRAM are both 2 on Linux, and an address is family, port, and four bytes (ip(7))."""

SCRIPT: Final = r"""
exec 2>/dev/null
nl=$'\n'
tried=()
exec 8<>/dev/shm/etcd-lab.$$; rm /dev/shm/etcd-lab.$$; errors=/proc/$$/fd/8  # a file that ends with this shell
while read -r word tag port rest; do
  case $word in
  tcp) tried=()  # those of the last request have ended, and their numbers may be another's by now
    for a in $rest; do
      { BASH_ARGV0=$tag; echo "$tag try $a"; s=$EPOCHREALTIME
        { echo "$tag open $a $s $EPOCHREALTIME"; } 3<>/dev/tcp/$a/$port; } 2>&1 </dev/null 9>&- &
      tried+=($!)
    done ;;
  clock) read -r up _ </proc/uptime; echo "$tag clock $EPOCHREALTIME $up" ;;
  run) IFS= read -r -d '' script
      : >$errors; said=$( (eval "$script") 2>>$errors </dev/null 9>&- ); status=$?; wrong=$(<$errors)
      echo "$tag : ${said//$nl/$nl$tag : }"; echo "$tag ! ${wrong//$nl/$nl$tag ! }"; echo "$tag end $status" ;;
  hear) [ -e /proc/$$/fd/9 ] || exec 9> >(exec perl -e "$1"); echo "$tag $port" >&9 ;;
  send) for a in $rest; do
      for _ in {1..10}; do printf %s $port >/dev/udp/$a; done && echo "$tag to $a"
    done; echo "$tag sent" ;;
  drop) kill -9 "${tried[@]}"; wait "${tried[@]}"; tried=(); echo "$tag dropped" ;;
  esac
done
"""
"""`tcp TAG PORT ADDRESS…`, `clock TAG`, `drop TAG`, and `run TAG` with a script and a zero byte on the lines after it.
`hear TAG MARK` and `send TAG MARK ADDRESS/PORT…` for datagrams: ten to each, as a line may lose some (where it loses
30 %, all ten go in six tries of a million).
Each line of an answer begins with TAG.
bash's own message on a failed connect carries the tag as the shell's name, and names address and reason."""

_BEGIN: Final = f"""
script={shlex.quote(SCRIPT)}
set -- {shlex.quote(LISTENER)}
case $BASH_VERSION in
?*) export LC_ALL=C; eval "$script" ;;
*) exec env LC_ALL=C bash -c "$script" etcd-lab "$1" ;;
esac
"""

REMOTE: Final = ("eval", _BEGIN)
"""The words that start it in a guest. They are for the login shell, as ssh hands them to it: where that is a bash, as
on Debian, no other program needs to start, and each takes 0.1 s under emulation."""


@dataclass(frozen=True, slots=True)
class Piped:
    """A program that is talked with through pipes: file descriptors of this process, its owner's to close."""

    process: subprocess.Popen[bytes]
    pipes: tuple[int, int]
    """To it, from it."""

    @classmethod
    def start(cls, argv: Sequence[str]) -> Self:
        """Start it; Ctrl-C is for us, who then close the pipes."""
        theirs, to = os.pipe()
        back, said = os.pipe()
        try:
            process = subprocess.Popen(
                argv, stdin=theirs, stdout=said, stderr=subprocess.DEVNULL, start_new_session=True
            )
        except OSError:
            os.close(to)
            os.close(back)
            raise
        finally:
            os.close(theirs)
            os.close(said)
        return cls(process, (to, back))

    def end(self) -> None:
        """Wait until it has ended, its pipes being closed; kill it when it does not."""
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a TCP connection attempt went: `said` is bash's word on failure, None when nobody answered."""

    tried: bool
    opened: bool = False
    said: str | None = None
    seconds: float | None = None
    """From SYN to the answer, by the guest's clock."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a guest's clocks."""

    offset: float
    """CLOCK_REALTIME of the guest less this host's, in seconds."""
    uncertainty: float
    """Half the time the question took: the offset lies within it."""
    uptime: float
    at_ns: int
    """CLOCK_MONOTONIC of this host, in the middle of the question."""


class Session:
    """The shell in one guest. Requests come one at a time, but for those of datagrams, which run beside the others.

    Raises LabError when the guest is not reached.
    """

    def __init__(self, name: str, shell: Piped) -> None:
        """Talk with a shell that was started, and is ended with this."""
        self.name = name
        self._shell = shell
        self._to = open(shell.pipes[0], "w", encoding="utf-8")  # noqa: PTH123, SIM115 - `close` does
        self._from = open(shell.pipes[1], encoding="utf-8", errors="replace")  # noqa: PTH123, SIM115 - as above
        self._answers: dict[str, queue.SimpleQueue[tuple[int, str] | None]] = {}
        """What was said, by the request's tag; None is its end, as the shell was lost."""
        self._lost = False
        self._boot = ""
        self._tags = itertools.count(1)
        self._lock = threading.Lock()
        """Held all through a request."""
        self._telling = threading.Lock()
        """Held while a line is written."""
        self._known = threading.Lock()
        """Held while `_answers` or `_lost` change."""
        self._reader = threading.Thread(target=self._read, name=f"inside-{name}", daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, argv: Sequence[str], name: str) -> Self:
        """Start a shell by `argv`."""
        return cls(name, Piped.start(argv))

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return not self._to.closed and self._reader.is_alive() and self._shell.process.poll() is None

    def tcp(self, addresses: Sequence[str], port: int, seconds: float) -> dict[str, Attempt]:
        """Try all `addresses` at once; an attempt that nothing has answered after `seconds` is over."""
        with self._lock, self._asked("tcp", port, *addresses) as tag:
            begun = time.monotonic_ns()
            tried: dict[str, int] = {}
            done: dict[str, Attempt] = {}
            while len(done) < len(addresses):
                now = time.monotonic_ns()
                ends = [tried.get(one, begun + int((ANSWER_SECONDS - seconds) * 1e9)) for one in addresses]
                left = max(end for one, end in zip(addresses, ends, strict=True) if one not in done) / 1e9 + seconds
                line = self._next(tag, left - now / 1e9)
                if line is None:
                    break
                read_attempt(line[1], line[0], tried, done)
            silent = len(done) < len(addresses)
            if silent:
                with self._asked("drop"):
                    pass  # nobody waits for the word that it is done
            return {one: done.get(one, Attempt(tried=one in tried)) for one in addresses}

    def clock(self, times: int = 5) -> Reading:
        """The guest's clocks; of `times` questions the one that took least."""
        readings = []
        with self._lock:
            for _ in range(times):
                before, here = time.monotonic_ns(), time.time_ns()
                with self._asked("clock") as tag:
                    line = self._answer(tag, "its time")
                half = (line[0] - before) // 2
                _, there, uptime = line[1].split()
                offset = float(there) - (here + half) / 1e9
                readings.append(Reading(offset, half / 1e9, float(uptime), before + half))
        return min(readings, key=lambda one: one.uncertainty)

    def boot(self) -> str:
        """Id of the guest's boot, which this shell does not outlive; as journald writes it."""
        if not self._boot:
            said = self.run("read -r id </proc/sys/kernel/random/boot_id; echo $id", ANSWER_SECONDS).stdout
            self._boot = said.strip().replace("-", "")
        return self._boot

    def answers(self, seconds: float) -> bool:
        """Whether it answers within `seconds`."""
        try:
            with self._lock, self._asked("clock") as tag:
                return self._next(tag, seconds) is not None
        except LabError:
            return False

    def run(self, script: str, seconds: float) -> Completed:
        """Run a shell script to its end. Raises DeadlineError, and ends the shell then, unless it is at another's."""
        what = f"{script[:80]} on {self.name}"
        ends = time.monotonic() + seconds
        if not self._lock.acquire(timeout=seconds):
            raise DeadlineError(what, seconds=seconds, last="another script runs in the shell kept open there")
        try:
            with self._asked("run", after=f"{script}\0") as tag:
                said: dict[str, list[str]] = {":": [], "!": []}
                while line := self._next(tag, ends - time.monotonic()):
                    word, _, text = line[1].partition(" ")
                    if word == "end":
                        stdout, stderr = ("\n".join([*lines, ""]) if any(lines) else "" for lines in said.values())
                        return Completed((script,), int(text), stdout, stderr)
                    said[word].append(text)
        finally:
            self._lock.release()
        self.close()
        raise DeadlineError(what, seconds=seconds)

    @contextlib.contextmanager
    def hearing(self, mark: str) -> Iterator[Hearing]:
        """Note from now on who sends this guest datagrams that say `mark`."""
        with self._asked("hear", mark) as tag:
            _, port = self._answer(tag, "where it hears datagrams")[1].split()
            yield Hearing(int(port), lambda seconds: self._next(tag, seconds))

    def send(self, mark: str, targets: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        """Send ten datagrams that say `mark` to each address and port; gives those that it could send to."""
        places = {f"{address}/{port}": (address, port) for address, port in targets}
        sent: set[tuple[str, int]] = set()
        with self._asked("send", mark, *places) as tag:
            while (line := self._answer(tag, "whether it sent datagrams"))[1] != "sent":
                sent.add(places[line[1].removeprefix("to ")])
        return sent

    def hang_up(self) -> None:
        """Let it end, without waiting for that."""
        with contextlib.suppress(OSError):  # it has ended already, and what was on the way to it is lost
            self._to.close()

    def close(self) -> None:
        """End it."""
        self.hang_up()
        self._shell.end()
        self._reader.join(END_SECONDS)
        if not self._reader.is_alive():  # else what the shell started holds the pipe, and `close` would wait for it
            self._from.close()

    @contextlib.contextmanager
    def _asked(self, word: str, *rest: object, after: str = "") -> Iterator[str]:
        """Say something; gives the tag by which `_next` knows the answer, within the block."""
        tag = f"q{next(self._tags)}"
        with self._known:
            if self._lost:
                raise self._lost_error()
            self._answers[tag] = queue.SimpleQueue()
        try:
            self._say(" ".join(map(str, (word, tag, *rest))) + "\n" + after)
            yield tag
        finally:
            with self._known:
                del self._answers[tag]

    def _say(self, text: str) -> None:
        try:
            with self._telling:
                self._to.write(text)
                self._to.flush()
        except (OSError, ValueError) as error:
            self.hang_up()  # its other pipe may close a moment later: who asks at once must not get it again
            raise self._lost_error() from error

    def _lost_error(self) -> LabError:
        return LabError(f"Lost the shell in {self.name}", next="The next question opens another.")

    def _answer(self, tag: str, what: str) -> tuple[int, str]:
        """The next line of an answer, which must come; raises LabError."""
        line = self._next(tag, ANSWER_SECONDS)
        if line is None:
            raise LabError(f"{self.name} did not tell {what} within {ANSWER_SECONDS:g} s")
        return line

    def _next(self, tag: str, seconds: float) -> tuple[int, str] | None:
        """The next line of an answer, without its tag, and when it came; None after `seconds`."""
        try:
            line = self._answers[tag].get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        if line is None:
            raise self._lost_error()
        return line

    def _read(self) -> None:
        with contextlib.suppress(ValueError, OSError):  # closed meanwhile
            for text in self._from:
                at = time.monotonic_ns()
                # bash's own messages have a colon after the tag, which is the shell's name there
                if match := re.match(r"(q\d+):? (.*)", text):
                    with self._known:
                        if waiting := self._answers.get(match[1]):
                            waiting.put((at, match[2]))
        with self._known:
            self._lost = True
            for waiting in self._answers.values():
                waiting.put(None)


@dataclass(frozen=True, slots=True)
class Hearing:
    """A guest that notes who sends it datagrams."""

    port: int
    """UDP port that it hears at, on all its addresses."""
    _next: Callable[[float], tuple[int, str] | None]

    def senders(self, awaited: Iterable[str], seconds: float, *, whole: bool) -> set[str]:
        """Addresses of those heard, within `seconds`; at once when all `awaited` are, but for a `whole` time."""
        ends = time.monotonic() + seconds
        heard: set[str] = set()
        missing = set(awaited)
        while (missing or whole) and (line := self._next(ends - time.monotonic())):
            heard.add(line[1].removeprefix("from "))
            missing -= heard
        return heard


_REFUSED = re.compile(r"(?:line \d+: )?/dev/tcp/([^/]+)/\d+: (.+)$")


def read_attempt(text: str, at_ns: int, tried: dict[str, int], done: dict[str, Attempt]) -> None:
    """Take in one line of an answer to `tcp`."""
    word, _, rest = text.partition(" ")
    if word == "try":
        tried[rest] = at_ns
    elif word == "open":
        address, begun, ended = rest.split()
        done[address] = Attempt(tried=True, opened=True, seconds=float(ended) - float(begun))
    elif match := _REFUSED.match(text):
        done[match[1]] = Attempt(tried=True, said=match[2])
