"""Properties as the engine hands them to a dynamic provider: as the SDK decodes them, with Unknowns and secrets.

Its server decodes with `keep_unknowns` for `check` and `diff`, and without for all else (pulumi SDK,
dynamic/__main__.py): an Unknown becomes nothing at all then, and so does one inside a secret in any case.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from google.protobuf import json_format, struct_pb2  # type: ignore[import-untyped] # it ships no types
from pulumi.dynamic import DiffResult
from pulumi.runtime import rpc

Props = dict[str, Any]

UNKNOWN: Final = rpc.UNKNOWN


def secret(value: object) -> dict[str, object]:
    """The value as the engine marks a secret."""
    return {rpc._special_sig_key: rpc._special_secret_sig, "value": value}


def decoded(props: Mapping[str, object], *, keep_unknowns: bool) -> Props:
    """The properties as the provider gets them."""
    found = rpc.deserialize_properties(json_format.ParseDict(dict(props), struct_pb2.Struct()), keep_unknowns)
    assert isinstance(found, dict)
    return found


def places(value: object) -> Iterator[tuple[str | int, ...]]:
    """Paths to the value itself and to everything in it."""
    yield ()
    items: list[tuple[str | int, object]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, item in items:
        for rest in places(item):
            yield (key, *rest)


def replaced(value: object, place: tuple[str | int, ...], make: Callable[[object], object]) -> Any:
    """A copy of the value in which what is at `place` is what `make` makes of it."""
    if not place:
        return make(value)
    made: Any = copy.deepcopy(value)
    made[place[0]] = replaced(made[place[0]], place[1:], make)
    return made


Diff = Callable[[str, Props, Props], DiffResult]


def check_diff(diff: Diff, olds: Props, news: Props, inputs: tuple[str, ...]) -> None:
    """Hold a diff against every form of an unknown or a secret at every place of its inputs.

    `news` is no change to `olds`. What is not known yet is a change; a secret is the value that it hides.
    """
    before = decoded(olds, keep_unknowns=True)
    assert diff("id", before, decoded(news, keep_unknowns=True)).changes is False
    secrets = decoded(dict(hidden(olds)), keep_unknowns=True)
    assert diff("id", secrets, decoded(news, keep_unknowns=True)).changes is False
    for key in inputs:
        for place in places(news[key]):
            for what, make, changes in (
                ("unknown", lambda _: UNKNOWN, True),
                ("secret unknown", lambda _: secret(UNKNOWN), True),
                ("secret", secret, False),
            ):
                made = decoded(replaced(news, (key, *place), make), keep_unknowns=True)
                assert diff("id", before, made).changes is changes, f"{what} at {key} {place}"


def hidden(props: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The properties, each a secret, but what the SDK itself reads."""
    for key, value in props.items():
        yield key, value if key.startswith("__") else secret(value)
