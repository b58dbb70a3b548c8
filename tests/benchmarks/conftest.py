"""The benchmarks are scripts beside the package: their folder is put where a script would find its own."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
