"""Which deployment was the last to begin, in a file beside the manifest, so that none is forgotten that did not finish.

An update that fails, or is killed, leaves the resource's last good outputs as its state: once the setting is put
back, state and configuration agree, whatever is on the nodes. So each deployment gets an id, which is written here,
to disk, before a node is touched, and goes into the outputs when it has succeeded. The state speaks for the nodes as
long as both name the same one; otherwise the nodes are compared and brought to what is wanted (docs/decisions/0014).
"""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from machine.errors import LabError, ToolError
from machine.paths import StackPaths
from machine.process import write_private

REASON_CHARACTERS: Final = 500
"""How much is kept of why a deployment failed."""


class Entry(BaseModel):
    """The deployment that began last."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    deployment: str
    """Its id."""
    applying: str
    """What it was to bring, in words: `etcd 3.6.16`."""
    began: datetime
    failed: str = ""
    """Why it failed, where it lived to say so."""


class Journal:
    """The record of one lab."""

    def __init__(self, paths: StackPaths) -> None:
        self.path: Path = paths.deployment

    def begin(self, applying: str) -> str:
        """Write, to disk, that a deployment begins; its id. Raises ToolError, and then no node may be touched."""
        entry = Entry(deployment=secrets.token_hex(8), applying=applying, began=datetime.now(UTC))
        try:
            self._write(entry)
        except OSError as error:
            raise ToolError(
                f"The start of the deployment cannot be recorded: {error.strerror}",
                where=str(self.path),
                next="No node was touched. Free the disk or the directory, then ./lab up.",
            ) from error
        return entry.deployment

    def failed(self, deployment: str, error: LabError) -> None:
        """Add why the deployment failed, for whoever reads that it did not finish; as well as can be done."""
        entry = self._read()
        if isinstance(entry, Entry) and entry.deployment == deployment:
            reason = " ".join(error.what.split())[:REASON_CHARACTERS]
            try:
                self._write(entry.model_copy(update={"failed": reason}))
            except OSError:
                return

    def unfinished(self, recorded: object) -> str:
        """Why the state does not speak for the nodes, "" when it does; `recorded` is the deployment that it names.

        None: it names none. A lab that was built before there were records has neither, and its state is believed.
        """
        entry = self._read()
        if entry is None:
            return "" if recorded is None else "there is no record of the last deployment any more"
        if isinstance(entry, str):
            return f"the record of the last deployment cannot be read ({entry})"
        if entry.deployment == recorded:
            return ""
        why = f": {entry.failed}" if entry.failed else ""
        return f"the deployment of {entry.applying} that began at {entry.began:%F %T} UTC did not finish{why}"

    def remove(self) -> None:
        """Forget, as the lab goes; nothing happens when there is no record."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> Entry | str | None:
        """What is on record; None without a record, the reason where it cannot be read."""
        try:
            return Entry.model_validate_json(self.path.read_text())
        except FileNotFoundError:
            return None
        except OSError as error:
            return error.strerror or type(error).__name__
        except (ValidationError, UnicodeDecodeError) as error:
            return type(error).__name__

    def _write(self, entry: Entry) -> None:
        write_private(self.path, entry.model_dump_json(indent=2) + "\n")
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)  # the name too, should this host lose its power
        finally:
            os.close(directory)
