"""What a cluster committed, from the logs of its members, by raft's own rules.

Committed is what a member noted as such (HardState.commit), and what a majority holds of the highest term that any of
them has been in: nobody of a later term can have put anything else there (raft paper, 5.4.2 and figure 8; entries of
earlier terms on a majority may still be replaced). Where two logs hold an entry of one index and term, they are the
same up to there (5.3, Log Matching).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chaos.checker.errors import WalError
from chaos.checker.raftlog.wal_reader import Entry, Log


@dataclass(frozen=True, slots=True)
class Committed:
    """Entries known to be committed, by index; some of before may be missing."""

    entries: tuple[Entry, ...]

    @property
    def last(self) -> int:
        """Index of the last one, 0 without any."""
        return self.entries[-1].index if self.entries else 0

    @property
    def whole_from(self) -> int:
        """From this index on up to the last nothing is missing."""
        first = self.last + 1
        for entry in reversed(self.entries):
            if entry.index != first - 1:
                break
            first = entry.index
        return first


def merge(logs: Sequence[Log], members: int) -> Committed:
    """The committed entries of a cluster of so many voting members, of which `logs` were read.

    Raises WalError when two members hold different entries as committed.
    """
    sure = {log.member: min(log.commit, log.last) for log in logs}
    agreed = _majority(logs, members // 2 + 1)
    anchors = {at: entry.term for log in logs if (at := sure[log.member]) and (entry := log.at(at))}
    anchors |= {agreed.index: agreed.term} if agreed else {}
    for log in logs:
        for index, term in anchors.items():
            held = log.at(index)
            if held is not None and held.term == term:
                sure[log.member] = max(sure[log.member], index)
    found: dict[int, tuple[str, Entry]] = {}
    for log in logs:
        for entry in log.entries:
            if entry.index > sure[log.member]:
                break
            other, known = found.setdefault(entry.index, (log.member, entry))
            if known != entry:
                raise WalError(
                    f"Members {other} and {log.member} hold different entries as committed",
                    where=f"index {entry.index}",
                )
    return Committed(tuple(found[index][1] for index in sorted(found)))


def _majority(logs: Sequence[Log], quorum: int) -> Entry | None:
    """The last entry of the highest term that so many logs hold."""
    if len(logs) < quorum:
        return None
    term = max(log.term for log in logs)
    tails = sorted((log.entries[-1] for log in logs if log.entries and log.entries[-1].term == term), reverse=True)
    return tails[quorum - 1] if len(tails) >= quorum else None
