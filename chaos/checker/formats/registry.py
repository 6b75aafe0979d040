"""Formats by content: which one a file is of, and its reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chaos.checker.errors import HistoryError
from chaos.checker.formats import elle, jepsen, log
from chaos.checker.formats.broken import BrokenLineError
from chaos.checker.formats.foreign import Choices, Foreign

OURS = "etcd-lab"
HEAD = 1 << 16
"""Bytes looked at to recognise a file."""
BINARY = ("test.jepsen", "test.fressian")
"""Names of Jepsen's binary store: a whole test, readable for Clojure only."""
MAGIC = b"JEPSEN"
"""How test.jepsen begins (jepsen.store.format)."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format of one file."""

    name: str
    about: str
    recognise: Callable[[bytes], bool]
    read: Callable[[bytes, Choices], Foreign]


FORMATS = (
    Format(elle.NAME, "JSON array of operations (elle-cli)", elle.recognise, elle.read_json),
    Format(jepsen.KV, "EDN lines of Porcupine's kv tests", jepsen.recognise_kv, jepsen.read_kv),
    Format(jepsen.NAME, "Jepsen's history.edn, also Maelstrom's", jepsen.recognise, jepsen.read_edn),
    Format(log.NAME, "Jepsen's jepsen.log or history.txt", log.recognise, log.read_log),
)
"""In the order in which they are tried."""
ROBUSTNESS = "etcd-robustness"
"""A folder, so it is recognised by `opening`."""
NAMES = (OURS, *(one.name for one in FORMATS), ROBUSTNESS)


def recognise(content: bytes) -> str:
    """Name of the format that a file is of; ours when it is of none of the others."""
    head = content[:HEAD]
    if len(content) > HEAD:
        head = head[: head.rfind(b"\n") + 1] or head
    return next((one.name for one in FORMATS if one.recognise(head)), OURS)


def read(content: bytes, name: str, form: str, choices: Choices) -> Foreign:
    """A file of a format.

    Raises HistoryError with file and line for broken input.
    """
    if content.startswith(MAGIC):
        raise HistoryError("This is Jepsen's binary store", where=name, next="Give the history.edn beside it.")
    reader = next(one.read for one in FORMATS if one.name == form)
    try:
        if not content.strip():
            raise BrokenLineError(1, "the file is empty")
        return reader(content, choices)
    except BrokenLineError as error:
        raise broken(name, form, error) from None


def broken(name: str, form: str, error: BrokenLineError) -> HistoryError:
    """The error a user meets."""
    file = f"{name}/{error.file}" if error.file else name
    return HistoryError(
        f"Broken history ({form}): {error.what}",
        where=f"{file}:{error.line}",
        next="Check that the file is whole, and name its format with --format if it is of another.",
    )
