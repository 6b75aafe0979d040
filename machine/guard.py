"""Ends what a process started when that process ends, however it does: a program, started by machine.process.

    python -I -S machine/guard.py

Each line on standard input names a child of our starter: `PID STARTED SIGNAL SECONDS`. When standard input ends, our
starter is gone, and each child that is still there is ended with everything below it: by SIGNAL, and whatever is left
after SECONDS by SIGKILL. What has made itself a daemon (libvirt, ssh's kept-open connections) has left its parent by
then, and stays.

The kernel's own way, PR_SET_PDEATHSIG, does not do: it ends one process and not what that one started, and it fires
when the thread that forked ends (prctl(2)). Standard library only, and nothing of ours, so that it starts in 10 ms.
"""

from __future__ import annotations

import os
import signal
import sys
import time

POLL_SECONDS = 0.02


def stat(pid: int) -> tuple[int, int] | None:
    """Parent and start time of a process, in clock ticks since boot (proc(5)); None when it is gone, or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib takes longer to load than all the rest
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {b"Z", b"X"} else (int(fields[1]), int(fields[19]))


def tree(roots: set[int]) -> set[int]:
    """These processes and all below them."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - as above
        if entry.isdigit() and (found := stat(int(entry))):
            children.setdefault(found[0], []).append(int(entry))
    seen: set[int] = set()
    todo = [pid for pid in roots if stat(pid)]
    while todo:
        pid = todo.pop()
        if pid not in seen:
            seen.add(pid)
            todo += children.get(pid, [])
    return seen


def send(pid: int, number: int) -> None:
    """Signal a process that may be gone."""
    try:  # noqa: SIM105 - contextlib takes longer to load than all the rest
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def kill(roots: set[int]) -> None:
    """Kill whole trees. They are stopped first, so that nothing gets away by forking, or acts on another's end."""
    stopped: set[int] = set()
    while fresh := tree(roots | stopped) - stopped:
        for pid in fresh:
            send(pid, signal.SIGSTOP)
        stopped |= fresh
    for pid in stopped:
        send(pid, signal.SIGKILL)


def main() -> None:
    """Wait for our starter's end, then end its children."""
    for deaf in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(deaf, signal.SIG_IGN)
    told = [line.split() for line in sys.stdin]
    alive = [
        (int(pid), int(number), float(seconds))
        for pid, started, number, seconds in told
        if (found := stat(int(pid))) and found[1] == int(started)
    ]
    kill({pid for pid, number, _ in alive if number == signal.SIGKILL})
    patient = [one for one in alive if one[1] != signal.SIGKILL]
    below = tree({pid for pid, _, _ in patient})
    born = {pid: found[1] for pid in below if (found := stat(pid))}
    for pid, number, _ in patient:
        send(pid, number)
    ends = time.monotonic() + max((seconds for _, _, seconds in patient), default=0.0)
    while any(stat(pid) for pid, _, _ in patient) and time.monotonic() < ends:
        time.sleep(POLL_SECONDS)
        for pid in tree({pid for pid, _, _ in patient}):  # also what they started meanwhile
            if pid not in born and (found := stat(pid)):
                born[pid] = found[1]
    kill({pid for pid, start in born.items() if (found := stat(pid)) and found[1] == start})


if __name__ == "__main__":
    main()
