"""The experiments on labs of several kinds, one after the other: terms by version and pre-vote, restarts by peers.

    .venv/bin/python -m bench.variants [--only NAME]… [--json FILE] [--keep]

Each variant is a stack of its own beside the user's (some 80 s to build under emulation), configured, built, played
and destroyed; printed is what each scenario found. etcd 3.4 comes from a release or, with --etcd34, from a directory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from machine.log import say
from machine.paths import CHECKOUT, reports_dir, stack_paths

STACK = "variant"
SUBNET = "192.168.94.0/24"
TERMS = "O3 or O4"
NAMES = "O5 or O6 or O7"
OLD = "3.4.23"
"""A release of 3.4, where pre-vote is off by default."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A kind of lab, and the scenarios to play on it."""

    name: str
    config: Mapping[str, object]
    scenarios: str


VARIANTS = (
    Variant("3.4", {"etcd-version": OLD}, TERMS),
    Variant("3.4-pre-vote", {"etcd-version": OLD, "etcd-extra": {"pre-vote": True}}, TERMS),
    Variant("3.6", {}, TERMS),
    Variant("3.6-no-pre-vote", {"etcd-extra": {"pre-vote": False}}, TERMS),
    Variant("address", {"peers": "address"}, NAMES),
    Variant("hosts", {"peers": "hosts"}, NAMES),
    Variant("dns", {"peers": "dns"}, NAMES),
)


def configure(path: Path, config: Mapping[str, object]) -> None:
    """Write a stack's settings, beside whatever else stands in its file."""
    document = yaml.safe_load(path.read_text()) if path.exists() else {}
    values = {"subnet": SUBNET, **config}
    document["config"] = {f"etcd-lab:{key}": value for key, value in values.items()}
    path.write_text(yaml.safe_dump(document))


def lab(*words: str) -> int:
    """Run ./lab; its exit status."""
    say(f"./lab {' '.join(words)}")
    return subprocess.run([str(CHECKOUT / "lab"), *words], cwd=CHECKOUT, check=False).returncode


def play(variant: Variant, etcd34: Path | None, *, keep: bool) -> dict[str, Any]:
    """Build, play, destroy; what was found, by scenario."""
    config = dict(variant.config)
    if etcd34 is not None and config.get("etcd-version") == OLD:
        config["etcd-version"] = str(etcd34)
    configure(CHECKOUT / f"Pulumi.{STACK}.yaml", config)
    status = lab("verify", "--stack", STACK, "--scenarios", variant.scenarios)
    report = json.loads((reports_dir(CHECKOUT) / "latest" / "report.json").read_text())
    found = {
        one["id"]: {"verdict": one["verdict"], **{name: one["metrics"].get(name) for name in ("finding", "judgements")}}
        for one in report["scenarios"]
        if one["metrics"].get("finding")
    }
    if not keep:
        lab("destroy", "--stack", STACK)
    return {"variant": variant.name, "status": status, "found": found}


def main() -> None:
    """Play those asked for and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[one.name for one in VARIANTS], default=[])
    parser.add_argument("--etcd34", type=Path, help="directory of etcd 3.4's programs")
    parser.add_argument("--keep", action="store_true", help="leave the last lab standing")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if stack_paths(STACK).manifest.exists():
        sys.exit(f"A lab {STACK!r} stands already: ./lab destroy --stack {STACK} first.")
    chosen = [one for one in VARIANTS if not args.only or one.name in args.only]
    results = [play(one, args.etcd34, keep=args.keep and one is chosen[-1]) for one in chosen]
    for result in results:
        for ident, found in result["found"].items():
            print(f"{result['variant']:16} {ident} {found['verdict']:12} {found['finding']}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
