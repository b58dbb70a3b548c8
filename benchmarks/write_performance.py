"""docs/performance.md and its plots, from benchmarks/results/*.json.

Command: python benchmarks/write_performance.py [--results benchmarks/results] [--out docs/performance.md]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from common.page import page
from common.plot import draw
from common.results import RESULTS

WORKLOADS = (
    "fashion_epoch",
    "cifar_resnet18",
    "photo_loading",
    "photos",
    "resnet50_inference",
    "speedrun",
    "minutes",
    "plan_choice",
    "busy",
    "augmentation",
    "allocator",
    "step_overhead",
    "store_scaling",
    "scaling",
    "processes",
)
"""In the order of the page; others follow by name."""
DOCS = Path(__file__).parent.parent / "docs"


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The results in the order of the page; files of another form (other pages show them) are passed over."""
    found = {}
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "claims" in content:
            found[content["workload"]] = content
    order = [*(name for name in WORKLOADS if name in found), *(name for name in found if name not in WORKLOADS)]
    return [found[name] for name in order]


def write_performance(results: Path, out: Path) -> None:
    """Write the page `out`, and a picture a workload into plots/ beside it."""
    found = read_results(results)
    drawn = {result["workload"]: draw(result, out.parent / "plots") for result in found}
    plots = {name: f"plots/{file.name}" for name, file in drawn.items() if file is not None}
    out.write_text(page(found, WORKLOADS, plots), encoding="utf-8")


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=DOCS / "performance.md")
    asked = parser.parse_args()
    write_performance(asked.results, asked.out)
    print(f"wrote {asked.out}")


if __name__ == "__main__":
    main()
