"""docs/performance.md, docs/measurements/ and their plots, from benchmarks/results/*.json.

What lies in a folder of benchmarks/results/elsewhere/ (`--out` of a workload) was measured on another machine,
which the folder is named after, and stands below.

Command: python benchmarks/write_performance.py [--results benchmarks/results] [--out docs/performance.md]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from common.page import page, tried_page, workload_page
from common.plot import draw
from common.results import RESULTS

WORKLOADS = (
    "whole_command",
    "fashion_epoch",
    "cifar_resnet18",
    "photo_loading",
    "media",
    "photos",
    "resnet50_inference",
    "speedrun",
    "minutes",
    "plan_choice",
    "plan_regret",
    "busy",
    "augmentation",
    "allocator",
    "step_overhead",
    "step_ways",
    "store_scaling",
    "scaling",
    "processes",
    "gpu",
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
    """Write the page `out`, and beside it, in measurements/, what was tried and a page a workload, with its picture in
    plots/."""
    found, folder = read_results(results), out.parent / "measurements"
    elsewhere = {place.name: read_results(place) for place in sorted(results.glob("elsewhere/*"))}
    folder.mkdir(exist_ok=True)
    for result in found:
        picture = draw(result, out.parent / "plots")
        plot = None if picture is None else f"../plots/{picture.name}"
        others = {place: one for place, of in elsewhere.items() for one in of if one["workload"] == result["workload"]}
        text = workload_page(result, plot, others)
        (folder / f"{result['workload']}.md").write_text(text, encoding="utf-8")
    (folder / "tried.md").write_text(tried_page(found), encoding="utf-8")
    out.write_text(page(found, WORKLOADS, elsewhere), encoding="utf-8")


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
