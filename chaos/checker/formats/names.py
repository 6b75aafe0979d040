"""Keys and values of other tools as ours: no two that differ there become one here.

Integers and strings stay what they are. Anything else becomes `edn:` and its text, and so does a string that begins
with this. A key, which is a string with us, is an integer's digits; a string of digits then is `edn:"1"`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from chaos.checker.formats.edn import Atom, Keyword, Map, Tagged

OURS = "edn:"
DIGITS = re.compile(r"-?[0-9]+")
WIDEST = 2**63
"""JSON integers beyond 64 bits are not written by every library, so they become text."""


def text(value: Any) -> str:  # noqa: ANN401, PLR0911 - one line a type
    """EDN of a value, the same for equal values."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Keyword):
        return f":{value.name}"
    if isinstance(value, Atom):
        return value.text
    if isinstance(value, Tagged):
        return f"#{value.tag} {text(value.value)}"
    if isinstance(value, (tuple, list)):
        return f"[{' '.join(map(text, value))}]"
    if isinstance(value, (Map, dict)):
        return "{" + ", ".join(sorted(f"{text(key)} {text(item)}" for key, item in value.items())) + "}"
    if isinstance(value, frozenset):
        return "#{" + " ".join(sorted(map(text, value))) + "}"
    return repr(value)


def value_of(value: Any) -> str | int | None:  # noqa: ANN401
    """A value; nil is absence, as with us."""
    if value is None or (type(value) is int and -WIDEST <= value < WIDEST):
        return value
    if isinstance(value, str) and not value.startswith(OURS):
        return value
    return OURS + text(value)


def key_of(key: Any) -> str:  # noqa: ANN401
    """A key."""
    if type(key) is int:
        return str(key)
    if isinstance(key, str) and not key.startswith(OURS) and not DIGITS.fullmatch(key):
        return key
    return OURS + text(key)


def only_strings(key: Any) -> str:  # noqa: ANN401
    """A key where all are strings: as it is."""
    return key if isinstance(key, str) else key_of(key)
