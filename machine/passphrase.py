"""Whether the passphrase in force opens a stack, asked when the engine failed, which does not say where it has it from.

The engine proves a passphrase by a known text: its key is PBKDF2 of passphrase and salt, its cipher AES-256-GCM (pulumi
sdk/v3/go/common/resource/config/crypt.go, pkg/v3/secrets/passphrase/manager.go).
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import Final

from machine.environment import has_own_passphrase, passphrase_file
from machine.errors import RequirementError

ROUNDS: Final = 1_000_000
"""Of PBKDF2 (crypt.go): half a second, so only a failure is worth it."""

VARIABLES: Final = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")
"""The first that is set is the engine's choice."""

SIGN: Final = "incorrect passphrase"
"""In what the engine says of a wrong one."""

_SALT: Final = re.compile(r"^encryptionsalt:\s*[\"']?(v1:[^\"'\s]+)", re.MULTILINE)


def salt_of(config: Path) -> str:
    """What a stack's configuration file has the passphrase proved by; "" when it has nothing."""
    try:
        found = _SALT.search(config.read_text())
    except OSError:
        return ""
    return found.group(1) if found else ""


def opens(passphrase: str, salt: str) -> bool:
    """Whether `passphrase` is the one of `salt`; true also where the salt is not understood."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - 0.1 s, and seldom needed
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    try:
        _, grain, _, nonce, known = salt.split(":")
        key = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), base64.b64decode(grain), ROUNDS, 32)
        return AESGCM(key).decrypt(base64.b64decode(nonce), base64.b64decode(known), None) == b"pulumi"
    except InvalidTag:
        return False
    except ValueError:
        return True


def check(stack: str, checkout: Path) -> None:
    """Raise RequirementError when the passphrase in force is not that of the stack, or its file cannot be read."""
    name = _variable()
    given = _value(name) if name else _read(passphrase_file(checkout))
    if (salt := salt_of(checkout / f"Pulumi.{stack}.yaml")) and not opens(given, salt):
        raise wrong(stack, checkout)


def wrong(stack: str, checkout: Path) -> RequirementError:
    """What to say of a passphrase that the engine refused."""
    name, config = _variable(), f"Pulumi.{stack}.yaml"
    own = passphrase_file(checkout)
    if not name:
        return RequirementError(
            f"The lab's own passphrase does not open the stack {stack!r}, which was made with another one",
            where=str(own),
            next="Export PULUMI_CONFIG_PASSPHRASE with the one it was made with; where no lab is built, removing the"
            f" line encryptionsalt from {config} begins afresh.",
        )
    return RequirementError(
        f"The passphrase that {name} gives is not the one of the stack {stack!r}",
        where=f"environment, {config}",
        next=f"Unset {name}, as it may be another project's: then the lab uses its own ({own.name} in .lab);"
        " or set it to the one that the stack was made with.",
    )


def _variable() -> str:
    """The variable by which the user says what the passphrase is; "" when none does."""
    return next((name for name in VARIABLES if name in os.environ), "") if has_own_passphrase() else ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""  # opens nothing


def _value(name: str) -> str:
    if name == VARIABLES[0]:
        return os.environ[name]
    try:
        return Path(os.environ[name]).read_text().strip()
    except OSError as error:
        raise RequirementError(
            f"The file that {name} names cannot be read",
            where=f"{os.environ[name]}: {error.strerror}",
            next=f"Unset {name}, or name the file that holds the passphrase.",
        ) from error
