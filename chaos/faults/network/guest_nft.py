"""Cuts inside the guests: the rules of `network.nft` in each guest's own kernel, where the bridge is not ours.

Each guest drops what comes in to it. A guest that reboots has lost its rules, and observing says so.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from chaos.faults import records
from chaos.faults.guest import Power, armed, renewed, undo_on
from chaos.faults.network.flows import HOST, Flow, Pair
from chaos.faults.network.nft import (
    TABLE,
    Bridge,
    CutState,
    Rules,
    addresses_of,
    parse_table,
    render_cut,
    render_renewal,
    render_undo,
)
from chaos.lab.lab import Lab
from chaos.lab.scripts import CALL_SECONDS, DIRECTORY, each, tried
from machine.errors import LabError


@dataclass(frozen=True, slots=True)
class Guests:
    """All guests of a lab, for the cut of one fault."""

    lab: Lab
    fault_id: str

    def cut(self, name: str, flows: Iterable[Flow], lease: int) -> None:
        """Arm the timers in all guests, then make the rules in all at once, so that they lie close together.

        An nft waits for them in each, as it takes an emulated guest up to a second to start one.
        """
        by_node = share(flows)
        directory = f"{DIRECTORY}/{self.fault_id}"
        each(
            self.lab,
            by_node,
            lambda node: f"{waiting(directory)}\n{armed(self.fault_id, ':', self._undo(name, by_node[node]), lease)}",
        )
        each(
            self.lab,
            by_node,
            lambda node: handed_over(directory, render_cut(self._rules, name, by_node[node], lease)),
        )

    def renew(self, name: str, flows: Iterable[Flow], lease: int) -> None:
        """Start timers and leases anew; raises ToolError when a cut is gone."""
        by_node = share(flows)
        each(
            self.lab,
            by_node,
            lambda node: (
                f"set -e\n{_nft(render_renewal(self._rules, name, by_node[node], lease))}\n{renewed(self.fault_id)}"
            ),
        )

    def mend(self, name: str, flows: Iterable[Flow]) -> None:
        """Remove a cut from all guests that run; safe when there is none.

        Raises LabError where one is paused, and where the rules could not be removed.
        """
        by_node = share(flows)
        power = Power.of(self.lab, by_node)
        undo_on(self.lab, self.fault_id, power.running, lambda node: self._undo(name, by_node[node]))
        power.require(f"the cut {name}", power=False)  # without power there are no rules

    @property
    def _rules(self) -> Rules:
        return Rules("inet", TABLE, addresses_of(self.lab.manifest))

    def _undo(self, name: str, flows: Iterable[Flow]) -> str:
        """Script that removes the cut, and the table with the last one."""
        # another cut may be removed at the same time, and take the table with it
        gone = _nft(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")
        return tried(
            _nft(render_undo(self._rules, name, flows)),
            f"if left=$(nft list table inet {TABLE} 2>/dev/null); then case $left in *chain*) ;; *) {gone} ;; esac; fi",
        )

    def skew(self, nodes: Iterable[str]) -> float | None:
        """Seconds from the first guest's rules to the last one's; None when a guest does not tell.

        Each guest noted its uptime when its rules were made; its uptime now, asked from here, gives this host's time.
        """
        read = each(self.lab, nodes, f"cat {DIRECTORY}/{self.fault_id}/at", check=False)
        clocks = self.lab.inside.clocks(self.lab.shell(node) for node in read)
        made = []
        for node, done in read.items():
            clock = clocks[node]
            if not done.ok or isinstance(clock, LabError):
                return None
            made.append(clock.at_ns / 1e9 - (clock.uptime - float(done.stdout)))
        return max(made) - min(made)


WAITING_SECONDS = 60
"""How long an nft waits for its rules; so long, should nobody come, something of ours stays in a guest."""


def waiting(directory: str) -> str:
    """Script that starts an nft which waits for its rules: `cat` opens the FIFO when somebody writes to it."""
    go, done = f"{directory}/go", f"{directory}/done"
    nft = f"cat {go} | nft -f - 2>{directory}/wrong; echo $? >{done}"
    return (
        f"mkdir -p {directory}; rm -f {go} {done}; mkfifo {go} {done}\n"
        f"timeout {WAITING_SECONDS} sh -c {shlex.quote(nft)} >/dev/null 2>&1 </dev/null &"
    )


def handed_over(directory: str, rules: str) -> str:
    """Script for bash that gives the waiting nft its rules, or starts one, where none waits; notes when they hold."""
    go, done = f"{directory}/go", f"{directory}/done"
    return (
        "status=\n"
        f"if [ -p {go} ]; then\n"
        f"printf %s {shlex.quote(rules)} >{go} & writer=$!\n"
        f"read -r -t {CALL_SECONDS / 2:g} status <>{done}\n"
        "read -r up _ </proc/uptime\n"
        f"kill $writer 2>/dev/null; rm -f {go} {done}\n"
        "fi\n"
        f'[ "$status" = 0 ] || {{ {_nft(rules)} || exit; read -r up _ </proc/uptime; }}\n'
        f"echo $up >{directory}/at"
    )


LISTING = (
    f"{{ why=$(nft -j list table inet {TABLE} 2>&1 >&3); }} 3>&1 || case $why in\n"
    """*'No such file or directory'*) echo '{"nftables": []}' ;; *) echo "$why" >&2; false ;; esac"""
)
"""Script that gives our table as JSON. What nft complains of is looked at: no answer is not an empty table."""


def guest_cuts(lab: Lab, nodes: Iterable[str]) -> tuple[dict[str, CutState], list[str]]:
    """Every cut in these guests, by name, taken together, and the guests that could not be asked."""
    addresses = addresses_of(lab.manifest)

    def one(node: str) -> dict[str, CutState] | None:
        try:
            said = lab.inside.run(lab.shell(node), LISTING, CALL_SECONDS).stdout
        except LabError:
            return None
        return parse_table(json.loads(said), addresses)

    names = list(nodes)
    found: dict[str, CutState] = {}
    with ThreadPoolExecutor(max(1, len(names))) as pool:
        seen = dict(zip(names, pool.map(one, names), strict=True))
    for cuts in seen.values():
        for name, state in (cuts or {}).items():
            known = found.get(name, CutState(frozenset[Pair](), {}))
            found[name] = CutState(known.pairs | state.pairs, {**known.dropped, **state.dropped})
    return found, [node for node, cuts in seen.items() if cuts is None]


def any_inside(lab: Lab) -> bool:
    """Whether a cut may lie inside the guests: a record says that it was made there, or the bridge is not ours."""
    asked_for = any(record.params.get("where") == "guest" for record in records.load_all(lab.paths)[0])
    return asked_for or not Bridge.of(lab.manifest).ours()


def dropped(lab: Lab, nodes: Iterable[str]) -> list[Flow]:
    """What all cuts drop now, at the bridge and in these guests: not for another fault's proof to expect there."""
    cuts = list(Bridge.of(lab.manifest).cuts().values())
    if any_inside(lab):
        cuts += guest_cuts(lab, nodes)[0].values()
    return [flow for cut in cuts for flow in cut.flows]


def share(flows: Iterable[Flow]) -> dict[str, list[Flow]]:
    """Each guest's part: what comes in to it, and what it sends to this host."""
    by_node: dict[str, list[Flow]] = {}
    for flow in flows:
        by_node.setdefault(flow.source if flow.target == HOST else flow.target, []).append(flow)
    return by_node


def _nft(text: str) -> str:
    return f"printf %s {shlex.quote(text)} | nft -f -"
