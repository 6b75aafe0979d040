"""Evidence of a scenario that did not pass: consoles, etcd's logs and the endpoint status, beside the report."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from chaos.lab.lab import Lab
from chaos.lab.probes import linked as linked_nodes
from machine.errors import LabError
from machine.process import tail

CONSOLE_LINES = 200
LOG_LINES = 400


def collect(lab: Lab, directory: Path) -> None:
    """Write what can be had into `directory`; what cannot is named in its place."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        up = linked_nodes(lab)
    except LabError:  # the hypervisor says nothing: then every node is tried
        up = list(lab.manifest.node_names)
    with ThreadPoolExecutor(len(lab.manifest.nodes)) as pool:
        list(pool.map(lambda node: _node(lab, node, directory, linked=node in up), lab.manifest.node_names))
    try:
        status = [asdict(one) for one in lab.cluster.status()]
        (directory / "status.json").write_text(json.dumps(status, indent=1, default=str) + "\n")
        (directory / "domains.json").write_text(json.dumps(lab.domain_states(), indent=1) + "\n")
    except LabError as error:
        (directory / "status.json").write_text(json.dumps({"error": str(error)}) + "\n")


def _node(lab: Lab, node: str, directory: Path, *, linked: bool) -> None:
    console = lab.paths.consoles / f"{node}.log"
    text = console.read_text(errors="replace") if console.exists() else f"no console log at {console}"
    (directory / f"{node}.console.log").write_text(tail(text, CONSOLE_LINES) + "\n")
    if not linked:
        (directory / f"{node}.etcd.log").write_text("not to be had: the node has no power or no link\n")
        return
    try:
        command = f"journalctl -u etcd.service -n {LOG_LINES} --no-pager -o short-monotonic"
        log = lab.shell(node).run(command, seconds=30, check=False).stdout
    except LabError as error:
        log = f"not to be had: {error}"
    (directory / f"{node}.etcd.log").write_text(log + "\n")
