"""What our dynamic resources have in common.

Providers live in importable modules and hold no data, so that their pickle is a name and not code
(pulumi SDK, dynamic/dynamic.py: serialize_provider); it is therefore no secret, and stays the same
between runs. Inputs are plain data. A diff compares inputs with those recorded, and at most looks
at this host; no guest is asked.

In a preview, what another resource will only know when it is made reaches `check` and `diff` as an Unknown, at any
depth: a mapping, one of its values, an item of a list. Secrets reach us as plain values, since the SDK's server says
that it does not take them (dynamic/__main__.py: acceptSecrets); `plain` does not depend on that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pulumi.dynamic import ConfigureRequest, DiffResult, ResourceProvider
from pulumi.output import Unknown
from pulumi.runtime import rpc

from machine import plugin_errors
from machine.errors import ToolError

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
        olds, news = mappings(_olds), mappings(_news)
        changed = [key for key in self.inputs if differs(olds.get(key), news.get(key))]
        replaces = [key for key in changed if key in self.replacing]
        return DiffResult(changes=bool(changed), replaces=replaces, delete_before_replace=True)


def plain(value: object) -> object:
    """The value without the marks of secrets, at any depth; Unknowns stay."""
    bare = rpc.unwrap_rpc_secret(value)
    if isinstance(bare, Mapping):
        return {key: plain(item) for key, item in bare.items()}
    if isinstance(bare, list | tuple):
        return [plain(item) for item in bare]
    return bare


def mappings(props: Props) -> dict[str, object]:
    """Properties without the marks of secrets."""
    return {key: plain(value) for key, value in props.items()}


def is_known(value: object) -> bool:
    """Whether nothing in the value is yet to be known; a None is what some calls put in place of an Unknown."""
    if isinstance(value, Mapping):
        return all(map(is_known, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_known, value))
    return value is not None and not isinstance(value, Unknown)


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
    """A string among the properties; raises ToolError when it is not there, not known yet, or none."""
    value = plain(props.get(key))
    if not isinstance(value, str):
        raise _unfit(key, value, "a text")
    return value


def mapping(props: Props, key: str) -> dict[str, str]:
    """A mapping of strings among the properties, {} when it is not there; raises ToolError for anything else."""
    value = plain(props.get(key)) or {}
    if not isinstance(value, Mapping) or not is_known(value):
        raise _unfit(key, value, "a mapping of texts")
    return {str(name): str(item) for name, item in value.items() if not str(name).startswith("__")}


def _unfit(key: str, value: object, wanted: str) -> ToolError:
    """What cannot be worked with; the value itself may be a secret."""
    seen = "missing" if value is None else "not known" if isinstance(value, Unknown | Mapping) else type(value).__name__
    return ToolError(
        f"Property {key!r} of a resource is {seen}, and has to be {wanted}",
        next="pulumi refresh reads the state again; ./lab destroy removes a lab whose state is damaged.",
    )
