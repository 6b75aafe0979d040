"""A passphrase of another project: the variable is named, and the way out."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from machine import engine as machine_engine
from machine import environment, passphrase
from machine.errors import RequirementError, ToolError
from machine.passphrase import check, opens
from machine.paths import StackPaths


def salt(text: str) -> str:
    """As the engine writes it."""
    grain, nonce = os.urandom(8), os.urandom(12)
    key = hashlib.pbkdf2_hmac("sha256", text.encode(), grain, passphrase.ROUNDS, 32)
    known = AESGCM(key).encrypt(nonce, b"pulumi", None)
    first, second, third = (base64.b64encode(part).decode() for part in (grain, nonce, known))
    return f"v1:{first}:v1:{second}:{third}"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*passphrase.VARIABLES, environment.MARK):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "Pulumi.lab.yaml").write_text(f"encryptionsalt: {salt('right')}\nconfig: {{}}\n")
    return tmp_path


def test_the_passphrase_of_a_stack_opens_it_and_another_does_not() -> None:
    made = salt("right")
    assert opens("right", made)
    assert not opens("wrong", made)
    assert opens("right", "v2:something:new"), "the engine is to judge"


def test_a_wrong_one_is_reported_with_the_variable_and_the_way_out(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "of another project")
    with pytest.raises(RequirementError) as error:
        check("lab", checkout)
    assert "PULUMI_CONFIG_PASSPHRASE gives is not the one of the stack 'lab'" in str(error.value)
    assert "Unset PULUMI_CONFIG_PASSPHRASE" in str(error.value)
    assert "of another project" not in str(error.value), "a secret is not printed"


def test_a_file_is_read_as_the_engine_reads_it(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE_FILE", str(checkout / "mine"))
    with pytest.raises(RequirementError, match="PULUMI_CONFIG_PASSPHRASE_FILE names cannot be read"):
        check("lab", checkout)
    (checkout / "mine").write_text("right\n")
    check("lab", checkout)
    (checkout / "mine").write_text("wrong\n")
    with pytest.raises(RequirementError, match="Unset PULUMI_CONFIG_PASSPHRASE_FILE"):
        check("lab", checkout)


def test_a_stack_that_has_no_secrets_yet_is_opened_by_any(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "mine")
    check("another", checkout)


def test_the_labs_own_that_does_not_fit_is_told_from_the_users(checkout: Path) -> None:
    (checkout / ".lab").mkdir()
    (checkout / ".lab" / "passphrase").write_text("right\n")
    check("lab", checkout)
    (checkout / ".lab" / "passphrase").write_text("made by ./lab setup\n")
    with pytest.raises(RequirementError) as error:
        check("lab", checkout)
    said = str(error.value)
    assert "made with another one" in said
    assert "encryptionsalt from Pulumi.lab.yaml" in said


def test_what_the_engine_says_of_it_is_translated(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "pulumi_env", lambda _stack: {})

    def refuse(*_: object, **__: object) -> None:
        raise ToolError(
            "pulumi ended with status 255", tail="error: constructing secrets manager: incorrect passphrase"
        )

    monkeypatch.setattr(machine_engine, "run", refuse)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "x")
    with pytest.raises(RequirementError, match="Unset PULUMI_CONFIG_PASSPHRASE"):
        machine_engine.Engine(StackPaths(checkout, "lab")).remove_stack()
