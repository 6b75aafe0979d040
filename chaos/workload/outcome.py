"""What a client knows about an operation after it: ok, fail, or unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ok", "fail", "unknown"]
"""`fail`: it certainly did not happen. `unknown`: it may have happened, or may still happen."""

READS = frozenset({"get", "range"})
"""Operations that change nothing: one without an answer counts as not done (jepsen.etcd, client.clj)."""

REFUSED = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "UNIMPLEMENTED",
    }
)
"""gRPC codes that etcd gives before anything is applied (E api/v3rpc/rpctypes/error.go)."""

_NEVER_SENT = (
    "failed to connect to all addresses",
    "failed to connect to remote host",
    "connection refused",
    "name resolution failed",
    "dns resolution failed",
)
"""UNAVAILABLE of the client's own channel: with retries off the request never left."""

_NOT_PROPOSED = ("etcdserver: unhealthy cluster", "etcdserver: not capable", "etcdserver: server is a learner")
"""UNAVAILABLE of etcd's own that it gives before it proposes anything (E server/etcdserver/api/v3rpc, server.go); all
its other ones (leader changed, no leader, request timed out, stopped, …) may come after the proposal."""

_FULL = ("etcdserver: too many requests",)
"""RESOURCE_EXHAUSTED before anything is proposed. gRPC's own (an answer too large) says nothing about the operation.

"mvcc: database space exceeded" is not for certain: the put that first exceeds the quota is applied, and refused all the
same (E server/etcdserver/apply/apply.go, quotaApplierV3.Put).
"""


def classify(code: str, details: str, *, read: bool = False) -> Outcome:
    """Outcome of an operation that ended with the gRPC status `code` and its text.

    Everything that may have reached a leader is unknown, a timeout always (design decision 14). A `read` that gave
    no answer changed nothing, whatever became of it: fail.
    """
    text = details.lower()
    if code == "OK":
        return "ok"
    if code in REFUSED or read:
        return "fail"
    if code == "UNAVAILABLE" and any(sign in text for sign in (*_NEVER_SENT, *_NOT_PROPOSED)):
        return "fail"
    if code == "RESOURCE_EXHAUSTED" and any(sign in text for sign in _FULL):
        return "fail"
    return "unknown"


@dataclass(frozen=True, slots=True)
class Op:
    """One operation as its client saw it; times are nanoseconds of CLOCK_MONOTONIC.

    `values` are (key, value, mod_revision) of what was read.
    """

    process: int
    member: str
    op: str
    key: str
    value: str | None
    invoke_ns: int
    return_ns: int
    outcome: Outcome
    revision: int | None
    mod_revision: int | None
    values: tuple[tuple[str, str, int], ...]
    code: str
    error: str
    expect: str | None = None
    """Of a cas: what the key should hold (None: it should be absent)."""
    succeeded: bool | None = None
    """Of a cas: whether the key held what was expected."""
    deleted: int | None = None
    """Of a delete: how many keys there were."""
    serializable: bool = False
    """Of a read: whether it may be stale by right."""

    @property
    def ok(self) -> bool:
        """Whether it certainly happened."""
        return self.outcome == "ok"

    @property
    def seconds(self) -> float:
        """How long the client waited."""
        return (self.return_ns - self.invoke_ns) / 1e9

    def __str__(self) -> str:
        if not self.ok:
            return f"{self.outcome}: {self.code} {self.error!r} after {self.seconds:.2f} s"
        said = "OK" if self.op != "get" else repr(self.value)
        return f"{said} at revision {self.revision} in {self.seconds * 1000:.0f} ms"

    def as_history(self) -> dict[str, object]:
        """One line of the history (see the history contract in the design); `return_ns` is null when unknown."""
        line: dict[str, object] = {
            "process": self.process,
            "op": self.op,
            "key": self.key,
            "value": self.value,
            "invoke_ns": self.invoke_ns,
            "return_ns": None if self.outcome == "unknown" else self.return_ns,
            "outcome": self.outcome,
            "revision": self.revision,
            "mod_revision": self.mod_revision,
            "member": self.member,
        }
        line |= {"expect": self.expect, "succeeded": self.succeeded} if self.op == "cas" else {}
        line |= {} if self.deleted is None else {"deleted": self.deleted}
        line |= {"serializable": True} if self.serializable else {}
        if self.op == "range" and self.ok:
            line["kvs"] = [{"key": key, "value": value, "mod_revision": at} for key, value, at in self.values]
        return line | ({"error": f"{self.code}: {self.error}"} if self.error else {})


def parse_op(process: int, member: str, line: Mapping[str, object]) -> Op:
    """The Op that a client child told in one JSON line."""
    values = line.get("values") or ()
    assert isinstance(values, Sequence)  # noqa: S101 - the child is ours
    code, error = str(line["code"]), str(line.get("error") or "")
    return Op(
        process=process,
        member=member,
        op=str(line["op"]),
        key=str(line["key"]),
        value=_text(line.get("value")),
        invoke_ns=_number(line["invoke_ns"]) or 0,
        return_ns=_number(line["return_ns"]) or 0,
        outcome=classify(code, error),
        revision=_number(line.get("revision")),
        mod_revision=_number(line.get("mod_revision")),
        values=tuple((str(key), str(value), int(revision)) for key, value, revision in values),
        code=code,
        error=error,
        expect=_text(line.get("expect")),
        succeeded=None if "succeeded" not in line else bool(line["succeeded"]),
        deleted=_number(line.get("deleted")),
        serializable=bool(line.get("serializable")),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
