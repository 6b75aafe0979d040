"""EDN, the notation of Clojure's data: https://github.com/edn-format/edn.

The library (edn-format) takes 0.3 ms for an operation's line, which is 60 s for the 2 * 10^5 lines of 10^5 operations.
So structure, keywords, integers and plain strings are read here, in a tenth of that, and every other atom (escapes,
characters, ratios, decimals, symbols) is the library's; tests compare the two on whole documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import edn_format

from chaos.checker.formats.broken import BrokenLineError, line_of

DEEPEST = 200
"""Collections within collections; histories have 4."""
CHUNK = 1 << 20
CACHE = 1 << 16
"""Atoms remembered."""

TOKEN = re.compile(
    r"""\n|;[^\n]*|"(?:[^"\\]|\\.)*"|\\[^\s][^\s,()\[\]{}";]*|#\{|#_|[()\[\]{}"]|[^\s,()\[\]{}";\\]+|\\""", re.DOTALL
)
INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
PAIRS = {"(": ")", "[": "]", "{": "}", "#{": "}"}
CLOSERS = (")", "]", "}")
MISSING = object()
CUT = "the file was cut off"


class Keyword:
    """`:name`; the same name gives the same object."""

    __slots__ = ("name",)
    _all: dict[str, Keyword] = {}  # noqa: RUF012 - the table that makes them unique

    name: str

    def __new__(cls, name: str) -> Keyword:
        """The keyword of this name, without its colon."""
        found = cls._all.get(name)
        if found is None:
            found = super().__new__(cls)
            found.name = name
            cls._all[name] = found
        return found

    def __repr__(self) -> str:
        return f":{self.name}"


class Map(dict[Any, Any]):
    """A map; hashable, as it may be a key of another."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


@dataclass(frozen=True, slots=True)
class Tagged:
    """`#tag value`."""

    tag: str
    value: Any


@dataclass(frozen=True, slots=True)
class Atom:
    """What has no counterpart in Python: a character, a symbol, a ratio, an exact decimal; in its own notation."""

    text: str


def read(content: bytes) -> Iterator[tuple[int, Any]]:
    """Elements of a document with the line each begins in: those of its one list or vector, or what stands bare.

    Raises BrokenLineError.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise BrokenLineError(line_of(content, error.start), "this is not text in UTF-8") from None
    return _Reader().elements(text.removeprefix("\ufeff"))


def _chunks(text: str) -> Iterator[list[str]]:
    """Tokens of whole lines, some 10^5 at a time."""
    at, size = 0, CHUNK
    while at < len(text):
        end = text.find("\n", at + size)
        end = len(text) if end < 0 else end + 1
        tokens = TOKEN.findall(text, at, end)
        if '"' in tokens and end < len(text):  # a string goes on in the next chunk
            size *= 2
            continue
        yield tokens
        at, size = end, CHUNK


class _Reader:
    """One document; a frame is (what opened it, the line, its elements)."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {"nil": None, "true": True, "false": False}
        self.line = 1
        self.frames: list[tuple[str, int, list[Any]]] = []
        self.prefixes = 0
        """Frames that are a tag, or #_."""
        self.outer = ""
        """What opened the collection of the whole document."""
        self.opened = 0
        self.bare = self.ended = False

    def elements(self, text: str) -> Iterator[tuple[int, Any]]:
        """What `read` gives."""
        known, frames = self.known, self.frames
        for words in _chunks(text):
            for word in words:
                start, value = self.line, known.get(word, MISSING)
                if value is MISSING or self.ended:
                    start, value = self._word(word)
                    if value is MISSING:
                        continue
                if self.prefixes:
                    start, value = self._prefixed(start, value)
                    if value is MISSING:
                        continue
                if frames:
                    frames[-1][2].append(value)
                else:
                    self.bare = not self.outer
                    yield start, value
        if frames:
            raise BrokenLineError(frames[-1][1], f"what opens here with {frames[-1][0]} never ends: {CUT}")
        if self.outer and not self.ended:
            raise BrokenLineError(self.opened, f"what opens here with {self.outer} never ends: {CUT}")

    def _word(self, word: str) -> tuple[int, Any]:
        """What a token completes, with the line it begins in; MISSING when nothing yet."""
        line = self.line
        if word == "\n":
            self.line += 1
        elif word[0] == ";":
            pass
        elif self.ended:
            raise BrokenLineError(line, f"{word[:20]!r} after the end of the history")
        elif word in ("(", "[") and not (self.frames or self.outer or self.bare):
            self.outer, self.opened = word, line
        elif word in PAIRS or word == "#_" or (word[0] == "#" and word[1:2].isalpha()):
            self._open(word)
        elif word not in CLOSERS:
            return line, self._atom(word)
        elif self.frames or PAIRS.get(self.outer) != word:
            return self._close(word)
        else:
            self.ended = True
        return line, MISSING

    def _prefixed(self, start: int, value: Any) -> tuple[int, Any]:  # noqa: ANN401
        """A value with the tags before it, MISSING when it is discarded."""
        while self.frames and self.frames[-1][0][0] == "#" and self.frames[-1][0] != "#{":
            tag, start, _ = self.frames.pop()
            self.prefixes -= 1
            if tag == "#_":
                return start, MISSING
            value = Tagged(tag[1:], value)
        return start, value

    def _open(self, word: str) -> None:
        if len(self.frames) >= DEEPEST:
            raise BrokenLineError(self.line, f"more than {DEEPEST} collections within each other")
        self.prefixes += word not in PAIRS
        self.frames.append((word, self.line, []))

    def _close(self, word: str) -> tuple[int, Any]:
        if not self.frames:
            raise BrokenLineError(self.line, f"{word} closes nothing")
        opener, start, items = self.frames.pop()
        if PAIRS.get(opener) != word:
            what = f"{word} where {PAIRS[opener]} was due" if opener in PAIRS else f"nothing after {opener}"
            raise BrokenLineError(self.line, f"{what}, which line {start} opened with {opener}")
        if opener in "([":
            return start, tuple(items)
        if opener == "#{":
            found = frozenset(items)
            if len(found) != len(items):
                raise BrokenLineError(start, "a set with an element twice")
            return start, found
        if len(items) % 2:
            raise BrokenLineError(start, "a map with a key that has no value")
        made = Map(zip(items[::2], items[1::2], strict=True))
        if 2 * len(made) != len(items):
            raise BrokenLineError(start, "a map with a key twice")
        return start, made

    def _atom(self, word: str) -> Any:  # noqa: ANN401 - EDN has many types
        value: Any
        if INTEGER.fullmatch(word):
            return int(word)
        if word[0] == '"' and "\\" not in word and len(word) > 1:
            self.line += word.count("\n")
            return word[1:-1]
        value = Keyword(word[1:]) if word[0] == ":" and len(word) > 1 and word[1] != ":" else self._foreign(word)
        if len(self.known) < CACHE and "\n" not in word:
            self.known[word] = value
        return value

    def _foreign(self, word: str) -> Any:  # noqa: ANN401
        """An atom as the library reads it."""
        if word == '"':
            raise BrokenLineError(self.line, "a string that never ends: " + CUT)
        if word in ("##NaN", "##Inf", "##-Inf"):
            return Atom(word)
        try:
            values = edn_format.loads_all(word)
        except (edn_format.EDNDecodeError, ValueError, ArithmeticError, TypeError, NotImplementedError, IndexError):
            raise BrokenLineError(self.line, f"{word[:40]!r} is not EDN") from None
        if len(values) != 1:  # the library takes 007 for three numbers
            raise BrokenLineError(self.line, f"{word[:40]!r} is not EDN")
        value = values[0]
        self.line += word.count("\n")
        if word[0] == '"' or type(value) is int or type(value) is float:
            return value
        if isinstance(value, (Decimal, Fraction)):
            return Atom(f"{value.normalize()}M" if isinstance(value, Decimal) else str(value))
        return Atom(word)
