"""Lets the tests import bench.runs and bench.browser."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
