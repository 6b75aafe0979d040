"""Short errors from Pulumi's dynamic-provider process.

That process answers a failed call with `traceback.format_exc()` (pulumi SDK, dynamic/__main__.py),
so a user would see a page of frames for a wrong key. There is no hook for it; `shorten()` puts a
stand-in for the `traceback` module in that one program, which shows a LabError as its paragraph
and everything else as before.
"""

from __future__ import annotations

import sys
import traceback
from types import SimpleNamespace

from machine.errors import LabError


def format_exc() -> str:
    """The exception being handled: a LabError as its paragraph, anything else with its traceback."""
    error = sys.exception()
    return str(error) if isinstance(error, LabError) else traceback.format_exc()


def shorten() -> None:
    """Make the dynamic-provider process answer with short errors; does nothing in any other program."""
    main = sys.modules.get("__main__")
    if main is not None and hasattr(main, "_abort_with_traceback"):
        main.traceback = SimpleNamespace(format_exc=format_exc)  # type: ignore[attr-defined]
