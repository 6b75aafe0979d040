"""`python -m cli`: what the launcher `./lab` starts."""

from __future__ import annotations

import os
import sys

from machine.surroundings import adopt

adopt()

# Looking for pydantic's plugins reads the metadata of every installed package; there are none.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from cli.app import main  # noqa: E402 - after the two above

if __name__ == "__main__":
    sys.exit(main())
