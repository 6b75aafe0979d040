"""Disk faults under one member's data: full, slow, failing, read-only, or lying about what it has written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Proof
from chaos.faults.guest import GuestFault, undo_on
from chaos.faults.oneshot import changed, forget, known, recall, remember
from chaos.faults.parameters import Parameter
from chaos.faults.storage import damage
from chaos.lab.lab import Lab
from chaos.lab.scripts import boot_ids, each, tried
from chaos.member import volume
from chaos.member.volume import Volume
from infra.layout import DATA_DIR, DATA_TARGET
from machine.errors import LabError, UsageError

NO_SPACE = "No space left on device"
IO_ERROR = "Input/output error"
READ_ONLY = "Read-only file system"
"""strerror(3) of ENOSPC, EIO and EROFS."""

MEND_SECONDS = 150.0
"""Limit of a mending: etcd's end, a check of the file system, and a mount, under TCG."""


@dataclass(frozen=True)
class DiskFault(GuestFault):
    """A fault of the data volume: one on a node at a time."""

    family: ClassVar[str] = "disk"
    occupies: ClassVar[str] = "disk"

    def check(self, lab: Lab) -> None:
        """Refuse a node whose data is not on the target whose table we exchange."""
        script = f"dmsetup status {DATA_TARGET} >/dev/null 2>&1 && echo there || echo none"
        running = lab.running()
        found = each(lab, [node for node in self.nodes if node in running], script)
        without = [node for node, done in found.items() if done.stdout.strip() != "there"]
        if without:
            raise UsageError(
                f"{self.name} needs etcd's data behind the device-mapper target {DATA_TARGET}, "
                f"which {', '.join(without)} does not have",
                where=volume.MAPPED,
                next="Build the lab anew with ./lab destroy and ./lab up.",
            )

    def baseline(self, lab: Lab) -> tuple[Proof, ...]:
        """A write that goes well before, else one that fails would prove nothing."""
        found = look(lab, self.nodes, f"{volume.LAY_PROBE}\n{volume.LOOK}")
        return tuple(self._before(node, one) for node, one in found.items())

    def _before(self, node: str, found: Volume | str) -> Proof:
        seen = found if isinstance(found, str) else told(found)
        # repeated on a fault that is in force already, the disk is not sound and need not be
        holds = not isinstance(found, str) and (found.sound or not self.missing(found))
        return Proof("disk before", node, "a write goes well", seen, holds)

    def lift_on(self, lab: Lab, nodes: Iterable[str]) -> None:
        """As a guest's own timer does it, with more time."""
        undo_on(lab, self.id, nodes, lambda node: self.undo(lab, node), MEND_SECONDS)

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """A write probe inside, and the device's table."""
        running = set(lab.running())
        proof = []
        for node, found in look(lab, [node for node in self.nodes if node in running]).items():
            expected = self.expected if in_force else "a write goes well, linear table, mounted rw"
            seen = found if isinstance(found, str) else told(found)
            holds = not isinstance(found, str) and (not self.missing(found) if in_force else found.sound)
            proof.append(Proof(f"write probe and table of {node}", node, expected, seen, holds))
        if in_force or self.survives_reboot:
            off = [node for node in self.nodes if node not in running]
            proof += [Proof(f"disk of {node}", "libvirt", "it runs", "no power", holds=False) for node in off]
        return proof

    @property
    def expected(self) -> str:
        """What a probe shows while it is in force."""
        raise NotImplementedError

    def missing(self, found: Volume) -> str:
        """What of it a probe does not show; "" when all shows."""
        raise NotImplementedError

    def proof_seconds(self, in_force: bool) -> float:  # noqa: ARG002
        """A probe of a hanging disk takes a minute at most."""
        return 60.0


@dataclass(frozen=True)
class DiskFull(DiskFault):
    """All room on the data volume taken (ENOSPC)."""

    name: ClassVar[str] = "disk-full"
    summary: ClassVar[str] = "fill the data volume until nothing more can be written (ENOSPC)"
    survives_reboot: ClassVar[bool] = True

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """A file that takes all."""
        return volume.FILL_UP

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Remove it; etcd may have ended."""
        return tried(volume.TIDY, f"sync -f {DATA_DIR}", volume.START_ETCD)

    @property
    def expected(self) -> str:  # noqa: D102
        return f"a new file: {NO_SPACE}"

    def missing(self, found: Volume) -> str:  # noqa: D102
        return "" if found.file == NO_SPACE else f"a new file: {found.file or 'written'}"


@dataclass(frozen=True)
class DiskSlow(DiskFault):
    """Every write and flush takes longer; reads do not (dm-delay)."""

    name: ClassVar[str] = "disk-slow"
    summary: ClassVar[str] = "delay every write to the data volume"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("delay_ms", "whole", 500, "how much longer a write takes, in ms", low=50, high=10_000),
    )

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Exchange the table."""
        return volume.load(volume.slow_writes(self.value("delay_ms")), "dm_delay")

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Plain table; the file system has lost nothing."""
        return tried(volume.LINEAR, volume.TIDY, volume.START_ETCD)

    @property
    def expected(self) -> str:  # noqa: D102
        return f"a block written in {self.value('delay_ms') / 1000:g} s or more, and read faster; table delay"

    def missing(self, found: Volume) -> str:  # noqa: D102
        if found.target != "delay":
            return f"the table is {found.target}"
        if found.device:
            return f"a block: {found.device}"
        delay = self.value("delay_ms") / 1000
        # more than the delay, and much more than a read, which tells a slow disk from a slow machine
        slow = found.device_seconds >= delay and found.device_seconds - found.read_seconds >= delay / 2
        return "" if slow else f"a block took {found.device_seconds:.3f} s, a read {found.read_seconds:.3f} s"


@dataclass(frozen=True)
class DiskError(DiskFault):
    """Every write fails with EIO; reads go well (dm-flakey, error_writes)."""

    name: ClassVar[str] = "disk-error"
    summary: ClassVar[str] = "fail every write to the data volume (EIO)"

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Exchange the table."""
        return volume.load(volume.ERROR_WRITES, "dm_flakey")

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Plain table, and a file system read anew: ext4 has given up its journal, pages may be lost."""
        return volume.ANEW

    @property
    def expected(self) -> str:  # noqa: D102
        return f"a block: {IO_ERROR}, table flakey error_writes"

    def missing(self, found: Volume) -> str:  # noqa: D102
        if "error_writes" not in found.table:
            return f"the table is {found.table}"
        return "" if found.device == IO_ERROR else f"a block: {found.device or 'written'}"


@dataclass(frozen=True)
class DiskReadOnly(DiskFault):
    """The file system takes itself read-only, as it does when it meets an error (EROFS)."""

    name: ClassVar[str] = "disk-readonly"
    summary: ClassVar[str] = "make the data volume's file system read-only under etcd (EROFS)"

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Have ext4 meet an error."""
        return volume.READ_ONLY

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Check and mount it anew."""
        return volume.ANEW

    @property
    def expected(self) -> str:  # noqa: D102
        return f"a new file: {READ_ONLY}"

    def missing(self, found: Volume) -> str:  # noqa: D102
        # /proc/mounts need not say so: kernels since "ext4: don't set SB_RDONLY after filesystem errors" keep the flag
        return "" if found.file == READ_ONLY else f"a new file: {found.file or 'written'}"


@dataclass(frozen=True)
class LostWrites(DiskFault):
    """From now on the disk says it has written, and has not (dm-flakey, drop_writes).

    What the member acknowledges is in its memory alone: cutting its power, or healing, loses it. A member that forgets
    what it has acknowledged is outside Raft's fault model, so healing replaces it. After a cut of the power the disk is
    true again, and the fault holds until then all the same: what it lost stays lost.
    """

    name: ClassVar[str] = "lost-writes"
    damages_data: ClassVar[bool] = True
    summary: ClassVar[str] = "lose every write to the data volume from now on, and say it went well"
    survives_reboot: ClassVar[bool] = True
    promised: ClassVar[bool] = False

    def check(self, lab: Lab) -> None:
        """Refuse also where nobody would be left to replace the members from."""
        damage.check_minority(self, lab)
        super().check(lab)

    def baseline(self, lab: Lab) -> tuple[Proof, ...]:
        """As for any disk, and which boot of each node it is."""
        boots = boot_ids(lab, self.nodes)
        remember(lab.paths, self.id, boots)
        return (*super().baseline(lab), *known({f"boot id of {node}": boot for node, boot in boots.items()}))

    def make(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Exchange the table."""
        return volume.load(volume.DROP_WRITES, "dm_flakey")

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """The probe; in force also on a node that has booted since."""
        proof = super().look(lab, in_force=in_force)
        suspect = [one.where for one in proof if in_force and not one.holds and one.where in self.nodes]
        if not suspect:
            return proof
        before = recall(lab.paths, self.id)
        for node, boot in boot_ids(lab, suspect).items():
            booted = changed(f"boot id of {node}, whose disk had lied", node, before.get(node), boot)
            if booted.holds:
                proof = [booted if one.where == node else one for one in proof]
        return proof

    def undo(self, lab: Lab, node: str) -> str:  # noqa: ARG002
        """Unmount first, so that nothing in memory reaches the disk any more, as when the power goes."""
        return tried(volume.END_USE, volume.LINEAR, volume.MOUNT, volume.TIDY, volume.START_ETCD)

    def lift(self, lab: Lab) -> None:
        """Make the disk true again, and the members new ones."""
        super().lift(lab)
        damage.replace_all(self, lab)
        forget(lab.paths, self.id)

    @property
    def expected(self) -> str:  # noqa: D102
        return "a block: written without an error, and not kept; table flakey drop_writes"

    def missing(self, found: Volume) -> str:  # noqa: D102
        if "drop_writes" not in found.table:
            return f"the table is {found.table}"
        if found.device:
            return f"a block: {found.device}"
        return "a block was kept" if found.kept else ""


def look(lab: Lab, nodes: Sequence[str], script: str = volume.LOOK) -> dict[str, Volume | str]:
    """Probe the data volume of each node, all at once; text where that cannot be done."""

    def one(node: str) -> Volume | str:
        try:
            done = lab.inside.run(lab.shell(node), script, volume.LOOK_SECONDS, check=False)
        except LabError as error:
            return str(error)
        try:
            return Volume.read(done.stdout)
        except (ValueError, KeyError) as error:
            return f"{error} {done.stderr.strip()[-200:]}"

    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        return dict(zip(nodes, pool.map(one, nodes), strict=True))


def told(found: Volume) -> str:
    """A probe in a few words."""
    device = f"a block: {found.device or 'written'} in {found.device_seconds:.3f} s"
    if found.device_seconds:
        device += f", read in {found.read_seconds:.3f} s"
    if not found.device and not found.kept:
        device += ", and not kept"
    mount = ",".join(found.mount[:2]) or "not mounted"
    frozen = ", suspended" if found.suspended else ""
    return f"a new file: {found.file or 'written'}; {device}; table {found.table}{frozen}; {mount}"
