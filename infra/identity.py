"""The lab's identity: a random id that tells its parts from those of any other lab."""

from __future__ import annotations

import secrets

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource

from infra.dynamic import Props, Provider


class _LabIdProvider(Provider):
    def create(self, props: Props) -> CreateResult:  # noqa: ARG002 - has no inputs
        lab_id = secrets.token_hex(4)
        return CreateResult(lab_id, {"lab_id": lab_id})

    def diff(self, _id: str, _olds: Props, _news: Props) -> DiffResult:
        return DiffResult(changes=False)


class LabId(Resource, module="lab", name="Identity"):
    """8 random hexadecimal digits, drawn once per lab."""

    lab_id: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(_LabIdProvider(), name, {"lab_id": None}, opts)
