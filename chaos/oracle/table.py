"""The rules as a Markdown table, for docs/oracle.md: `python -m chaos.oracle.table` prints it."""

from __future__ import annotations

from chaos.oracle.rules import RULES


def table() -> str:
    """One row per rule."""
    lines = [
        "| rule | what | allowed | versions | less than that | excused by a slow machine | source |",
        "|" + "---|" * 7,
    ]
    for rule in RULES.values():
        first, last = (".".join(map(str, version)) for version in rule.versions)
        excused = {"low": "too little", "high": "too much"}
        slow = ", ".join(excused[end] for end in rule.excused) or "never"
        unit = "" if rule.unit == "s" else f" ({rule.unit})"
        lines.append(
            f"| `{rule.name}` | {rule.title} | {rule.formula}{unit} | {first} to {last} | {rule.early} | {slow} | "
            f"{rule.source} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())  # noqa: T201 - what it is for
