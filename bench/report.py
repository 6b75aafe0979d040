"""Cost of the page: time to make it, its size, and time to the first paint in a real browser.

    python bench/report.py [--scenarios 30] [--operations 100000] [--keep DIRECTORY]

The baseline, in the same run: a page of one scenario with 300 operations. Limits: made in 10 s, 8 MB, first paint
after 2 s. Needs chromium and chromium-driver (`./lab test browser` installs them).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.browser import browser  # noqa: E402
from bench.runs import make  # noqa: E402
from chaos.report.page import write_page  # noqa: E402
from chaos.report.runs import open_run  # noqa: E402

LIMITS = {"made_seconds": 10.0, "megabytes": 8.0, "first_paint_seconds": 2.0}

PAINT = "return performance.getEntriesByType('paint').filter(one => one.name === 'first-contentful-paint')[0].startTime"


def measure(directory: Path, scenarios: int, operations: int) -> dict[str, float]:
    """Figures of one page; the first paint is the slowest of three, each in a browser that starts cold."""
    make(directory, scenarios=scenarios, operations=operations, verdicts=("pass", "pass", "fail", "inconclusive"))
    began = time.monotonic()
    page = write_page(open_run(directory))
    made = time.monotonic() - began
    paints, ready = [], []
    for _ in range(3):
        with browser() as window:
            began = time.monotonic()
            window.open(page)
            drawn = window.ready()
            ready.append(time.monotonic() - began)
            if drawn != scenarios:
                raise SystemExit(f"{drawn} of {scenarios} time lines were drawn")
            paints.append(window.run(PAINT) / 1000)
    return {
        "scenarios": scenarios,
        "operations": operations,
        "made_seconds": round(made, 2),
        "megabytes": round(page.stat().st_size / 1e6, 2),
        "first_paint_seconds": round(max(paints), 2),
        "all_drawn_seconds": round(max(ready), 2),
    }


def main() -> int:
    """Measure, print as JSON lines, and fail when a limit is not kept."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--scenarios", type=int, default=30)
    arguments.add_argument("--operations", type=int, default=100_000)
    arguments.add_argument("--keep", type=Path)
    chosen = arguments.parse_args()
    with contextlib.ExitStack() as held:
        root = chosen.keep or Path(held.enter_context(tempfile.TemporaryDirectory()))
        print(json.dumps({"page": "baseline"} | measure(root / "small", 1, 300)))
        found = measure(root / "large", chosen.scenarios, chosen.operations)
        print(json.dumps({"page": "large"} | found))
    over = [name for name, limit in LIMITS.items() if found[name] > limit]
    print(f"over the limit: {', '.join(over)}" if over else "within all limits")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
