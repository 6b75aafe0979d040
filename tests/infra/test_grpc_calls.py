"""Calls over gRPC as the gateway's: every call that the lab makes has a method, and names of fields are etcd's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra import grpc_calls

CHECKOUT = Path(__file__).parents[2]
PATH = re.compile(r'"((?:maintenance|cluster|kv)/[a-z/-]+)"')


def made() -> set[str]:
    """Paths of the calls in the product's code."""
    files = [*CHECKOUT.glob("infra/*.py"), *CHECKOUT.glob("chaos/**/*.py"), *CHECKOUT.glob("deploy/*.py")]
    return {path for file in files if file.name != "grpc_calls.py" for path in PATH.findall(file.read_text())}


def test_every_call_that_the_lab_makes_can_be_made_with_authentication_on() -> None:
    assert {"maintenance/status", "cluster/member/list", "kv/put"} <= made()
    lacking = {path for path in made() if not grpc_calls.known(path)}
    assert lacking == {"maintenance/hash"}, "which is hashkv by the name that 3.4 and 3.5 have for it in the gateway"


@pytest.mark.parametrize(
    ("name", "sent", "fields"),
    [
        ("MemberAddRequest", b"\x0a\x03u:1\x10\x01", {"peerURLs": ["u:1"], "isLearner": True}),
        ("AlarmRequest", b"\x08\x02\x10\x07\x18\x02", {"action": "DEACTIVATE", "memberID": "7", "alarm": "CORRUPT"}),
        ("PutRequest", b"\x0a\x01a\x12\x01b", {"key": "YQ==", "value": "Yg=="}),
    ],
)
def test_a_body_becomes_the_message_that_etcd_knows(name: str, sent: bytes, fields: dict[str, object]) -> None:
    """The bytes are those of the field numbers in E api/etcdserverpb/rpc.proto."""
    from google.protobuf import json_format  # type: ignore[import-untyped]  # noqa: PLC0415

    message = json_format.ParseDict(fields, grpc_calls._types()[name]())
    assert message.SerializeToString() == sent
    assert json_format.MessageToDict(message, preserving_proto_field_name=True) == fields
