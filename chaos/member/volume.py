"""The data volume inside a guest, as disk faults use it: shell scripts that change and mend it, and a probe.

etcd's data lies on ext4 on the device-mapper target `etcd-data`, whose table can be exchanged while it is mounted
(dmsetup(8)). Scripts are for a POSIX shell as root, safe to repeat, and may be joined by newlines; the status of each
says whether the volume is then as its name promises.
Targets are those of the kernel's Documentation/admin-guide/device-mapper: linear, delay, dm-flakey.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from chaos.lab.scripts import tried
from infra.layout import DATA_DEVICE, DATA_DIR, DATA_TARGET

MAPPED = f"/dev/mapper/{DATA_TARGET}"

FILL = f"{DATA_DIR}/.etcdlab-fill"
"""Takes all the room there is."""

PROBE = f"{DATA_DIR}/.etcdlab-probe"
"""A file of one block; probes write to that block through the device, past the file system."""

SAVE = f"{DATA_DIR}/.etcdlab-save"
"""An older copy of a member's data."""

BEFORE = f"{DATA_DIR}/.etcdlab-before"
AFTER = f"{DATA_DIR}/.etcdlab-after"
"""Copies of a file that is being damaged."""

DAMAGE = f"{DATA_DIR}/.etcdlab-damage"
"""Notes of what was done to the data beside them: for the proof, and gone when the data is wiped."""

LEFTOVERS = (FILL, PROBE, f"{PROBE}.new", SAVE, BEFORE, AFTER)
"""What may lie on the volume while a fault is made or in force, and has no use afterwards."""

BLOCK = 4096

UNMOUNT_TRIES = 40
"""Twice a second: what holds the mount is a process that was killed and still waits for its last write."""

_SECTORS = f"read -r sectors </sys/class/block/{DATA_DEVICE.removeprefix('/dev/')}/size"

# A suspended device hangs whoever touches it, so the change itself must wait for nothing: no flush of what is under
# way, no freeze of a file system that may not be able to write.
_SUSPEND = f"dmsetup suspend --noflush --nolockfs --noudevsync {DATA_TARGET}"
_RESUME = f"dmsetup resume --noudevrules --noudevsync {DATA_TARGET}"

ERROR_WRITES = f"0 $sectors flakey {DATA_DEVICE} 0 0 86400 1 error_writes"
DROP_WRITES = f"0 $sectors flakey {DATA_DEVICE} 0 0 86400 1 drop_writes"


def slow_writes(delay_ms: int) -> str:
    """Table under which every write and flush takes `delay_ms` longer, and reads do not."""
    return f"0 $sectors delay {DATA_DEVICE} 0 0 {DATA_DEVICE} 0 {delay_ms}"


def load(table: str, module: str) -> str:
    """Script that puts a table in place, live; `$sectors` in it is the size of the volume."""
    swap = f'dmsetup load {DATA_TARGET} --table "{table}" && {_SUSPEND} && {_RESUME}'
    return f"modprobe {module} && {_SECTORS} && {swap}"


KILL_ETCD = """
# not asked to stop but killed: it may wait for the disk; no-block first, so that systemd does not start it again
systemctl stop --no-block etcd.service
systemctl kill --signal=SIGKILL etcd.service 2>/dev/null || :
timeout 40 systemctl stop etcd.service"""

UNMOUNT = f"""
tries=0
while [ $tries -lt {UNMOUNT_TRIES} ] && mountpoint -q {DATA_DIR} && ! umount {DATA_DIR}; do
  tries=$((tries + 1)); sleep 0.5
done
[ $tries -lt {UNMOUNT_TRIES} ]"""

END_USE = f"{KILL_ETCD}\n{UNMOUNT}"
"""etcd's end is a means: whether nobody holds the mount any more is what counts."""

LINEAR = f"""
# the plain table again, also on a device that was left suspended; where writes were dropped, nothing that memory
# still holds may reach the disk: its file system must be read anew
dmsetup clear {DATA_TARGET}
{_RESUME}; resumed=$?
case "$(dmsetup table {DATA_TARGET})" in *drop_writes*) {END_USE} ;; esac
case "$(dmsetup table {DATA_TARGET})" in
*" linear "*) [ $resumed = 0 ] || [ "$(dmsetup info -c --noheadings -o suspended {DATA_TARGET})" = Active ] ;;
*) {_SECTORS}; dmsetup load {DATA_TARGET} --table "0 $sectors linear {DATA_DEVICE} 0" && {_SUSPEND}; loaded=$?
  {_RESUME} && [ $loaded = 0 ] ;;
esac"""

MOUNT = f"""
if ! mountpoint -q {DATA_DIR}; then
  fsck.ext4 -f -y {MAPPED} >/dev/null; checked=$?  # 1 and 2: errors that were put right (fsck(8))
  systemctl reset-failed etcd-data.service 2>/dev/null
  systemctl start etcd-data.service
  {{ mountpoint -q {DATA_DIR} || mount -t ext4 -o noatime {MAPPED} {DATA_DIR}; }} && [ $checked -lt 4 ]
fi"""

TIDY = f"rm -rf {' '.join(LEFTOVERS)}"

START_ETCD = """
case "$(systemctl show -P ActiveState etcd.service)" in
active | activating | reloading) ;;
*) systemctl reset-failed etcd.service 2>/dev/null; systemctl start --no-block etcd.service ;;
esac"""

ANEW = tried(LINEAR, END_USE, MOUNT, TIDY, START_ETCD)
"""A plain table and a file system read anew, for one that was in trouble."""

FILL_UP = f"""
room() {{ echo $(($(stat -f -c '%a * %S' {DATA_DIR}))); }}
at=0; tries=0
[ ! -e {FILL} ] || at=$(stat -c %s {FILL})
while free=$(room); [ $free -ge {4 << 20} ] && [ $tries -lt 8 ]; do
  size=$(((free >> tries) - {1 << 20})); tries=$((tries + 1))
  fallocate -o $at -l $size {FILL} 2>/dev/null && at=$((at + size))
done
for block in 65536 {BLOCK}; do
  dd if=/dev/zero of={FILL} bs=$block count=128 oflag=append conv=notrunc,fsync 2>/dev/null || :
done
sync -f {DATA_DIR}"""
"""Allocates nearly all at once, and writes into the rest until that fails: file systems keep some for their own use."""

# As a disk with a broken block does it: ext4 finds an error and takes itself read-only under the processes that have
# files open for writing, which a plain remount would not do.
READ_ONLY = f"""
device=$(dmsetup info -c --noheadings -o blkdevname {DATA_TARGET})
mount -o remount,errors=remount-ro {DATA_DIR}
! touch {DATA_DIR}/.etcdlab-probe 2>/dev/null || echo etcd-lab >/sys/fs/ext4/$device/trigger_fs_error"""

LAY_PROBE = f"""
[ -s {PROBE} ] || head -c {BLOCK} /dev/zero >{PROBE}
sync {PROBE}"""

# bash, since it tells the time without starting a program
_LOOK = rf"""
export LC_ALL=C
echo "table=$(dmsetup table {DATA_TARGET} 2>&1)"
echo "suspended=$(dmsetup info -c --noheadings -o suspended {DATA_TARGET} 2>&1)"
while read -r _ at _ options _; do [[ $at == {DATA_DIR} ]] && echo "mount=$options"; done </proc/mounts
told() {{ local all=$1; all=${{all//$'\n'/; }}; echo "$2=${{all:0:300}}"; }}
try() {{
  local begun=${{EPOCHREALTIME/./}} said status
  said=$(timeout 25 "${{@:2}}" 2>&1) && status=ok || status=$?
  echo "$1=$status"; echo "$1_us=$((${{EPOCHREALTIME/./}} - begun))"; told "$said" "$1_said"
}}
try file dd if=/dev/zero of={PROBE}.new bs={BLOCK} count=1 conv=fsync
rm -f {PROBE}.new
block=$(filefrag -b{BLOCK} -v {PROBE} 2>/dev/null | awk '$1 == "0:" {{ sub(/\.\.$/, "", $4); print $4 }}')
if [[ $block ]]; then
  head -c {BLOCK} /dev/urandom >/run/etcdlab-probe
  try device dd if=/run/etcdlab-probe of={MAPPED} bs={BLOCK} count=1 seek=$block oflag=direct,dsync conv=notrunc
  try read dd if={MAPPED} of=/run/etcdlab-read bs={BLOCK} count=1 skip=$block iflag=direct
  cmp -s /run/etcdlab-probe /run/etcdlab-read && echo kept=yes || echo kept=no
  rm -f /run/etcdlab-probe /run/etcdlab-read
fi
echo end=1
"""

LOOK = f"exec bash -c {shlex.quote(_LOOK)}"
"""Script that probes the volume and prints what `Volume.read` takes: at most a minute, on a disk that hangs."""

LOOK_SECONDS = 70.0


@dataclass(frozen=True, slots=True)
class Volume:
    """What a probe saw."""

    table: str
    """As dmsetup prints it: start, sectors, target, arguments."""
    suspended: bool
    mount: tuple[str, ...]
    """Mount options in force; () when it is not mounted."""
    file: str
    """Error of writing and syncing a new file; "" when it went well."""
    device: str
    """Error of writing a block through the device; "" when it went well; `not probed` where no probe file lies."""
    device_seconds: float
    """How long that took."""
    read_seconds: float
    """How long reading the block took: the same programs, and no write."""
    kept: bool
    """Whether the block then held what was written."""

    @property
    def target(self) -> str:
        """Kind of the device-mapper target."""
        words = self.table.split()
        return words[2] if len(words) > 2 else "none"

    @property
    def sound(self) -> bool:
        """Whether it is as a healthy node has it."""
        plain = self.target == "linear" and not self.suspended and "rw" in self.mount
        return plain and not self.file and self.device in ("", NOT_PROBED)

    @classmethod
    def read(cls, text: str) -> Self:
        """From the script's output; raises ValueError when it did not get to its end."""
        said = dict(line.partition("=")[::2] for line in text.splitlines())
        if "end" not in said:
            raise ValueError(f"the probe did not end: {text[-200:]!r}")
        return cls(
            table=said["table"],
            suspended=said["suspended"].strip().lower().startswith("susp"),
            mount=tuple(said.get("mount", "").split(",")) if said.get("mount") else (),
            file=_error(said, "file"),
            device=_error(said, "device") if "device" in said else NOT_PROBED,
            device_seconds=int(said.get("device_us", 0)) / 1e6,
            read_seconds=int(said.get("read_us", 0)) / 1e6,
            kept=said.get("kept") == "yes",
        )


NOT_PROBED = "not probed"


def _error(said: Mapping[str, str], name: str) -> str:
    """What dd said, shortened to the error: its messages end with the text of errno (strerror(3))."""
    if said[name] == "ok":
        return ""
    if said[name] == "124":
        return "no answer within 25 s"
    first = said[f"{name}_said"].split(";")[0]
    return first.rpartition(": ")[2] or f"status {said[name]}"
