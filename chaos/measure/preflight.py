"""Before a run: which sources of evidence this lab does not have, by its settings and by what its nodes answer."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from chaos.evidence.sources import ALL, Missing, in_settings
from chaos.lab.lab import Lab
from chaos.measure.traffic import reading_of
from machine.errors import DeadlineError, LabError

SECONDS: Final = 15.0
"""For one look into a node's journal, connecting included."""

LINES: Final = 3000
"""Lines from etcd's last start on in which one of level info must stand: a start alone writes some forty."""

PAGE_SECONDS: Final = 10.0

# Oldest first, so that a member that writes such lines is known by its first ones.
_SCRIPT: Final = f"""
seen=$(journalctl -b -u etcd.service --no-pager -q -o cat 2>/dev/null | head -n {LINES} |
  grep -m 1 -c -e '"level":"info"' -e '	info	' -e ' I | ')
all=$(journalctl -b -u etcd.service --no-pager -q -o cat 2>/dev/null | head -n 1 | wc -l)
kept=no; [ -d "/var/log/journal/$(cat /etc/machine-id)" ] && kept=yes
echo "info=$seen any=$all kept=$kept"
"""


def missing_sources(lab: Lab) -> list[Missing]:
    """What is missing before anything is broken.

    A node that does not answer is named too, as not `known`: the next look may find it all.
    """
    known = in_settings(lab.manifest)
    quiet = any(one.source == "log" for one in known)
    nodes = lab.manifest.node_names
    with ThreadPoolExecutor(2 * len(nodes)) as pool:
        journals = [pool.submit(_journal, lab, node) for node in nodes]
        pages = [pool.submit(_page, lab, node) for node in nodes]
        asked = [one for job in (*journals, *pages) for one in job.result()]
    consoles = {node: lab.paths.consoles / f"{node}.log" for node in nodes}
    asked += [Missing("console", node, f"there is no {path}") for node, path in consoles.items() if not path.exists()]
    return merged([*known, *(one for one in asked if not (quiet and one.source == "log"))], nodes)


def of_journal(node: str, text: str) -> list[Missing]:
    """What the script's answer says is missing.

    >>> [one.why for one in of_journal("etcd1", "info=0 any=1 kept=yes")]
    ['the journal of this boot holds lines of etcd, but none of level info']
    """
    said = dict(word.partition("=")[::2] for word in text.split())
    found = []
    if said.get("any", "0") == "0":
        found.append(Missing("log", node, "the journal of this boot holds no line of etcd.service"))
    elif said.get("info", "0") == "0":
        found.append(Missing("log", node, "the journal of this boot holds lines of etcd, but none of level info"))
    if said.get("kept") != "yes":
        why = "the journal is kept in memory (journald.conf, Storage), so a reboot or a power-off takes it away"
        found.append(Missing("earlier-boots", node, why))
    return found


def merged(found: Iterable[Missing], nodes: tuple[str, ...]) -> list[Missing]:
    """What is missing on every node for the same reason, once."""
    by_reason: dict[Missing, list[str]] = {}
    for one in found:
        by_reason.setdefault(replace(one, node=ALL), []).append(one.node)
    told = []
    for one, where in by_reason.items():
        everywhere = ALL in where or set(where) >= set(nodes)
        told += [replace(one, node=node) for node in ([ALL] if everywhere else dict.fromkeys(where))]
    return told


def _journal(lab: Lab, node: str) -> list[Missing]:
    try:
        text = lab.inside.run(lab.shell(node), _SCRIPT, SECONDS, check=False).stdout
    except DeadlineError:  # its words are the script
        return [Missing("log", node, f"its journal was not read before the run, within {SECONDS:g} s", known=False)]
    except LabError as error:
        return [Missing("log", node, f"its journal was not read before the run: {error.what}", known=False)]
    return of_journal(node, text)


def _page(lab: Lab, node: str) -> list[Missing]:
    try:
        reading_of(node, lab.cluster.metrics(node, PAGE_SECONDS), time.monotonic_ns())
    except ValueError as error:
        return [Missing("metrics", node, f"its page cannot be read: {error}")]
    except LabError as error:
        return [Missing("metrics", node, f"its page was not read before the run: {error.what}", known=False)]
    return []
