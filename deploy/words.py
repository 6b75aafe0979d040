"""What etcd says when it will not start, found in its log.

Where it stands differs: a refused configuration file is of level *warn* (server/etcdmain/etcd.go, "failed to verify
flags"), or a plain line in 3.4; a setting that shows later ends in a *fatal* line; a wrong log level is a Go panic
(client/pkg/logutil). So the level alone decides nothing: a line counts when it carries an error.
"""

from __future__ import annotations

import json
import re
from typing import Final

LOG_FILTER: Final = (
    "sed -E"
    ' -e \'/"level":"(debug|info)"/d\''
    ' -e \'/"level":"warn"/{/"error":/!d}\''
    # peers that are not up yet, of which a member that waits for them speaks all the time
    ' -e \'/"caller":"rafthttp/d\''
    " -e '/^[0-9:. -]+ [DI] \\| (etcdmain|pkg)/d'"
    # the stack below a panic: the first line says why
    " -e '/^[[:space:]]|^goroutine |^$/d' -e '/^[a-z][^ ]*\\(.*\\)$/d'"
    ' -e \'s/,"stacktrace":".*$/}/\''
)
"""Shell filter that leaves, of etcd's log, the lines with a reason in them (on nodes, which have no Python)."""

_PLAIN: Final = re.compile(r"^[0-9-]{10} [0-9:.]+ [A-Z] \| (?:etcdmain: )?(?:error verifying flags, )?(.*)$")
"""A line as 3.4 writes it before it has set its logger up (capnslog)."""
_DROPPED: Final = ("error unmarshaling JSON: while decoding JSON: ", "error unmarshaling JSON: ")
_LOUD: Final = ("error", "fatal", "panic", "dpanic")


def reasons(log: str) -> str:
    """Why etcd ended, in its own words; several that lead to one another are joined. "" when it gave no reason.

    >>> reasons('{"level":"warn","msg":"failed to verify flags","error":"unknown auto-compaction-mode \\\\"x\\\\""}')
    'unknown auto-compaction-mode "x"'
    """
    found: list[str] = []
    quiet: list[str] = []
    for line in log.splitlines():
        words, loud = _of(line)
        for wrapping in _DROPPED:
            words = words.removeprefix(wrapping)
        if words and words not in found:
            (found if loud else quiet).append(words)
    # what is only a warning counts when nothing else was said: some of them are about nothing at all
    chosen = found or quiet[-1:]
    return "; ".join(dict.fromkeys(chosen[-3:]))


def _of(line: str) -> tuple[str, bool]:
    """The reason that a line gives ("" for none), and whether etcd calls it an error."""
    if line.startswith(("panic: ", "fatal error: ")):
        return line.partition(": ")[2].strip(), True
    if line.startswith("unexpected error"):  # os.Stderr, before there is a logger (embed/config.go)
        return line, True
    if found := _PLAIN.match(line):
        text = found[1].removesuffix(" See 'etcd --help'.").rstrip(". ")
        return (text if "error" in line else ""), True
    return _structured(line)


def _structured(line: str) -> tuple[str, bool]:
    """The same of a line in JSON, as etcd writes them once its logger is set up."""
    try:
        said = json.loads(line)
    except ValueError:
        return "", False
    # a first start finds no storage version, and tells of that as an error
    if not isinstance(said, dict) or str(said.get("caller", "")).startswith("schema/"):
        return "", False
    loud = said.get("level") in _LOUD
    return str(said.get("error") or (said.get("msg") if loud else "") or ""), loud
