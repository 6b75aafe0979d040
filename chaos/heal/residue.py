"""What faults leave inside a guest under our fixed names, and what a healthy node never has: how to find and mend it.

Each trace is a pair of POSIX shell scripts: `find` tells what is there (by the function `tell`), and nothing when all
is well; `mend` undoes it. One script per guest runs them all, and looks without a process of its own for each: to
start one, be it a fork of the shell, is what takes time in an emulated machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chaos.faults.network.nft import TABLE
from chaos.lab.scripts import DIRECTORY, TRANSIENT, UNIT_PREFIX, tried
from chaos.member import volume
from infra.layout import DATA_DIR, DATA_TARGET, NIC

DROP_INS: Final = f"/run/systemd/system/etcd.service.d/{UNIT_PREFIX}*.conf"
CONTROL: Final = "/run/systemd/system.control/etcd.service.d"
"""Where `systemctl set-property --runtime` writes (systemd.unit(5))."""
FREEZER: Final = "/sys/fs/cgroup/system.slice/etcd.service/cgroup.freeze"


@dataclass(frozen=True, slots=True)
class Residue:
    """One kind of trace."""

    name: str
    find: str
    mend: str


def _queued(unit: str) -> str:
    """Test whether systemd is about to start the unit, as while it boots."""
    return f'[ "$(systemctl show -P Job {unit})" -gt 0 ]'


_TABLES = f"while read -r _ family name; do case $name in {TABLE}*)"
_TABLES_END = ";; esac; done <<E\n$(nft list tables)\nE"
_STOPPED = """
while read -r pid; do
  read -r _ name state _ </proc/$pid/stat
  case $state in T)"""
_OWN_QDISCS = " | ".join(f'*" qdisc {kind} "*' for kind in ("fq_codel", "pfifo_fast", "mq", "noqueue", "fq"))
"""Roots that a kernel gives a card by itself (net.core.default_qdisc; sch_generic.c)."""
_OF_ETCD = "</sys/fs/cgroup/system.slice/etcd.service/cgroup.procs"

ETCD: Final = "etcd"
"""Trace of a unit that is off; it is only asked to start, and what comes of it is seen later (chaos.heal.recovery)."""

UNDO_SCRIPT: Final = "undo script"
"""Trace of a fault that is not undone, or not wholly; its words are the ids of such faults."""

DAMAGED: Final = "damaged data"
"""Trace of data that a fault damaged: no script can mend that, the member is replaced."""

GUEST: Final[tuple[Residue, ...]] = (
    Residue(
        UNDO_SCRIPT,
        f'for d in {DIRECTORY}/*; do [ ! -e "$d" ] || tell "${{d##*/}}"; done',
        # what went wrong stays, to be tried again when more is mended
        f'bad=0; for d in {DIRECTORY}/*; do [ -e "$d" ] || continue\n'
        'if [ ! -e "$d/undo" ] || timeout 150 sh "$d/undo"; then rm -rf "$d"; else bad=$?; fi; done; (exit $bad)',
    ),
    Residue(
        "unit",
        f'for f in {TRANSIENT}/{UNIT_PREFIX}*; do [ ! -e "$f" ] || tell "${{f##*/}}"; done',
        f"systemctl stop '{UNIT_PREFIX}*'; systemctl reset-failed '{UNIT_PREFIX}*'; :",
    ),
    Residue(
        "nftables table",
        # without the module there is no table, and asking would load it
        f'[ ! -d /sys/module/nf_tables ] || {_TABLES} tell "$family $name" {_TABLES_END}',
        f'{_TABLES} nft delete table "$family" "$name" {_TABLES_END}',
    ),
    Residue(
        "queueing discipline",
        # tc takes 0.2 s to start under TCG, busybox a tenth of that; a kernel's own has the handle 0
        f"case $(busybox ip link show dev {NIC}) in {_OWN_QDISCS}) ;; *)"
        " while read -r _ kind handle _; do [ ${handle:-0:} = 0: ] || tell $kind $handle; done <<E\n"
        f"$(tc qdisc show dev {NIC})\nE\n;; esac",
        f"for at in root ingress clsact; do tc qdisc del dev {NIC} $at; done; :",
    ),
    Residue(
        "stopped process",
        f"{_STOPPED} tell $name $pid ;; esac; done {_OF_ETCD}",
        f"{_STOPPED} kill -CONT $pid ;; esac; done {_OF_ETCD}",
    ),
    Residue(
        "frozen unit",
        f"read -r frozen <{FREEZER} && [ $frozen = 1 ] && tell etcd.service",
        "systemctl thaw etcd.service",
    ),
    Residue(
        "clock rate",
        "while read -r line; do case $line in *freq.adjust:*' 0 ('* | *tick:*' 10000 us') ;; "
        "*freq.adjust:* | *tick:*) tell $line ;; esac; done <<E\n$(busybox adjtimex)\nE",
        "busybox adjtimex -f 0 -t 10000 >/dev/null",
    ),
    Residue(
        "device table",
        # where the device mapper is a module, so are its targets, and each counts the tables that use it
        "used=; for m in dm_flakey dm_delay; do read -r n </sys/module/$m/refcnt && [ $n != 0 ] && used=yes; done\n"
        '[ -e /sys/module/dm_mod/refcnt ] && [ -z "$used" ] || {\n'
        f'table=$(dmsetup table {DATA_TARGET}); case "$table" in *" linear "*) ;; *) tell "$table" ;; esac; }}\n'
        "for f in /sys/block/dm-*/dm/suspended; do read -r on <$f; [ $on = 0 ] || tell suspended; done",
        volume.LINEAR,
    ),
    Residue(
        "data volume",
        f"options=none; while read -r _ at _ o _; do [ $at = {DATA_DIR} ] && options=$o; done </proc/mounts\n"
        f"case $options in rw*) ;; *) {_queued('etcd-data.service')} || tell $options ;; esac\n"
        # after an error it may refuse every write and still say rw; a check sets the count back
        "for f in /sys/fs/ext4/dm-*/errors_count; do read -r n <$f && [ $n != 0 ] && tell $n errors; done",
        tried(volume.END_USE, volume.MOUNT),
    ),
    Residue(
        "file on the data volume",
        f'for f in {" ".join(volume.LEFTOVERS)}; do [ ! -e $f ] || tell "${{f##*/}}"; done',
        f"{volume.TIDY}; sync -f {DATA_DIR}",
    ),
    Residue(DAMAGED, f"[ ! -e {volume.DAMAGE} ] || tell {volume.DAMAGE}", ":"),
    Residue(
        "changed unit",
        f'for f in {DROP_INS} {CONTROL}/*; do [ ! -e "$f" ] || tell "${{f##*/}}"; done\n'
        "[ ! -L /run/systemd/system/etcd.service ] || tell masked",
        f"rm -rf {DROP_INS} {CONTROL}; rm -f /run/systemd/system/etcd.service; systemctl daemon-reload\n"
        "systemctl try-restart --no-block etcd.service",
    ),
    Residue(
        ETCD,
        # a unit with a process is up, or on its way up or down: who ends it looks again; systemctl takes 0.2 s
        f"read -r _ {_OF_ETCD} || {{ state=$(systemctl show -P ActiveState etcd.service)\n"
        f"case $state in active | activating | reloading) ;; *) {_queued('etcd.service')} || tell $state ;; esac; }}",
        volume.START_ETCD,
    ),
)
"""In the order in which they are mended: what undoes itself first, the disk before etcd on it."""

_FOUND = "found"
_FAILED = "failed"


def script(traces: Sequence[Residue], *, mend: bool) -> str:
    """Shell script that looks for all of them, and mends what it finds when asked to."""
    parts = ['tell() { x="$x $*"; }']
    for number, trace in enumerate(traces):
        parts.append(f"x=\n{trace.find}")
        parts.append(f'if [ -n "$x" ]; then echo "{_FOUND} {number}" $x')
        if mend:
            parts.append(f"( {trace.mend}\n) >/dev/null 2>&1 </dev/null || echo {_FAILED} {number} $?")
        parts.append("fi")
    return (
        "exec 2>/dev/null\n"
        + "\n".join(parts)
        + '\n[ -n "$EPOCHREALTIME" ] && echo $EPOCHREALTIME || date +%s.%N\necho end\n'
    )


@dataclass(frozen=True, slots=True)
class Found:
    """A trace that a guest has: what, and whether mending it went well."""

    trace: Residue
    what: str
    mended: bool = True

    def __str__(self) -> str:
        return f"{self.trace.name} {self.what}"


def read(text: str, traces: Sequence[Residue]) -> tuple[list[Found], float]:
    """What the script printed, and the guest's time at its end; raises ValueError when it did not get there."""
    lines = text.splitlines()
    if not lines or lines[-1] != "end":
        raise ValueError(f"the sweep did not end: {text[-200:]!r}")
    failed = {int(line.split()[1]) for line in lines if line.startswith(f"{_FAILED} ")}
    found = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == _FOUND:
            number, _, what = rest.partition(" ")
            found.append(Found(traces[int(number)], what, int(number) not in failed))
    return found, float(lines[-2])
