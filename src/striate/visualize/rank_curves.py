"""ROC and precision–recall curves of each class against the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from striate.visualize.canvas import (
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    SMALL,
    VERMILION,
    legend,
    name_axes,
    quiet_frame,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = (VERMILION, BLUE, GREEN, ORANGE)
_DASHES = ("-", "--", "-.", ":")
Rows = Sequence[Mapping[str, Any]]


def draw_roc(axes: Axes, curves: Rows, classes: Rows = ()) -> None:
    """True against false positive rate; the dashed line is random guessing.

    `curves` and `classes` as in evaluation.json. The four classes with the smallest area, which `classes` tells, are
    named; the others are gray.
    """
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1.2)
    _draw(axes, curves, _areas(classes, "auc"), "false_positive_rate", "true_positive_rate")
    name_axes(axes, "false positive rate", "true positive rate (recall)")
    legend(axes, loc="lower right", title="area", title_fontsize=SMALL)


def draw_precision_recall(axes: Axes, curves: Rows, classes: Rows = ()) -> None:
    """Precision against recall; the four classes with the lowest average precision are named, the others gray."""
    _draw(axes, curves, _areas(classes, "average_precision"), "recall", "precision")
    name_axes(axes, "recall", "precision")
    legend(axes, loc="lower left", title="average precision", title_fontsize=SMALL)


def _areas(classes: Rows, figure: str) -> dict[str, float]:
    return {row["name"]: row[figure]["value"] for row in classes if row.get(figure) is not None}


def _draw(axes: Axes, curves: Rows, areas: Mapping[str, float], x: str, y: str) -> None:
    weakest = sorted(curves, key=lambda curve: areas.get(curve["name"], 0.0))[: len(_COLORS)]
    named = {id(curve) for curve in weakest}
    rest = [curve for curve in curves if id(curve) not in named]
    for curve in rest:
        label = f"{len(rest)} more" if curve is rest[-1] else None
        axes.plot(curve[x], curve[y], color=FAINT, linewidth=0.8, alpha=0.6, label=label)
    for curve, color, dash in zip(weakest, _COLORS, _DASHES, strict=False):
        area = areas.get(curve["name"])
        label = shorten(curve["name"], 18) + ("" if area is None else f" {area:.3f}")
        axes.plot(curve[x], curve[y], color=color, linestyle=dash, linewidth=1.6, label=label, zorder=3)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    quiet_frame(axes)
