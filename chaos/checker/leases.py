"""Leases by the clock: a key may not expire before its lease's time, and must be gone at the end.

The rules (references of the project, section 5, from etcd's lessor): time to live is kept by the leader, counted from
when it granted or renewed the lease, which is not before that call was invoked; a new leader starts all leases anew,
so expiry may come late, by the full time for each change of leader, but never early. Whether what an expiry deletes
is consistent is for the machine (`steps`); here it is only about when.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from chaos.checker.actions import NOT_FOUND
from chaos.checker.model import NULL, History, Kind, Outcome
from chaos.checker.violation import Violation, violation

SECOND = 1_000_000_000
SLACK = 0.01
"""Share of the time to live by which a guest's monotonic clock may run ahead of ours (NTP slews 500 ppm at most;
emulated clocks catch up in small steps)."""


def check_leases(history: History, *, gone_by_ns: int | None = None) -> Violation | None:
    """Expiry or denial too early; and, of what is read after `gone_by_ns`, keys that should have expired before it.

    Looks only at keys that nobody else touches: one put, with a lease, and neither deletes nor further puts, so that
    absence can only be the lease's doing. Revoked leases are left out.
    """
    writes = np.isin(history.kind, (Kind.PUT, Kind.DELETE, Kind.CAS)) & (history.outcome != Outcome.FAIL)
    rows: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(writes).tolist():
        rows[int(history.key[row])].append(row)
    shared = {part.key for txn in history.txns.values() for part in txn.parts if part.kind != Kind.GET}
    revoked = {
        int(lease) for lease in history.lease[(history.kind == Kind.LEASE_REVOKE) & (history.outcome != Outcome.FAIL)]
    }
    wrong = _denied(history, revoked)
    if wrong is not None:
        return wrong
    for key, written in rows.items():
        row = written[0]
        lease = int(history.lease[row])
        if len(written) > 1 or lease < 0 or lease in revoked or key in shared or history.outcome[row] != Outcome.OK:
            continue
        wrong = _one(history, key, row, lease, gone_by_ns)
        if wrong is not None:
            return wrong
    return None


def _denied(history: History, revoked: set[int]) -> Violation | None:
    """A keepalive that answers 0, or an answer "not found", within the time that was granted.

    etcd answers a keepalive of a lease that is gone with a time to live of 0 (E server/lease/lessor.go, Renew).
    """
    ok = (history.outcome == Outcome.OK) & (history.lease >= 0)
    told = np.isin(history.kind, (Kind.LEASE_GRANT, Kind.LEASE_KEEPALIVE)) & ok
    gone = told & (history.kind == Kind.LEASE_KEEPALIVE) & (history.count == 0)
    for row, action in history.actions.items():
        if action.kind == "lease_ttl" and ok[row]:
            gone[row] = action.answer == NOT_FOUND or history.count[row] == 0
    for row in np.flatnonzero(gone).tolist():
        lease = int(history.lease[row])
        if lease in revoked:
            continue
        earlier = history.ret < history.invoke[row]
        given = np.flatnonzero(told & (history.lease == lease) & (history.count > 0) & earlier)
        for one in given.tolist():
            asked, answered = int(history.invoke[one]), int(history.ret[row])
            if answered < asked + int(int(history.count[one]) * SECOND * (1 - SLACK)):
                after_s = (answered - asked) / SECOND
                why = f"It was gone {after_s:.2f} s after it had been asked for {history.count[one]} s."
                return violation(history, "lease expired early", why, [one, row])
    return None


def _one(history: History, key: int, row: int, lease: int, gone_by_ns: int | None) -> Violation | None:
    renewals = np.flatnonzero(
        (history.lease == lease)
        & np.isin(history.kind, (Kind.LEASE_GRANT, Kind.LEASE_KEEPALIVE))
        & (history.outcome == Outcome.OK)
        & (history.count > 0)
    ).tolist()
    reads = np.flatnonzero(
        (history.kind == Kind.GET) & (history.key == key) & (history.outcome == Outcome.OK) & ~history.serializable
    )
    after = reads[history.invoke[reads] > history.ret[row]]
    absent = after[history.value[after] == NULL]
    if len(absent):
        first = int(absent[np.argmin(history.ret[absent])])
        for one in renewals:
            asked, read = int(history.invoke[one]), int(history.ret[first])
            if asked < read < asked + int(int(history.count[one]) * SECOND * (1 - SLACK)):
                after_s = (read - asked) / SECOND
                why = f"It was gone {after_s:.2f} s after its lease had been asked for {history.count[one]} s."
                return violation(history, "lease expired early", why, [one, row, first], key)
    if gone_by_ns is not None:
        late = after[(history.invoke[after] > gone_by_ns) & (history.value[after] != NULL)]
        if len(late):
            why = "By then its lease should have expired, whatever happened, and the key is still there."
            return violation(history, "lease outlived", why, [row, int(late[0])], key)
    return None
