"""Jepsen's history.edn, and EDN lines of Porcupine's kv tests: maps of EDN, in one list or vector or bare.

Sources: jepsen.store (writes one operation a line), jepsen.history.Op (tagged since 0.3), porcupine's
test_data/kv (`{:process 0, :type :invoke, :f :append, :key "0", :value "x"}`). Maelstrom writes Jepsen's store.
"""

from __future__ import annotations

import re

from chaos.checker.formats.edn import read
from chaos.checker.formats.events import calls, event_of
from chaos.checker.formats.foreign import Choices, Foreign
from chaos.checker.formats.models import foreign_of

NAME = "jepsen"
KV = "porcupine"
BEGIN = re.compile(rb"(?:\s|,|;[^\n]*\n|\xef\xbb\xbf)*(?:[(\[]|#[A-Za-z_{]|\{\s*:)")
TAGGED_KV = re.compile(rb":f\s+:(?:get|put|append)\b")


def recognise(head: bytes) -> bool:
    """Whether a file that begins so is EDN."""
    return bool(BEGIN.match(head)) and b":" in head


def recognise_kv(head: bytes) -> bool:
    """Whether it is of a kv test: operations that name a key."""
    return recognise(head) and bool(TAGGED_KV.search(head)) and b":key" in head


def read_edn(content: bytes, choices: Choices, form: str = NAME) -> Foreign:
    """A history of EDN.

    Raises BrokenLineError.
    """
    events = [event for line, op in read(content) if (event := event_of(op, line)) is not None]
    return foreign_of(calls(events), form, choices)


def read_kv(content: bytes, choices: Choices) -> Foreign:
    """EDN lines of a kv test.

    Raises BrokenLineError.
    """
    return read_edn(content, choices, KV)
