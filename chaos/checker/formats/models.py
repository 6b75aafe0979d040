"""What the functions of a history mean: calls to our operations, for the models that the machine can play.

Sources: knossos.model (register, cas-register, multi-register, mutex), jepsen.independent (values are `[key value]`),
Porcupine's kv test (get, put, append of a key that begins as ""), Maelstrom's lin-kv (independent cas-registers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chaos.checker.formats.broken import BrokenLineError
from chaos.checker.formats.edn import Keyword, Map, Tagged
from chaos.checker.formats.events import NOTHING, Call, word
from chaos.checker.formats.foreign import Choices, Foreign, Operation
from chaos.checker.formats.names import key_of, only_strings, text, value_of

MODELS = {
    "register": {"read", "write"},
    "cas-register": {"read", "write", "cas"},
    "kv": {"get", "put", "append", "delete"},
    "mutex": {"acquire", "release"},
    "multi-register": {"txn", "read", "write"},
}
"""Model -> functions it knows."""
OTHERS = {
    "add": "a set",
    "transfer": "a bank",
    "enqueue": "a queue",
    "dequeue": "a queue",
    "drain": "a queue",
    "append": "a list to append to",
    "generate": "unique ids",
    "inc": "a counter",
    "dec": "a counter",
    "increment": "a counter",
    "broadcast": "a broadcast",
    "send": "a log",
    "poll": "a log",
    "assign": "a log",
    "subscribe": "a log",
    "insert": "a table",
    "upsert": "a table",
}
"""Functions of the field's other workloads -> what they work on."""
ELSEWHERE = {
    "list-append",
    "rw-register",
    "set",
    "set-full",
    "bank",
    "queue",
    "counter",
    "long-fork",
    "rw-serializable",
}
"""Models that Elle and Jepsen's checkers have, and we do not."""
POINTER = "Elle and Jepsen's own checkers decide such histories (elle-cli --model {model} FILE)"
REGISTER = "register"
MUTEX = "mutex"


def foreign_of(found: Sequence[Call], form: str, choices: Choices) -> Foreign:
    """A history as our operations.

    Raises BrokenLineError for an unknown function or a value that its function cannot have.
    """
    if choices.model in ELSEWHERE:
        return Foreign(form, choices.model, undecided=_elsewhere(choices.model, "the model"))
    model, why = _model(found, choices.model)
    if why:
        return Foreign(form, model, undecided=why)
    build = _Builder(model, choices, keyed=_keyed(found))
    foreign = Foreign(form, model)
    for call in found:
        foreign.operations.append(build.operation(call))
        foreign.lines.append(call.begin.line)
    foreign.meta, foreign.notes = build.meta(foreign.operations), build.notes()
    return foreign


def _elsewhere(model: str, what: str) -> str:
    return f"{what} {model} is none of the models here; {POINTER.format(model=model)}"


def _model(found: Sequence[Call], asked: str) -> tuple[str, str]:
    """The model, and why it cannot be decided."""
    names = {call.begin.f for call in found}
    if asked == "auto":
        for call in found:
            f, value = call.begin.f, call.begin.value
            if f == "txn":
                micro = _list_append(value)
                if micro:
                    return (
                        "list-append",
                        f"transactions with {micro} work on lists; {POINTER.format(model='list-append')}",
                    )
            elif f in OTHERS and not (f == "append" and call.begin.key is not NOTHING):
                return f, f"{f} (line {call.begin.line}) works on {OTHERS[f]}; {POINTER.format(model='NAME')}"
        fitting = [name for name, functions in MODELS.items() if names <= functions]
        model = fitting[0] if fitting else max(MODELS, key=lambda name: len(names & MODELS[name]))
    else:
        model = asked
    for call in found:
        if call.begin.f not in MODELS[model]:
            known = ", ".join(sorted(MODELS[model]))
            raise BrokenLineError(
                call.begin.line, f"f is {call.begin.f}, which the model {model} ({known}) does not have"
            )
    return model, ""


def _list_append(value: Any) -> str:  # noqa: ANN401
    """Micro-operation of a transaction that is neither a read nor a write of a register."""
    if isinstance(value, (tuple, list)):
        for micro in value:
            if isinstance(micro, (tuple, list)) and micro and word(micro[0]) not in ("r", "w", "read", "write"):
                return word(micro[0])
    return ""


def pair(value: Any) -> tuple[Any, Any] | None:  # noqa: ANN401
    """`[key value]` of an independent key: a vector, a tagged one, or a record with key and value."""
    if isinstance(value, Tagged):
        inner = value.value
        if isinstance(inner, Map) and {Keyword("key"), Keyword("value")} <= set(inner):
            return inner[Keyword("key")], inner[Keyword("value")]
        return pair(inner) if isinstance(inner, (tuple, list)) else None
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return value[0], value[1]
    return None


def _keyed(found: Sequence[Call]) -> bool:
    """Whether all values are `[key value]`; a cas then has `[key [old new]]`."""
    for call in found:
        inner = pair(call.begin.value)
        if inner is None or (call.begin.f == "cas" and pair(inner[1]) is None):
            return False
        # a read is invoked with nothing, so `[a b]` there is a key and what it holds
        if call.outcome == "ok" and call.end and call.end.value is not None and pair(call.end.value) is None:
            return False
    return bool(found)


class _Builder:
    """Calls to operations of one model."""

    def __init__(self, model: str, choices: Choices, *, keyed: bool) -> None:
        self.model, self.choices, self.keyed = model, choices, keyed
        self.own_nil = False
        """Whether a key was read as nil."""
        self.failed_cas = 0
        self.make: Callable[[Call], Operation] = {
            "kv": self._kv,
            "mutex": self._mutex,
            "multi-register": self._txn,
        }.get(model, self._register)

    def operation(self, call: Call) -> Operation:
        """One call, with the fields that all operations have."""
        made = self.make(call)
        outcome = made.pop("outcome", call.outcome)
        return made | {
            "process": call.process,
            "invoke_ns": call.invoke,
            "return_ns": None if outcome == "unknown" else call.ret,
            "outcome": outcome,
        }

    def meta(self, operations: Sequence[Operation]) -> dict[str, Any]:
        """First line of the history."""
        first: str | int | None = self.choices.initial
        if not self.choices.initial_given:
            first = "free" if self.model == "mutex" else "" if self.model == "kv" and not self.own_nil else None
        if first is None:
            return {}
        keys = {op["key"] for op in operations if "key" in op}
        keys |= {part["key"] for op in operations for part in op.get("ops", ())}
        return {"initial": dict.fromkeys(sorted(keys), first)}

    def notes(self) -> list[str]:
        """What the verdict rests on."""
        if not self.failed_cas:
            return []
        how = "taken for refused" if self.choices.failed_cas == "refused" else "left out, as none of them happened"
        return [f"{self.failed_cas} failed cas {how}"]

    def _split(self, call: Call) -> tuple[str, Any, Any]:
        """Key, value asked with, value answered (None unless it was acknowledged)."""
        begin = call.begin
        end = call.end.value if call.end and call.end.type == "ok" else None
        if begin.key is not NOTHING:
            return only_strings(begin.key), begin.value, end
        if not self.keyed:
            return REGISTER, begin.value, end
        key, value = pair(begin.value) or (None, None)
        if end is None:
            return key_of(key), value, None
        other, end = pair(end) or (None, None)
        if text(other) != text(key):
            line = call.end.line if call.end else begin.line
            raise BrokenLineError(
                line, f"it answers for key {text(other)}, but line {begin.line} asked for {text(key)}"
            )
        return key_of(key), value, end

    def _same(self, call: Call, asked: Any, answered: Any) -> None:  # noqa: ANN401
        """A write is answered with what was asked for, or with nothing."""
        if call.end is not None and answered is not None and text(asked) != text(answered):
            raise BrokenLineError(
                call.end.line,
                f"{call.begin.f} of {text(asked)} (line {call.begin.line}) is answered with {text(answered)}",
            )

    def _register(self, call: Call) -> Operation:
        key, asked, answered = self._split(call)
        if call.begin.f == "read":
            return self._read(call, key, answered)
        self._same(call, asked, answered)
        if call.begin.f == "write":
            return _write(key, asked)
        both = pair(asked)
        if both is None:
            raise BrokenLineError(call.begin.line, f"cas has {text(asked)} instead of [old new]")
        old, new = map(value_of, both)
        outcome, done = call.outcome, True
        if outcome == "fail" and call.end and call.end.error is None and text(call.end.value) == text(call.begin.value):
            self.failed_cas += 1
            if self.choices.failed_cas == "refused":
                outcome, done = "ok", False
        if new is None:  # our cas cannot remove
            compare = [{"key": key, "value": old}]
            deletes = [{"op": "delete", "key": key, "deleted": 0 if old is None else 1}]
            return {"op": "txn", "compare": compare, "ops": deletes, "succeeded": done, "outcome": outcome}
        return {"op": "cas", "key": key, "expect": old, "value": new, "succeeded": done, "outcome": outcome}

    def _read(self, call: Call, key: str, answered: Any) -> Operation:  # noqa: ANN401
        if call.outcome != "ok":
            return {"op": "get", "key": key, "value": None}
        self.own_nil = self.own_nil or answered is None
        return {"op": "get", "key": key, "value": value_of(answered)}

    def _kv(self, call: Call) -> Operation:
        if call.begin.key is NOTHING and not self.keyed:
            raise BrokenLineError(call.begin.line, "key is missing")
        key, asked, answered = self._split(call)
        if call.begin.f == "get":
            return self._read(call, key, answered)
        if call.begin.f == "delete":
            return _write(key, None)
        self._same(call, asked, answered)
        if call.begin.f == "put":
            return _write(key, asked)
        if not isinstance(asked, str):
            raise BrokenLineError(call.begin.line, f"append has {text(asked)} instead of a string")
        return {"op": "append", "key": key, "value": asked}

    def _mutex(self, call: Call) -> Operation:
        key = key_of(pair(call.begin.value)[0]) if self.keyed else MUTEX  # type: ignore[index]
        holds = call.begin.f == "acquire"
        old, new = ("free", "held") if holds else ("held", "free")
        return {"op": "cas", "key": key, "expect": old, "value": new, "succeeded": True}

    def _txn(self, call: Call) -> Operation:
        begin, end = call.begin, call.end
        ok = end is not None and end.type == "ok"
        if begin.f != "txn":
            raise BrokenLineError(begin.line, f"{begin.f} beside transactions is not understood")
        asked, answered = begin.value, end.value if end and ok else begin.value
        if not isinstance(asked, (tuple, list)) or not isinstance(answered, (tuple, list)):
            raise BrokenLineError(begin.line, f"txn has {text(asked)} instead of a list")
        if len(asked) != len(answered):
            raise BrokenLineError(
                (end or begin).line, "a txn is answered with another number of parts than it asked for"
            )
        ops: list[Operation] = []
        for one, other in zip(asked, answered, strict=True):
            ops.append(self._micro(call, one, other, ok=ok))
        return {"op": "txn", "ops": ops}

    def _micro(self, call: Call, one: Any, other: Any, *, ok: bool) -> Operation:  # noqa: ANN401
        line = call.end.line if call.end and ok else call.begin.line
        for micro in (one, other):
            if (
                not isinstance(micro, (tuple, list))
                or len(micro) != 3
                or word(micro[0]) not in ("r", "w", "read", "write")
            ):
                raise BrokenLineError(line, f"a txn holds {text(micro)}, neither [:r key value] nor [:w key value]")
        if text(tuple(one[:2])) != text(tuple(other[:2])):
            raise BrokenLineError(line, f"a txn asked for {text(one)} and is answered with {text(other)}")
        key = key_of(one[1])
        if word(one[0]).startswith("w"):
            if text(one[2]) != text(other[2]):
                raise BrokenLineError(line, f"a txn asked for {text(one)} and is answered with {text(other)}")
            if one[2] is None:
                raise BrokenLineError(line, f"a txn writes nil to {text(one[1])}, which the model does not have")
            return _write(key, one[2])
        return {"op": "get", "key": key, "value": value_of(other[2]) if ok else None}


def _write(key: str, value: Any) -> Operation:  # noqa: ANN401
    """A write; of nothing, it removes."""
    made = value_of(value)
    return {"op": "delete", "key": key} if made is None else {"op": "put", "key": key, "value": made}
