"""What our dynamic resources have in common.

Providers live in importable modules and hold no data, so that their pickle is a name and not code
(pulumi SDK, dynamic/dynamic.py: serialize_provider); it is therefore no secret, and stays the same
between runs. Inputs are plain data. A diff compares inputs with those recorded, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pulumi.dynamic import ConfigureRequest, DiffResult, ResourceProvider
from pulumi.output import Unknown

from machine import plugin_errors

Props = Mapping[str, object]
"""Inputs or outputs as the engine hands them over."""


class Provider(ResourceProvider):
    """A dynamic provider whose outputs repeat its inputs; says itself which inputs it looks at."""

    serialize_as_secret_always: bool = False

    inputs: ClassVar[Sequence[str]] = ()
    """Inputs whose change is a change of the resource."""
    replacing: ClassVar[Sequence[str]] = ()
    """Those of them that make it another resource."""

    def configure(self, req: ConfigureRequest) -> None:  # noqa: ARG002 - the SDK's signature
        """Called once per provider in the plugin's process."""
        plugin_errors.shorten()

    def diff(self, _id: str, _olds: Props, _news: Props) -> DiffResult:
        """Changed are the inputs that differ from what was recorded, or are not known yet."""
        changed = [key for key in self.inputs if differs(_olds.get(key), _news.get(key))]
        replaces = [key for key in changed if key in self.replacing]
        return DiffResult(changes=bool(changed), replaces=replaces, delete_before_replace=True)


def differs(old: object, new: object) -> bool:
    """Whether `new` is, or may turn out to be, another value than `old`.

    The engine's numbers are floats, so 3 and 3.0 are the same.
    """
    if isinstance(new, Mapping):
        return (
            not isinstance(old, Mapping)
            or old.keys() != new.keys()
            or any(differs(old[key], item) for key, item in new.items())
        )
    if isinstance(new, list | tuple):
        return not isinstance(old, list | tuple) or len(old) != len(new) or any(map(differs, old, new))
    return isinstance(new, Unknown) or old != new


def text(props: Props, key: str) -> str:
    """A string among the properties; raises KeyError, TypeError when it is not there or none."""
    value = props[key]
    if not isinstance(value, str):
        msg = f"{key} is {type(value).__name__}, not text"
        raise TypeError(msg)
    return value


def mapping(props: Props, key: str) -> dict[str, str]:
    """A mapping of strings among the properties; {} when it is not there."""
    value = props.get(key) or {}
    if not isinstance(value, Mapping):
        msg = f"{key} is {type(value).__name__}, not a mapping"
        raise TypeError(msg)
    return {str(name): str(item) for name, item in value.items() if not str(name).startswith("__")}
