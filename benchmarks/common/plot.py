"""A picture a workload: medians as bars, lowest to highest as lines; readable on light and dark pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

INK, OURS, PEER = "#808890", "#d9773c", "#7f9bb8"
WIDTH, BAR = 7.2, 0.24


def draw(result: dict[str, Any], folder: Path) -> Path | None:
    """Write folder/WORKLOAD.svg; None where no case has speeds."""
    cases = [c for c in result["cases"] if any("images_per_second" in row for row in c["rows"])]
    if not cases:
        return None
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    counts = [len(case["rows"]) for case in cases]
    settings = {"svg.hashsalt": result["workload"], "svg.fonttype": "none", "font.size": 8, "axes.edgecolor": INK}
    settings |= dict.fromkeys(("text.color", "xtick.color", "ytick.color", "axes.labelcolor"), INK)
    with mpl.rc_context(settings):
        height = BAR * sum(counts) + 0.62 * len(cases) + 0.1
        figure, axes = plt.subplots(
            len(cases), 1, figsize=(WIDTH, height), squeeze=False, height_ratios=counts, layout="constrained"
        )
        for axis, case in zip(axes[:, 0], cases, strict=True):
            _bars(axis, case)
        axes[-1, 0].set_xlabel("images/s: median, and lowest to highest")
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{result['workload']}.svg"
        figure.savefig(file, transparent=True, metadata={"Date": None})
        plt.close(figure)
    return file


def _bars(axis: Any, case: dict[str, Any]) -> None:
    rows = case["rows"][::-1]
    speeds = [row["images_per_second"] for row in rows]
    medians = [speed["median"] for speed in speeds]
    ranges = [[m - s["min"] for m, s in zip(medians, speeds, strict=True)]]
    ranges.append([s["max"] - m for m, s in zip(medians, speeds, strict=True)])
    colors = [OURS if row["ours"] else PEER for row in rows]
    axis.barh(range(len(rows)), medians, color=colors, height=0.7)
    axis.errorbar(medians, range(len(rows)), xerr=ranges, fmt="none", ecolor=INK, elinewidth=1.2, capsize=2)
    axis.set_yticks(range(len(rows)), [row["contender"] for row in rows])
    axis.set_title(case["name"], loc="left", fontsize=8, fontweight="bold")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.spines[["top", "right"]].set_visible(False)
