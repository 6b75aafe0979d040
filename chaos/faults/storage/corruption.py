"""Damage to a stopped member's data: flipped bits, a file cut short, an older copy put back.

etcd promises nothing for any of it: what it does is recorded, and healing replaces the member.
The files are those of etcd's data directory (E server/storage/datadir): `member/wal/*.wal`, of which the last is
written to, `member/snap/*.snap`, and `member/snap/db`.
"""

from __future__ import annotations

import random
import shlex
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Fault, Proof
from chaos.faults.parameters import Parameter
from chaos.faults.storage import damage
from chaos.lab.lab import Lab
from chaos.lab.scripts import CALL_SECONDS, each
from chaos.member import volume
from infra.layout import DATA_DIR
from machine.errors import LabError, UsageError

MAKE_SECONDS = 180.0

FILES: Mapping[str, str] = {
    "wal": f"{DATA_DIR}/member/wal/*.wal",
    "snap": f"{DATA_DIR}/member/snap/*.snap",
    "db": f"{DATA_DIR}/member/snap/db",
}
"""What `file` means; of several the last by name, which is the newest (E server/storage/wal/util.go, walName)."""

FILE = Parameter("file", "word", "wal", "which file of the member", choices=tuple(FILES))
SEED = Parameter("seed", "whole", 1, "chooses where in the file", high=2**31)

# perl, as there is no python in the guests. The end of a WAL segment is zeros, allocated ahead: only what lies before
# them is worth hitting, and compared.
_HURT = r"""
my ($path, $before, $after, $how, @numbers) = @ARGV;
open my $file, "+<:raw", $path or die "$path: $!\n";
my ($used, $at) = (0, 0);
while (sysread $file, my $part, 1 << 20) {
    $used = $at + $+[0] if $part =~ tr/\0//c and $part =~ /.*[^\0]/s;
    $at += length $part;
}
die "$path holds nothing\n" if $used < 16;
sub keep {
    open my $copy, ">:raw", $_[0] or die "$_[0]: $!\n";
    sysseek $file, 0, 0;
    my $left = $used;
    while ($left > 0 and sysread $file, my $part, $left < 1 << 20 ? $left : 1 << 20) {
        syswrite $copy, $part or die "$_[0]: $!\n";
        $left -= length $part;
    }
}
keep $before;
if ($how eq "flip") {
    for my $number (@numbers) {
        my $bit = $number % ($used * 8);
        sysseek $file, $bit >> 3, 0;
        sysread $file, my $byte, 1;
        sysseek $file, $bit >> 3, 0;
        syswrite $file, $byte ^ chr(1 << ($bit & 7)) or die "$path: $!\n";
        print "bit=$bit\n";
    }
} else {
    my $size = $used > $numbers[0] ? $used - $numbers[0] : 0;
    truncate $file, $size or die "$path: $!\n";
    print "cut_at=$size\n";
}
keep $after;
print "size=$at\nused=$used\n";
"""


@dataclass(frozen=True)
class Damage(Fault):
    """Damage to the data of stopped members, which are started again with it."""

    family: ClassVar[str] = "data"
    occupies: ClassVar[str] = "disk"
    promised: ClassVar[bool] = False

    def place(self, lab: Lab) -> str:  # noqa: ARG002
        """Inside."""
        return "guest"

    def check(self, lab: Lab) -> None:
        """Only as many members as the others can replace."""
        damage.check_minority(self, lab)

    @property
    def facts(self) -> str:
        """Path of the note in the guest."""
        return f"{volume.DAMAGE}/{self.id}"

    def lift(self, lab: Lab) -> None:
        """Members whose data was damaged become new ones."""
        off = sorted(set(self.nodes) - set(lab.running()))
        if off:
            raise LabError(f"{self.name} cannot be healed on {', '.join(off)}, which has no power",
                           next="./lab heal switches it on first.")  # fmt: skip
        damage.replace_all(self, lab)
        each(lab, self.nodes, f"rm -f {self.facts}")

    def look(self, lab: Lab, *, in_force: bool) -> list[Proof]:
        """What was noted when the damage was done; afterwards, that a new member votes and nothing is noted."""
        proof = []
        for node in self.nodes:
            try:
                done = lab.inside.run(lab.shell(node), note(self.facts), CALL_SECONDS, check=False)
                noted = read_note(done.stdout)
            except LabError as error:
                proof.append(Proof(f"data of {node}", node, "to be looked at", str(error), holds=False))
                continue
            proof += self.shown(node, noted) if in_force else self._healed(lab, node, noted)
        return proof

    def _healed(self, lab: Lab, node: str, noted: Mapping[str, str]) -> list[Proof]:
        status = next(one for one in lab.cluster.status() if one.node == node)
        now = f"{status.member_id:x}, {'a learner' if status.learner else 'voting'}" if status.ok else status.error
        voting = status.ok and not status.learner
        return [
            Proof(f"member of {node}", "this host", "another one, voting", now, voting),
            Proof(f"note of the damage on {node}", node, "gone", "there" if "after" in noted else "gone",
                  "after" not in noted),
        ]  # fmt: skip

    @abstractmethod
    def shown(self, node: str, noted: Mapping[str, str]) -> list[Proof]:
        """The proof from what was noted."""

    def proof_seconds(self, in_force: bool) -> float:  # noqa: ARG002
        """A start of etcd, where that is looked at."""
        return 60.0


@dataclass(frozen=True)
class FileDamage(Damage):
    """Damage to one file."""

    def check(self, lab: Lab) -> None:
        """The file must be there: a snapshot is, only after `snapshot-count` entries."""
        super().check(lab)
        which = str(self.value("file"))
        found = each(lab, self.nodes, f"ls {FILES[which]} >/dev/null 2>&1 && echo yes || echo no")
        without = [node for node, done in found.items() if done.stdout.strip() != "yes"]
        if without:
            raise UsageError(
                f"{', '.join(without)} has no {which} file to damage",
                where=FILES[which],
                next="etcd makes the first snapshot after snapshot-count entries (10000 from 3.6 on).",
            )

    def apply(self, lab: Lab) -> None:
        """Kill the member, damage the file, note what it was and is, start the member."""
        each(lab, self.nodes, self.script, seconds=MAKE_SECONDS, once=True)  # twice, a bit would be back

    def script(self, node: str) -> str:
        """Script for one node; does nothing when the note is there."""
        how, numbers = self.how(node)
        before, after = volume.BEFORE, volume.AFTER
        hurt = f'perl -e {shlex.quote(_HURT)} "$file" {before} {after} {how} {" ".join(map(str, numbers))}'
        return "\n".join(
            (
                f"[ ! -e {self.facts} ] || exit 0",
                volume.KILL_ETCD,
                "set -e",
                f"mkdir -p {volume.DAMAGE}",
                f"file=$(ls {FILES[str(self.value('file'))]} | tail -n 1)",
                f"{{ echo file=$file; {hurt}; }} >{self.facts}.new",
                'sync "$file"',
                f"echo before=$(sha256sum <{before}) >>{self.facts}.new",
                f"echo after=$(sha256sum <{after}) >>{self.facts}.new",
                f"echo changed=$(cmp -l {before} {after} 2>/dev/null | wc -l) >>{self.facts}.new",
                f"echo lost=$(($(stat -c %s {before}) - $(stat -c %s {after}))) >>{self.facts}.new",
                f"rm -f {before} {after}",
                f"mv {self.facts}.new {self.facts}; sync {self.facts}",
                volume.START_ETCD,
            )
        )

    @abstractmethod
    def how(self, node: str) -> tuple[str, list[int]]:
        """Word and numbers for the program that does it."""

    def chance(self, node: str) -> random.Random:
        """The same numbers for the same seed and node."""
        return random.Random(f"{self.value('seed')}/{node}")  # noqa: S311 - where to hit, no secret

    def digests(self, node: str, noted: Mapping[str, str]) -> Proof:
        """That the file is another one than before."""
        before, after = noted.get("before", ""), noted.get("after", "")
        return Proof(
            f"SHA-256 of {noted.get('file', self.value('file'))} on {node}, the part in use",
            node,
            "another one than before",
            f"{before[:16] or 'unknown'} before, {after[:16] or 'unknown'} after",
            bool(before and after and before != after),
        )


@dataclass(frozen=True)
class BitFlip(FileDamage):
    """Single bits of one file turned around."""

    name: ClassVar[str] = "bit-flip"
    damages_data: ClassVar[bool] = True
    summary: ClassVar[str] = "flip bits in a stopped member's WAL, snapshot or database, and start it"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        FILE, SEED, Parameter("bits", "whole", 1, "how many bits", low=1, high=64),
    )  # fmt: skip

    def how(self, node: str) -> tuple[str, list[int]]:  # noqa: D102
        chance = self.chance(node)
        return "flip", [chance.getrandbits(48) for _ in range(self.value("bits"))]

    def shown(self, node: str, noted: Mapping[str, str]) -> list[Proof]:  # noqa: D102
        changed, bits = int(noted.get("changed", 0)), int(self.value("bits"))
        seen = f"{changed} bytes differ; bit {noted.get('bit', 'unknown')} of {noted.get('used', '?')} bytes in use"
        return [
            self.digests(node, noted),
            Proof(f"bytes changed on {node}", node, f"1 to {bits}", seen, 1 <= changed <= bits),
        ]


@dataclass(frozen=True)
class Truncate(FileDamage):
    """The end of one file gone."""

    name: ClassVar[str] = "truncate"
    damages_data: ClassVar[bool] = True
    summary: ClassVar[str] = "cut the end off a stopped member's WAL, snapshot or database, and start it"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        FILE, Parameter("bytes", "whole", 200, "how many bytes in use are cut off", low=1, high=2**31),
    )  # fmt: skip

    def how(self, node: str) -> tuple[str, list[int]]:  # noqa: ARG002, D102
        return "cut", [int(self.value("bytes"))]

    def shown(self, node: str, noted: Mapping[str, str]) -> list[Proof]:  # noqa: D102
        lost, used = int(noted.get("lost", 0)), int(noted.get("used", 0))
        wanted = min(int(self.value("bytes")), used)
        seen = f"{lost} bytes fewer of {used} in use; the file had {noted.get('size', '?')}"
        return [self.digests(node, noted), Proof(f"bytes cut on {node}", node, str(wanted), seen, 0 < lost == wanted)]


def note(facts: str) -> str:
    """Script: prints the note, and where etcd began since (its word when it finds data, E etcdserver/bootstrap.go)."""
    began = (
        "journalctl --no-pager -o cat -u etcd.service --since @$at | grep -o 'restarting local member.*' | head -n 1 | "
        "grep -o '\"commit-index\":[0-9]*' | cut -d: -f2"
    )
    at = f"at=$(sed -n s/^at=//p {facts} 2>/dev/null)"
    return f'cat {facts} 2>/dev/null; {at}; [ -z "$at" ] || echo began=$({began})'


def read_note(text: str) -> dict[str, str]:
    """Lines `name=value`; of several the last holds."""
    lines = (line.partition("=") for line in text.splitlines())
    return {name: value.strip() for name, equals, value in lines if equals}
