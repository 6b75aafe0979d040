"""A module that machine.child starts in tests: answers every line, except where it is told otherwise."""

from __future__ import annotations

import json
import os
import sys

for text in sys.stdin:
    line = json.loads(text)
    if "die" in line:
        sys.stderr.write(line["die"])
        sys.stderr.flush()
        sys.stdout.write('{"half": ')
        sys.stdout.flush()
        os._exit(3)
    sys.stdout.write(json.dumps({"heard": line, "argv": sys.argv[1:], "word": os.environ.get("ECHO_WORD")}) + "\n")
    sys.stdout.flush()
