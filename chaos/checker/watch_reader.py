"""Lines of watch.jsonl to events, or a HistoryError with file and line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from chaos.checker.action_reading import prefix_end
from chaos.checker.errors import HistoryError
from chaos.checker.fields import extra, refusal
from chaos.checker.history_reader import NEXT
from chaos.checker.watches import Event, EventKind

COMMON = frozenset({"watch", "event", "ns", "member"})
WRITE = frozenset({"key", "mod_revision", "create_revision", "prev_value"})
FIELDS = {
    EventKind.CREATED: frozenset(
        {
            "key",
            "range_end",
            "prefix",
            "start_revision",
            "revision",
            "filters",
            "prev_kv",
            "fragment",
            "progress_notify",
        }
    ),
    EventKind.PUT: WRITE | {"value"},
    EventKind.DELETE: WRITE,
    EventKind.PROGRESS: frozenset({"revision"}),
    EventKind.COMPACTED: frozenset({"compact_revision"}),
    EventKind.CANCELED: frozenset({"error"}),
    EventKind.REQUESTED: frozenset({"within_ns"}),
}
FILTERS = {"noput": "put", "nodelete": "delete"}
"""As etcd names them (E api/etcdserverpb/rpc.proto, WatchCreateRequest.FilterType)."""


def read_watch(lines: Iterable[bytes], name: str = "watch") -> list[Event]:
    """Every event and notice, in order of the file (docs/checker.md has the fields).

    Raises HistoryError for what is not JSON, lacks a field, or tells of a watch that was never created.
    """
    events: list[Event] = []
    created: set[str] = set()
    for number, line in enumerate(lines, 1):
        try:
            event = _event(orjson.loads(line), number)
            if event.kind == EventKind.CREATED:
                created.add(event.watch)
            elif event.watch not in created:
                raise ValueError(f"watch {event.watch} has not been created yet")
        except orjson.JSONDecodeError as error:
            raise _broken(name, number, f"this line is not JSON, or was cut off ({error})") from None
        except KeyError as error:
            raise _broken(name, number, f"{error.args[0]} is missing") from None
        except (TypeError, AttributeError, ValueError) as error:
            raise _broken(name, number, str(error)) from None
        events.append(event)
    return events


def _broken(name: str, number: int, what: str) -> HistoryError:
    return HistoryError(f"Broken watch record: {what}", where=f"{name}:{number}", next=NEXT)


def _event(line: dict[str, Any], number: int) -> Event:
    kind, watch = EventKind(line["event"]), str(line["watch"])
    names = extra(line, COMMON | FIELDS.get(kind, frozenset()))
    if names:
        raise ValueError(refusal(f"this line of a watch ({kind.value})", names[0]))
    ns = line.get("ns") or 0
    if kind in (EventKind.PUT, EventKind.DELETE):
        mod = _revision(line["mod_revision"])
        value = line["value"] if kind == EventKind.PUT else None
        if not isinstance(line["key"], str):
            raise TypeError("key is not a string")
        return Event(
            number,
            watch,
            kind,
            line["key"],
            value=value,
            mod=mod,
            create=line.get("create_revision") or 0,
            previous=line.get("prev_value"),
            has_previous="prev_value" in line,
            ns=ns,
        )
    if kind == EventKind.CREATED:
        key, end = line["key"], line.get("range_end")
        if line.get("prefix"):
            end = prefix_end(key)
        start = line.get("start_revision") or 0
        revision = _revision(line["revision"]) if not start else line.get("revision") or 0
        wanted = line.get("filters") or ()
        if not set(wanted) <= set(FILTERS):
            raise ValueError("filters may be noput and nodelete")
        member = str(line.get("member") or "")
        without = frozenset(FILTERS[one] for one in wanted)
        return Event(
            number, watch, kind, key, end=end, revision=revision, start=start, ns=ns, member=member, without=without
        )
    if kind == EventKind.REQUESTED:
        if type(line["ns"]) is not int or type(line.get("within_ns", 0)) is not int:
            raise ValueError("ns or within_ns of a request is not an integer")
        return Event(number, watch, kind, ns=line["ns"], within=line.get("within_ns") or 0)
    if kind == EventKind.PROGRESS:
        return Event(number, watch, kind, revision=_revision(line["revision"]), ns=ns)
    if kind == EventKind.COMPACTED:
        return Event(number, watch, kind, revision=_revision(line["compact_revision"]))
    return Event(number, watch, kind, ns=ns)


def _revision(revision: object) -> int:
    if type(revision) is not int or revision < 1:
        raise ValueError(f"{revision!r} is not a revision")
    return revision
