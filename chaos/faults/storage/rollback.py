"""Amnesia: a member's data directory put back to an older copy, as restoring a machine's backup does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Proof
from chaos.faults.parameters import Parameter
from chaos.faults.storage.corruption import MAKE_SECONDS, Damage, note, read_note
from chaos.lab.lab import Lab
from chaos.lab.scripts import CALL_SECONDS
from chaos.member import volume
from infra.layout import DATA_DIR
from machine.waiting import Pending, wait_until


@dataclass(frozen=True)
class Rollback(Damage):
    """An older copy of a member's data put back: it has forgotten what it acknowledged since (amnesia)."""

    name: ClassVar[str] = "rollback"
    damages_data: ClassVar[bool] = True
    summary: ClassVar[str] = "save a member's data, let the cluster go on, put the save back (amnesia)"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("entries", "whole", 20, "how many log entries it forgets, at least", low=1, high=10_000),
    )

    def apply(self, lab: Lab) -> None:
        """Save, wait until the member has taken more entries, put the save back; one after the other."""
        for node in self.nodes:
            if "after" in read_note(lab.shell(node).run(note(self.facts), seconds=CALL_SECONDS, check=False).stdout):
                continue
            saved = _index(lab, node)
            lab.shell(node).run(_SAVE, seconds=MAKE_SECONDS)
            then = self._go_on(lab, node, saved)
            lab.shell(node).run(self._put_back(saved, then), seconds=MAKE_SECONDS)

    def _go_on(self, lab: Lab, node: str, saved: int) -> int:
        wanted = saved + int(self.value("entries"))

        def grown() -> int:
            # a question for alarms is an entry of the log that changes nothing (E etcdserver/v3_server.go, Alarm)
            lab.cluster.alarms()
            now = _index(lab, node)
            if now < wanted:
                raise Pending(f"its log has {now} entries")
            return now

        return wait_until(grown, f"{node} to take entries up to {wanted}", seconds=MAKE_SECONDS, every=0.05)

    def _put_back(self, saved: int, then: int) -> str:
        return "\n".join(
            (
                volume.KILL_ETCD,
                "set -e",
                f"mkdir -p {volume.DAMAGE}",
                f"old=$(ls {DATA_DIR}/member/wal/*.wal | tail -n 1)",
                f"new=$(ls {volume.SAVE}/wal/*.wal | tail -n 1)",
                # up to where they part, and a block more: a digest of 64 MB takes a minute under emulation
                "parts=$(LC_ALL=C cmp $old $new | sed 's/.*: [a-z]* \\([0-9]*\\),.*/\\1/')",
                f"before=$(head -c $((parts + {volume.BLOCK})) $old | sha256sum)",
                f"after=$(head -c $((parts + {volume.BLOCK})) $new | sha256sum)",
                f"rm -rf {DATA_DIR}/member",
                f"mv {volume.SAVE} {DATA_DIR}/member; sync -f {DATA_DIR}",
                f"echo before=$before >{self.facts}.new; echo after=$after >>{self.facts}.new",
                f"echo saved={saved} >>{self.facts}.new; echo then={then} >>{self.facts}.new",
                f"echo at=$(date +%s) >>{self.facts}.new",
                f"mv {self.facts}.new {self.facts}; sync {self.facts}",
                volume.START_ETCD,
            )
        )

    def shown(self, node: str, noted: Mapping[str, str]) -> list[Proof]:  # noqa: D102
        before, after = noted.get("before", ""), noted.get("after", "")
        saved, then = int(noted.get("saved", 0)), int(noted.get("then", 0))
        began = noted.get("began", "")
        return [
            Proof(
                f"SHA-256 of the newest WAL segment of {node}, to where the two part",
                node,
                "that of the save, another than before",
                f"{before[:16] or 'unknown'} before, {after[:16] or 'unknown'} after",
                bool(before and after and before != after),
            ),
            Proof(
                f"where {node} began again",
                "etcd's log",
                f"a commit index under {then}, what it had",
                f"commit index {began or 'not told yet'}; saved at {saved}",
                began.isdigit() and int(began) < then,
            ),
        ]


_SAVE = "\n".join(
    (
        volume.KILL_ETCD,
        "set -e",
        f"rm -rf {volume.SAVE}",
        f"cp -a {DATA_DIR}/member {volume.SAVE}; sync -f {DATA_DIR}",
        volume.START_ETCD,
    )
)


def _index(lab: Lab, node: str) -> int:
    """Last entry of the member's log, by its own word; waits while it starts."""

    def answered() -> int:
        status = next(one for one in lab.cluster.status() if one.node == node)
        if not status.ok:
            raise Pending(status.error)
        return status.raft_index

    return wait_until(answered, f"the log of {node}", seconds=MAKE_SECONDS)
