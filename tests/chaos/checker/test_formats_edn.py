"""EDN: what is read here is what the library reads."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import edn_format
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.checker.formats import edn
from chaos.checker.formats.edn import Atom, Keyword, Map, Tagged

NAMES = st.from_regex(r"[a-z][a-z0-9*+!_?<>=.-]{0,8}(/[a-z][a-z0-9-]{0,4})?", fullmatch=True)
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False, places=3),
    NAMES.map(edn_format.Keyword),
    NAMES.filter(lambda name: name not in ("nil", "true", "false")).map(edn_format.Symbol),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(NAMES.map(edn_format.Keyword), inner, max_size=4),
        st.frozensets(NAMES.map(edn_format.Keyword), max_size=3),
    ),
    max_leaves=12,
)


def same(ours: Any, theirs: Any) -> bool:  # noqa: PLR0911 - one a type
    """Whether the two readers gave the same value, types and all."""
    if isinstance(ours, Keyword):
        return isinstance(theirs, edn_format.Keyword) and ours.name == theirs.name
    if isinstance(ours, Atom):
        if isinstance(theirs, Decimal):
            return Decimal(ours.text.removesuffix("M")) == theirs
        if isinstance(theirs, Fraction):
            return Fraction(ours.text) == theirs
        return {"\\newline": "\n"}.get(ours.text, ours.text.lstrip("\\")) == str(theirs)
    if isinstance(ours, Tagged):
        return ours.tag == "inst" and isinstance(theirs, datetime) and theirs.isoformat()[:10] == ours.value[:10]
    if isinstance(ours, tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, Map):
        pairs = {key.name: value for key, value in ours.items()}
        return {key.name for key in theirs} == set(pairs) and all(same(pairs[k.name], v) for k, v in theirs.items())
    if isinstance(ours, frozenset):
        return {one.name for one in ours} == {one.name for one in theirs}
    return type(ours) is type(theirs) and bool(ours == theirs)


@settings(max_examples=300, deadline=None)
@given(st.lists(VALUES, max_size=4))
def test_documents_are_read_as_the_library_reads_them(values: list[Any]) -> None:
    text = "\n".join(map(edn_format.dumps, values))
    theirs = edn_format.loads_all(text)
    ours = [value for _, value in edn.read(f"[{text}]".encode())]
    assert len(ours) == len(theirs)
    assert all(map(same, ours, theirs)), (text, ours, theirs)


def test_the_odd_corners_are_read_as_the_library_reads_them() -> None:
    text = '\\a \\newline 3/4 1.50M 12N "a\\n\\"b\\u00e9" -0 +7 1e3 #_ (1 #_ 2) ; end\n'
    text += '#{:a :b} (1 [2 {:k nil}]) a/b #inst "2030-01-02T00:00:00Z"'
    theirs = edn_format.loads_all(text)
    ours = [value for _, value in edn.read(f"({text})".encode())]
    assert len(ours) == len(theirs)
    assert all(map(same, ours, theirs)), (ours, theirs)


def test_lines_are_counted_through_strings_comments_and_chunks() -> None:
    text = '{:a "x\ny"} ; {\n\n{:b 1}\n'
    assert [line for line, _ in edn.read(text.encode())] == [1, 4]
    many = '{:s "' + "line\n" * 300_000 + '"}\n{:c 2}\n'
    assert [line for line, _ in edn.read(many.encode())] == [1, 300_002]


def test_the_same_number_written_twice_ways_is_one_value() -> None:
    assert [value for _, value in edn.read(b"[1 1N +1]")] == [1, 1, 1]
    assert [value for _, value in edn.read(b"[1.50M 1.5M]")] == [Atom("1.5M"), Atom("1.5M")]
